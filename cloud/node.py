"""The cloud node: joins the store, the pipelines' courses and the publications to its broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from cloud.config import CloudConfig
from cloud.course import Course
from cloud.registry import Entry, Registry
from cloud.store import TelemetryStore
from shared.errors import PayloadError, StorageError
from shared.messages import SCHEMA_VERSION, Telemetry, TelemetryAck, pack, unpack
from shared.metrics import CloudMetrics
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.releases.blob_server import BlobServer
from shared.releases.publication import Publication
from shared.releases.trust_store import TrustStore
from shared.runtime import BUSY_WAIT_S, IDLE_WAIT_S
from shared.topics import CLOUD_SITE, Topics, site_of

log = logging.getLogger(__name__)


class CloudNode:
    """Takes telemetry, publishes releases.

    Args:
        config: the node.
        link: the cloud's broker.
        store: the telemetry.
        registry: the releases.
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
        store: TelemetryStore,
        registry: Registry,
        courses: Mapping[str, Course],
        metrics: CloudMetrics,
        presence: Presence,
        trust: TrustStore,
    ) -> None:
        self._config = config
        self._link = link
        self._store = store
        self._registry = registry
        self._courses = courses
        self._metrics = metrics
        self._presence = presence
        self._trust = trust
        self._topics = Topics(config.prefix, CLOUD_SITE)
        self._publications: dict[str, Publication] = {}
        self._server = BlobServer(link, self._topics, metrics.drops)
        self._announced = ""

    @property
    def links(self) -> Sequence[Link]:
        """The cloud's broker."""
        return (self._link,)

    def start(self) -> None:
        """Opens the store, stages standing releases, says what to subscribe to.

        Raises:
            EscalonError: store or registry cannot be used.
        """
        self._store.open()
        for course in self._courses.values():
            self._stage(course.start(time.monotonic()))
        self._server.start()
        self._presence.watch(self._link)
        self._link.subscribe(Topics(self._config.prefix, "+").telemetry())

    def on_connected(self, link: Link) -> None:
        """Publishes birth and all releases again: a broker may have forgotten them."""
        self._announce()
        for version, envelope in self._trust.envelopes.items():
            link.publish(self._topics.trust(version), envelope, retain=True)
        for channel in self._publications:
            self._publish(channel)

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Stores telemetry, and acknowledges what is stored."""
        chunk = self._topics.blob_chunk(message.topic)
        if chunk is not None:
            for publication in self._publications.values():
                publication.on_chunk(*chunk, message.payload, now_s)
        elif not (
            self._server.on_request(message.topic, message.payload)
            or self._presence.on_state(link, message, now_s)
        ):
            self._on_telemetry(message)
        link.done(message)

    def turn(self, now_s: float) -> None:
        """Watches → trains → publishes."""
        for course in self._courses.values():
            releases = course.poll(now_s)
            self._stage(releases)
            for release in releases:
                if self._link.connected:
                    self._publish(release.manifest.channel)
        for publication in self._publications.values():
            publication.poll(now_s)
        self._server.poll()
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
        self._store.close()

    def _publish(self, channel: str) -> None:
        try:
            self._publications[channel].begin(time.monotonic())
        except StorageError as error:
            log.error("%s cannot be published: %s", channel, error)

    def _activity(self) -> str:
        return "; ".join(course.activity for course in self._courses.values())

    def _announce(self) -> None:
        self._announced = self._activity()
        self._presence.announce(self._link, {}, self._announced)

    def _stage(self, releases: Sequence[Entry]) -> None:
        for release in releases:
            manifest = release.manifest
            for artefact in manifest.release.artefacts:
                self._server.offer(artefact, self._registry.blobs)
            before = self._publications.get(manifest.channel)
            if before is not None:
                before.end()
            self._publications[manifest.channel] = Publication(
                channel=manifest.channel,
                name=f"seq {manifest.seq} (version {manifest.release.version})",
                envelope=release.envelope,
                artefacts=manifest.release.artefacts,
                blobs=self._registry.blobs,
                link=self._link,
                topics=self._topics,
            )

    def _on_telemetry(self, message: Message) -> None:
        try:
            telemetry, site = unpack(message.payload, Telemetry), site_of(message.topic)
            if (
                site is None
                or Topics(self._config.prefix, site).telemetry(telemetry.sender) != message.topic
            ):
                raise PayloadError("bad_topic", f"telemetry of {telemetry.sender} is out of place")
            stored = self._store.add(telemetry, time.time())
        except PayloadError as error:
            log.warning("%s: %s", message.topic, error)
            self._metrics.drops.labels(reason=error.reason).inc()
            return
        except StorageError as error:
            # Not acknowledged, so tier-2 keeps it and sends it again.
            log.error("%s", error)
            self._metrics.drops.labels(reason="storage").inc()
            return
        self._metrics.drops.labels(reason="broken_record").inc(stored.broken)
        if stored.news:
            self._metrics.samples.inc(stored.samples)
            for counts in telemetry.counts:
                if counts.pipeline in self._courses:
                    self._courses[counts.pipeline].count(counts)
        self._acknowledge(site, telemetry)

    def _acknowledge(self, site: str, telemetry: Telemetry) -> None:
        ack = TelemetryAck(SCHEMA_VERSION, (telemetry.batch,))
        topic = Topics(self._config.prefix, site).telemetry_acks(telemetry.sender)
        self._link.publish(topic, pack(ack))
