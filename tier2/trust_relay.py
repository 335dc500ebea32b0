"""Hands the trust document down to the site, every version of it."""

from __future__ import annotations

from collections.abc import Mapping

from shared.mqtt.link import Link
from shared.topics import Topics


class TrustRelay:
    """Publishes versions, retained; what the link does not take now goes out later.

    Args:
        link: the site's broker.
        topics: of the site.
    """

    def __init__(self, link: Link, topics: Topics) -> None:
        self._link = link
        self._topics = topics
        self._unsent: dict[int, bytes] = {}

    def hand_down(self, envelopes: Mapping[int, bytes]) -> None:
        """Has versions go out: new ones, or all, as a broker may have forgotten them.

        Args:
            envelopes: the signed documents, by version.
        """
        self._unsent = dict(envelopes)
        self.poll()

    def poll(self) -> None:
        """Sends what the link takes."""
        while self._unsent:
            version = next(iter(self._unsent))
            topic = self._topics.trust(version)
            if not self._link.publish(topic, self._unsent[version], retain=True):
                return
            del self._unsent[version]
