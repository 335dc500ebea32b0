"""The cloud node: joins the store, the pipelines' courses and the publications to its broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from cloud.config import CloudConfig
from cloud.course import Course
from cloud.director import Director
from cloud.fleet_file import FleetFile
from cloud.fleet_view import FleetView
from cloud.gauges import RolloutGauges
from cloud.ingestion import Ingestion
from cloud.press import Press
from cloud.registry import Registry
from cloud.upkeep import Upkeep
from shared.errors import PayloadError, StorageError
from shared.metrics import CloudMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.releases.trust_store import TrustStore
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
        trust: whom the fleet trusts.
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
        trust: TrustStore,
    ) -> None:
        self._config = config
        self._link = link
        self._ingestion = ingestion
        self._upkeep = upkeep
        self._directors = directors
        self._courses = courses
        self._metrics = metrics
        self._presence = presence
        self._trust = trust
        self._topics = Topics(config.prefix, CLOUD_SITE)
        self._all_sites = Topics(config.prefix, "+")
        self._echo = config.topics.probe(config.node, "session")
        self._view = FleetView(config.prefix)
        self._fleet_file = FleetFile.of(config.state_dir)
        self._knows_fleet = False
        self._gauges = RolloutGauges(metrics)
        self._press = Press(registry.blobs, link, self._topics, metrics.drops)
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
        snapshot = self._fleet_file.read()
        self._view.seed(snapshot.nodes if snapshot else ())
        for channel, director in self._directors.items():
            director.start()
            self._press.put(channel, director.newest, time.monotonic())
        for course in self._courses.values():
            course.start(time.monotonic())
        self._press.start()
        self._presence.watch(self._link)
        # At QoS 0: of QoS 1, a broker keeps but a thousand, and a fleet says more at once.
        for topic_filter in self._all_sites.news():
            self._link.subscribe(topic_filter, 0)
        self._link.subscribe(self._echo, 0)

    def on_connected(self, link: Link) -> None:
        """Publishes birth and all releases again: a broker may have forgotten them."""
        self._announce()
        for version, envelope in self._trust.envelopes.items():
            link.publish(self._topics.trust(version), envelope, retain=True)
        self._press.on_connected(time.monotonic())
        # It comes back behind all that is retained of the fleet. Until then the view is of before.
        self._knows_fleet = False
        link.publish(self._echo, b"", qos=0)

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Takes news and telemetry."""
        if message.topic == self._echo:
            self._knows_fleet = True
        elif not (
            self._press.take(message, now_s)
            or self._presence.on_state(link, message, now_s)
            or self._on_news(message)
        ):
            self._ingestion.take(message)
        link.done(message)

    def turn(self, now_s: float) -> None:
        """Stores → watches → trains → rolls out → publishes."""
        self._ingestion.turn(now_s)
        for course in self._courses.values():
            course.poll(now_s)
        for channel, director in self._directors.items():
            self._direct(channel, director, now_s)
        self._press.poll(now_s)
        self._keep_fleet(now_s)
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
        sees = self._knows_fleet and self._link.connected
        fleet = self._view.fleet(channel) if sees else None
        director.turn(fleet, self._press.out(channel), time.time(), now_s)
        self._press.put(channel, director.newest, now_s)
        if director.record is not None:
            self._gauges.show(director.record)

    def _on_news(self, message: Message) -> bool:
        try:
            return self._view.take(message.topic, message.payload)
        except PayloadError as error:
            log.warning("%s: %s", message.topic, error)
            self._metrics.drops.labels(reason=error.reason).inc()
            return True

    def _keep_fleet(self, now_s: float) -> None:
        if not self._knows_fleet:
            return
        try:
            if self._fleet_file.keep(self._view, time.time(), now_s):
                self._gauges.show_fleet(self._view.nodes())
        except StorageError as error:
            log.error("the command line cannot be shown the fleet: %s", error)

    def _activity(self) -> str:
        said = [course.activity for course in self._courses.values()]
        said += [director.activity for director in self._directors.values()]
        return "; ".join(filter(None, said))

    def _announce(self) -> None:
        self._announced = self._activity()
        self._presence.announce(self._link, {}, self._announced)
