"""The cloud node: joins the store, the pipelines' courses and the publications to its broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from cloud.config import CloudConfig
from cloud.course import Course
from cloud.credentials import Credentials
from cloud.director import Director
from cloud.echo import Echo
from cloud.fetchable import Fetchable
from cloud.fleet_file import FleetFile
from cloud.fleet_view import FleetView
from cloud.gauges import RolloutGauges, TrainingGauges
from cloud.ingestion import Ingestion
from cloud.notice import NoticeFile
from cloud.press import Press
from cloud.registry import Registry
from cloud.retained_file import RetainedFile
from cloud.signer import Signer
from cloud.upkeep import Upkeep
from shared.errors import PayloadError
from shared.metrics import CloudMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.mqtt.trouble_log import TroubleLog
from shared.presence import Presence
from shared.releases.trust_publication import TrustPublication
from shared.runtime import BUSY_WAIT_S, IDLE_WAIT_S
from shared.topics import CLOUD_SITE, Topics

log = logging.getLogger(__name__)


class CloudNode:
    """Takes telemetry and news of the fleet, directs rollouts, publishes their manifests.

    Args:
        config: the node.
        link: the cloud's broker.
        ingestion: stores the telemetry.
        upkeep: keeps the store in order.
        registry: versions, manifests, files.
        directors: of the rollouts, by channel.
        courses: by pipeline.
        metrics: what is counted.
        presence: birth and info.
        credentials: whom the fleet trusts, and the key that signs.
        signer: signs for all directors.
    """

    def __init__(
        self,
        *,
        config: CloudConfig,
        link: Link,
        ingestion: Ingestion,
        upkeep: Upkeep,
        registry: Registry,
        directors: Mapping[str, Director],
        courses: Mapping[str, Course],
        metrics: CloudMetrics,
        presence: Presence,
        credentials: Credentials,
        signer: Signer,
    ) -> None:
        self._config = config
        self._link = link
        self._ingestion = ingestion
        self._upkeep = upkeep
        self._directors = directors
        self._courses = courses
        self._metrics = metrics
        self._presence = presence
        self._credentials = credentials
        self._signer = signer
        self._topics = Topics(config.prefix, CLOUD_SITE)
        self._all_sites = Topics(config.prefix, "+")
        self._echo = Echo(link, config.topics.probe(config.node, "session"))
        self._view = FleetView(config.prefix)
        self._fleet_file = FleetFile.of(config.state_dir)
        self._notice = NoticeFile(config.state_dir)
        self._troubles = TroubleLog(log)
        self._gauges = RolloutGauges(metrics)
        self._training = TrainingGauges(metrics)
        retained = RetainedFile.of(config.state_dir)
        self._press = Press(registry.blobs, link, self._topics, metrics.drops, retained)
        self._trust_out = TrustPublication(link, self._topics)
        self._fetchable = {name: Fetchable(each.channel) for name, each in directors.items()}
        self._announced = ""

    @property
    def links(self) -> Sequence[Link]:
        """The cloud's broker."""
        return (self._link,)

    def start(self) -> None:
        """Opens the store, reads what stands, says what to subscribe to.

        Raises:
            EscalonError: store or registry cannot be used.
        """
        self._ingestion.start()
        self._fleet_file.seed(self._view)
        self._press.start()
        for channel, director in self._directors.items():
            director.start()
            self._bring_out(channel, director, time.monotonic())
        for course in self._courses.values():
            course.start(time.monotonic())
        self._presence.watch(self._link)
        # At QoS 0: of QoS 1, a broker keeps but a thousand, and a fleet says more at once.
        for topic_filter in self._all_sites.news():
            self._link.subscribe(topic_filter, 0)
        self._echo.start()

    def on_connected(self, link: Link) -> None:
        """Publishes birth and all releases again: a broker may have forgotten them."""
        self._announce()
        self._trust_out.begin(self._credentials.envelopes)
        self._press.on_connected(time.monotonic())
        self._view.hear_anew()
        self._echo.begin()

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Takes news and telemetry."""
        if not (
            self._echo.take(message)
            or self._press.take(message, now_s)
            or self._presence.on_state(link, message, now_s)
            or self._on_news(message)
        ):
            self._ingestion.take(message)
        link.done(message)

    def turn(self, now_s: float) -> None:
        """Stores → watches → trains → rolls out → publishes."""
        self._ingestion.turn(now_s)
        self._echo.poll(now_s)
        self._look_at_keys(now_s)
        for name, course in self._courses.items():
            course.poll(now_s)
            self._training.show(name, course.progress)
        for channel, director in self._directors.items():
            self._direct(channel, director, now_s)
        self._press.poll(now_s)
        self._keep_fleet(now_s)
        self._keep_notice(now_s)
        self._upkeep.poll(now_s)
        if self._activity() != self._announced:
            self._announce()

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        return BUSY_WAIT_S if any(course.busy for course in self._courses.values()) else IDLE_WAIT_S

    def farewell(self) -> None:
        """Says that the node leaves."""
        self._presence.farewell(self._link)

    def close(self) -> None:
        """Ends trainings, closes the store."""
        for course in self._courses.values():
            course.close()
        self._upkeep.close()
        self._ingestion.close()

    def _direct(self, channel: str, director: Director, now_s: float) -> None:
        if not director.due(now_s):
            return
        # What the cloud cannot see speaks against no node.
        sees = self._echo.back and self._link.connected
        fleet = self._view.fleet(channel) if sees else None
        director.turn(fleet, self._press.out(channel), time.time(), now_s)
        self._bring_out(channel, director, now_s)
        if director.record is not None:
            self._gauges.show(director.record)

    def _bring_out(self, channel: str, director: Director, now_s: float) -> None:
        """Has the press publish what is newest, and keep the files that nodes may still fetch."""
        releases = self._fetchable[channel].news(director.newest, director.record)
        if releases is not None:
            self._press.keep(channel, releases, now_s)
        self._press.put(channel, director.newest, now_s)

    def _look_at_keys(self, now_s: float) -> None:
        if self._credentials.look(now_s):
            self._signer.use(self._credentials.key, self._credentials.trust)
            self._trust_out.begin(self._credentials.envelopes)
        self._trust_out.poll()

    def _on_news(self, message: Message) -> bool:
        try:
            return self._view.take(message.topic, message.payload)
        except PayloadError as error:
            said = f"{message.topic}: {error}"
            self._troubles.say(logging.WARNING, said, time.monotonic(), key=error.reason)
            self._metrics.drops.labels(reason=error.reason).inc()
            return True

    def _keep_fleet(self, now_s: float) -> None:
        if not (self._echo.back and self._link.connected):
            return
        self._view.forget_unheard(now_s)
        if self._fleet_file.keep(self._view, time.time(), now_s):
            self._gauges.show_fleet(self._view.nodes())

    def _keep_notice(self, now_s: float) -> None:
        away = "" if self._link.connected else "it has no connection to its broker"
        node = "; ".join(filter(None, [away, self._credentials.trouble]))
        channels = {
            name: "; ".join(
                filter(
                    None,
                    [director.trouble, self._press.trouble(name), self._fetchable[name].trouble],
                )
            )
            for name, director in self._directors.items()
        }
        self._notice.keep(node, channels, time.time(), now_s)

    def _activity(self) -> str:
        said = [course.activity for course in self._courses.values()]
        said += [director.activity for director in self._directors.values()]
        said += [self._credentials.trouble, *(each.trouble for each in self._fetchable.values())]
        return "; ".join(filter(None, said))

    def _announce(self) -> None:
        self._announced = self._activity()
        self._presence.announce(self._link, {}, self._announced)
