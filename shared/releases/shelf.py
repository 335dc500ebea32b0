"""What one who publishes has for the nodes below: its channels' files, answered for, retained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from shared.releases.artefact import Artefact
from shared.releases.blob_server import BlobServer
from shared.releases.blobs import BlobStore
from shared.releases.clearance import Clearance


class Held(NamedTuple):
    """A file, and who has it.

    Attributes:
        artefact: the file.
        blobs: have it.
    """

    artefact: Artefact
    blobs: BlobStore


class Shelf:
    """Holds files for channels; what no channel holds any more goes off the broker.

    Args:
        server: answers nodes that ask for chunks.
        clearance: takes retained chunks off the broker.
    """

    def __init__(self, server: BlobServer, clearance: Clearance) -> None:
        self._server = server
        self._clearance = clearance
        self._held: dict[str, dict[str, Held]] = {}

    def hold(self, channel: str, artefacts: Iterable[Artefact], blobs: BlobStore) -> None:
        """Makes these the files of a channel.

        Args:
            channel: the channel.
            artefacts: all that its nodes may still fetch.
            blobs: has them.
        """
        before = self._held.get(channel, {})
        now = {each.sha256: Held(each, blobs) for each in artefacts}
        self._held[channel] = now
        self._clearance.spare(now)
        for sha256, held in (before | now).items():
            has_it = now.get(sha256) or self._find(sha256)
            if has_it is not None:
                self._server.offer(*has_it)
            else:
                self._server.withdraw(sha256)
                self._clearance.add(held.artefact)

    def held(self, channel: str) -> Mapping[str, Artefact]:
        """Returns the files of a channel, by digest."""
        return {sha256: each.artefact for sha256, each in self._held.get(channel, {}).items()}

    def holds(self, sha256: str) -> bool:
        """Whether a file is one of any channel's."""
        return self._find(sha256) is not None

    @property
    def cleared(self) -> bool:
        """Whether all that no channel holds any more is off the broker."""
        return self._clearance.done

    def _find(self, sha256: str) -> Held | None:
        """Returns a file as another channel has it."""
        return next((held[sha256] for held in self._held.values() if sha256 in held), None)

    def poll(self) -> None:
        """Goes on with what is under way."""
        self._server.poll()
        self._clearance.poll()
