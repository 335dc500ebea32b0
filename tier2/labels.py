"""What people say that samples are, on its way from the site's broker to the disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from shared.errors import PayloadError
from shared.labels import check_class, read_label
from shared.messages import SampleError, SampleLabel, to_json
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.slot import Slot
from shared.topics import NAME, Topics
from tier2.telemetry import Uplink

log = logging.getLogger(__name__)


class Labels:
    """Takes labels, and acknowledges each once it is on the disk.

    They come on a link of their own, whose session outlives its connections: a person's label is
    dear, and must not be lost because this node was away. The other links have clean sessions.

    Args:
        link: the site's broker, for labels alone.
        site: the site's broker, where a wrong label is answered.
        topics: of the site.
        slots: where the models of the pipelines are, by pipeline.
        uplink: where labels go.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        link: Link,
        site: Link,
        topics: Topics,
        slots: Mapping[str, Slot],
        uplink: Uplink,
        metrics: NodeMetrics,
    ) -> None:
        self.link = link
        self._site = site
        self._topics = topics
        self._slots = slots
        self._uplink = uplink
        self._metrics = metrics
        self._pipelines = {topics.labels(name, ""): name for name in slots}
        self._unsaved: list[Message] = []

    def start(self) -> None:
        """Says what to subscribe to."""
        for name in self._slots:
            self.link.subscribe(self._topics.labels(name))

    def take(self, message: Message, now_s: float) -> None:
        """Takes what came on the link.

        Args:
            message: it; it is acknowledged now if it is wrong, else when it is on the disk.
            now_s: monotonic.
        """
        head, _, sensor = message.topic.rpartition("/")
        pipeline = self._pipelines.get(f"{head}/")
        if pipeline is None or not NAME.fullmatch(sensor):
            self._metrics.drops.labels(reason="bad_topic").inc()
            self.link.done(message)
            return
        try:
            label = self._read(message, pipeline, sensor)
        except PayloadError as error:
            self._refuse(message, pipeline, sensor, error)
        else:
            self._uplink.add_label(label, now_s)
            self._unsaved.append(message)

    def poll(self, now_s: float) -> None:
        """Puts what came on the disk, and acknowledges it.

        Args:
            now_s: monotonic.
        """
        if self._unsaved and self._uplink.commit(now_s):
            for message in self._unsaved:
                self.link.done(message)
            self._unsaved.clear()

    def _read(self, message: Message, pipeline: str, sensor: str) -> SampleLabel:
        label = read_label(message.payload, pipeline, sensor, time.time())
        model = self._slots[pipeline].model
        if model is not None:
            check_class(label.label, model.spec.labels)
        return label

    def _refuse(self, message: Message, pipeline: str, sensor: str, error: PayloadError) -> None:
        log.warning("%s: refused a label: %s", message.topic, error)
        self._metrics.drops.labels(reason=error.reason).inc()
        told = SampleError(
            id=None,
            device_id=sensor,
            timestamp=time.time(),
            error=str(error),
            expected=error.expected,
        )
        self._site.publish(self._topics.errors(pipeline, sensor), to_json(told), qos=0)
        self.link.done(message)
