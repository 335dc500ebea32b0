"""Hands up what the nodes of a site say of themselves: state, info, and the course of updates."""

from __future__ import annotations

from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.topics import Topics

MAX_TOPICS = 4096
MAX_NEWS_BYTES = 64 * 2**10


class SiteNews:
    """Republishes retained news of the site's broker on the cloud's, topic by topic.

    Only the latest of each topic is kept and sent. All of it goes up again at each connection: the
    cloud's broker may have forgotten it. A topic that was emptied is emptied above, and forgotten.

    Args:
        site: the site's broker.
        cloud: the cloud's broker, another one.
        topics: of the site; they are the same above.
        metrics: counts what is not handed up.
    """

    def __init__(self, site: Link, cloud: Link, topics: Topics, metrics: NodeMetrics) -> None:
        self._site = site
        self._cloud = cloud
        self._topics = topics
        self._metrics = metrics
        self._latest: dict[str, bytes] = {}
        self._unsent: dict[str, None] = {}

    def start(self) -> None:
        """Subscribes."""
        for topic_filter in self._topics.news():
            self._site.subscribe(topic_filter, 0)

    def on_cloud_connected(self) -> None:
        """Has everything go up again."""
        self._unsent = dict.fromkeys(self._latest)

    def take(self, link: Link, message: Message) -> bool:
        """Takes a piece of news; returns whether it is one."""
        if link is not self._site or not self._topics.is_news(message.topic):
            return False
        topic, payload = message.topic, message.payload
        if len(payload) > MAX_NEWS_BYTES or (
            topic not in self._latest and len(self._latest) >= MAX_TOPICS
        ):
            self._metrics.drops.labels(reason="news").inc()
            return True
        if self._latest.get(topic) != payload:
            self._latest[topic] = payload
            self._unsent[topic] = None
        return True

    def poll(self) -> None:
        """Sends what the link takes."""
        while self._unsent and self._cloud.connected:
            topic = next(iter(self._unsent))
            if not self._cloud.publish(topic, self._latest[topic], retain=True):
                return
            del self._unsent[topic]
            if not self._latest[topic]:
                del self._latest[topic]
