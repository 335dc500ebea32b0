"""A cloud process that only stores telemetry, beside the one that leads."""

from __future__ import annotations

from collections.abc import Sequence

from cloud.ingestion import Ingestion
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.runtime import IDLE_WAIT_S


class IngestNode:
    """Stores telemetry. It trains nothing, directs nothing and has no keys.

    Args:
        link: the cloud's broker.
        ingestion: where telemetry goes.
        presence: birth and info.
    """

    def __init__(self, link: Link, ingestion: Ingestion, presence: Presence) -> None:
        self._link = link
        self._ingestion = ingestion
        self._presence = presence

    @property
    def links(self) -> Sequence[Link]:
        """The cloud's broker."""
        return (self._link,)

    def start(self) -> None:
        """Opens the store, says what to subscribe to.

        Raises:
            StorageError: the store cannot be opened.
        """
        self._presence.watch(self._link)
        self._ingestion.start()

    def on_connected(self, link: Link) -> None:
        """Publishes birth and info."""
        self._presence.announce(link, {}, "storing telemetry")

    def on_message(self, link: Link, message: Message, now_s: float) -> None:
        """Takes telemetry."""
        if not self._presence.on_state(link, message, now_s):
            self._ingestion.take(message)
        link.done(message)

    def turn(self, now_s: float) -> None:
        """Stores what came."""
        self._ingestion.turn(now_s)

    def next_wake_s(self, now_s: float) -> float:
        """Returns how long nothing is due."""
        due_s = self._ingestion.due_s()
        return IDLE_WAIT_S if due_s is None else due_s - now_s

    def farewell(self) -> None:
        """Says that the node leaves."""
        self._presence.farewell(self._link)

    def close(self) -> None:
        """Closes the store."""
        self._ingestion.close()
