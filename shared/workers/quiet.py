"""A worker that does not speak for its node leaves the retained birth and info to worker 0."""

from __future__ import annotations

from collections.abc import Mapping

from shared.messages import ModelInfo
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.presence import Presence


class QuietPresence(Presence):
    """Takes part in nothing of what a node says of itself."""

    def watch(self, link: Link) -> None:
        """Watches nothing: worker 0 does."""

    def announce(self, link: Link, models: Mapping[str, ModelInfo], activity: str = "") -> None:
        """Publishes nothing."""

    def on_state(self, link: Link, message: Message, now_s: float) -> bool:
        """Takes nothing."""
        return False

    def farewell(self, link: Link) -> None:
        """Publishes nothing: the node goes on without this worker."""
