"""Takes chunks off a broker that nobody fetches any more."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection

from shared.mqtt.link import Link
from shared.releases.artefact import Artefact
from shared.topics import Topics

A_TURN = 16

log = logging.getLogger(__name__)


class Clearance:
    """Empties the retained topics of artefacts, a few in each turn.

    A broker keeps what is retained for ever, and its memory with it. What an earlier process has
    published is taken off as well, if its owner remembers it.

    Args:
        link: the broker.
        topics: of the site that they were published for.
    """

    def __init__(self, link: Link, topics: Topics) -> None:
        self._link = link
        self._topics = topics
        self._waiting: deque[tuple[str, int]] = deque()
        self._unacknowledged = 0

    @property
    def done(self) -> bool:
        """Whether the broker has answered for all that was to go."""
        return not self._waiting and not self._unacknowledged

    def add(self, artefact: Artefact) -> None:
        """Has an artefact's chunks taken off."""
        if artefact.delivery == "retained":
            self._waiting += ((artefact.sha256, index) for index in range(len(artefact.chunks)))
            log.info("%d retained chunks of %s go", len(artefact.chunks), artefact.sha256)

    def spare(self, digests: Collection[str]) -> None:
        """Leaves artefacts alone that are published again."""
        self._waiting = deque(each for each in self._waiting if each[0] not in digests)

    def poll(self) -> None:
        """Goes on, as far as the link takes it."""
        for _ in range(min(A_TURN, len(self._waiting))):
            topic = self._topics.blob(*self._waiting[0])
            if not self._link.publish(topic, b"", retain=True, on_ack=self._on_ack):
                return
            self._unacknowledged += 1
            self._waiting.popleft()

    def _on_ack(self) -> None:
        self._unacknowledged -= 1
