"""What a gateway has for its site: the files of its channels, answered for and retained."""

from __future__ import annotations

from collections.abc import Iterable

from shared.releases.artefact import Artefact
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore
from shared.releases.clearance import Clearance


class Shelf:
    """Holds files for channels; what no channel holds any more goes off the site's broker.

    Args:
        server: answers nodes that ask for chunks.
        clearance: takes retained chunks off the broker.
    """

    def __init__(self, server: BlobServer, clearance: Clearance) -> None:
        self._server = server
        self._clearance = clearance
        self._held: dict[str, dict[str, Artefact]] = {}

    def hold(self, channel: str, artefacts: Iterable[Artefact], blobs: BlobStore) -> None:
        """Makes these the files of a channel.

        Args:
            channel: the channel.
            artefacts: all that its nodes may still fetch.
            blobs: has them.
        """
        before = self._held.get(channel, {})
        self._held[channel] = now = {each.sha256: each for each in artefacts}
        self._clearance.spare(now)
        for sha256, artefact in now.items():
            if sha256 not in before:
                self._server.offer(artefact, blobs)
        for sha256, artefact in before.items():
            if not any(sha256 in held for held in self._held.values()):
                self._server.withdraw(sha256)
                self._clearance.add(artefact)

    def poll(self) -> None:
        """Goes on with what is under way."""
        self._server.poll()
        self._clearance.poll()
