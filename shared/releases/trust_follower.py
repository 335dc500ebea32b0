"""Follows the trust document over a broker, version by version, and hands it down."""

from __future__ import annotations

import logging
from collections.abc import Callable

from shared.errors import ArtefactError, StorageError
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.releases.trust import Trust
from shared.releases.trust_store import TrustStore
from shared.topics import Topics

log = logging.getLogger(__name__)


class TrustFollower:
    """Takes the next version of the trust document as soon as the broker has it.

    Every version is retained on a topic of its own, and only the next one is subscribed to: what
    was away for three versions walks through all three.

    Args:
        store: the versions on the disk.
        link: from where they come.
        topics: of the site that they come from.
        metrics: counts what is refused.
        changed: called once a new version is in force.
    """

    def __init__(
        self,
        store: TrustStore,
        link: Link,
        topics: Topics,
        metrics: NodeMetrics,
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._link = link
        self._topics = topics
        self._metrics = metrics
        self._changed = changed

    @property
    def current(self) -> Trust:
        """The version in force."""
        return self._store.current

    def start(self) -> None:
        """Reads the versions on the disk, and subscribes to the next one.

        Raises:
            ConfigError: the installed trust file cannot be used.
            StorageError: it cannot be read.
        """
        self._store.load()
        self._ask()

    def on_message(self, topic: str, payload: bytes) -> bool:
        """Takes a version, if it is one; returns whether the topic is that of a version."""
        version = self._topics.trust_version(topic)
        if version is None:
            return False
        if not payload or version != self.current.version + 1:
            return True
        try:
            self._store.add(payload)
        except (ArtefactError, StorageError) as error:
            log.error("trust version %d refused: %s", version, error)
            self._metrics.drops.labels(reason="trust_refused").inc()
            return True
        self._link.unsubscribe(self._topics.trust(version))
        self._ask()
        self._changed()
        return True

    def hand_down(self, link: Link, topics: Topics) -> bool:
        """Publishes every version, retained: a broker may have forgotten them.

        Args:
            link: the broker.
            topics: of the site below.

        Returns:
            Whether the link has taken all of them; else it is to be tried again.
        """
        return all(
            link.publish(topics.trust(version), envelope, retain=True)
            for version, envelope in sorted(self._store.envelopes.items())
        )

    def _ask(self) -> None:
        self._link.subscribe(self._topics.trust(self.current.version + 1), 0)
