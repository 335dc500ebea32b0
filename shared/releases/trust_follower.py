"""Follows the trust document over a broker, version by version."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shared.errors import ArtefactError, StorageError
from shared.metrics import NodeMetrics
from shared.mqtt.link import Link
from shared.releases.complaints import Complaints
from shared.releases.trust import Trust
from shared.releases.trust_store import TrustStore
from shared.topics import Topics

LOOK_AGAIN_S = 300.0


class TrustFollower:
    """Takes the next version of the trust document as soon as the broker has it.

    Every version is retained on a topic of its own, and only the next one is subscribed to: what
    was away for three versions walks through all three. Now and then it is asked for again: a full
    disk may have refused it.

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
        self._complaints = Complaints("trust")
        self._look_again_s = 0.0

    @property
    def current(self) -> Trust:
        """The version in force."""
        return self._store.current

    @property
    def envelopes(self) -> Mapping[int, bytes]:
        """The signed documents that are here, by version."""
        return self._store.envelopes

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
            # The broker delivers it again and again: at each connection, and when it is asked.
            self._complaints.say(f"version {version} refused: {error}")
            self._metrics.drops.labels(reason="trust_refused").inc()
            return True
        self._link.unsubscribe(self._topics.trust(version))
        self._ask()
        self._changed()
        return True

    def poll(self, now_s: float) -> None:
        """Now and then has the broker deliver the next version once more, if it has it."""
        if self._link.connected and now_s >= self._look_again_s:
            self._look_again_s = now_s + LOOK_AGAIN_S
            self._ask()

    def _ask(self) -> None:
        self._link.subscribe(self._topics.trust(self.current.version + 1), 0)
