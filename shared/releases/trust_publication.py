"""Publishes the trust document, every version of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from shared.errors import PayloadError
from shared.mqtt.link import Link
from shared.topics import Topics

log = logging.getLogger(__name__)


class TrustPublication:
    """Publishes versions, retained; what the link does not take now goes out later.

    Args:
        link: the broker.
        topics: of the site that they are published for.
    """

    def __init__(self, link: Link, topics: Topics) -> None:
        self._link = link
        self._topics = topics
        self._unsent: dict[int, bytes] = {}

    def begin(self, envelopes: Mapping[int, bytes]) -> None:
        """Has versions go out: new ones, or all, as a broker may have forgotten them.

        Args:
            envelopes: the signed documents, by version.
        """
        self._unsent = dict(envelopes)
        self.poll()

    def poll(self) -> None:
        """Sends what the link takes."""
        for version, envelope in list(self._unsent.items()):
            if not self._is_done(version, envelope):
                return
            del self._unsent[version]

    def _is_done(self, version: int, envelope: bytes) -> bool:
        """Sends a version; returns whether nothing more can be done for it on this connection."""
        try:
            return self._link.publish(self._topics.trust(version), envelope, retain=True)
        except PayloadError as error:
            # Nobody below gets past it until the broker takes larger messages.
            log.error("trust version %d cannot be published: %s", version, error)
            return True
