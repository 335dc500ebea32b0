"""Every release that was ever made, immutable, on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shared.durable import write_durably
from shared.errors import StorageError
from shared.releases.blobs import BlobStore
from shared.releases.manifest import Manifest
from shared.releases.signing import Trust, open_envelope


@dataclass(frozen=True)
class Release:
    """A release in the registry."""

    envelope: bytes
    manifest: Manifest


class Registry:
    """A folder: ``{channel}/{seq}.release`` beside the artefacts that they name.

    A release is there as soon as its file is; the artefact is written before it.

    Args:
        folder: made where it is missing.
        trust: the keys that the releases must be signed with.
    """

    def __init__(self, folder: Path, trust: Trust) -> None:
        self._folder = folder
        self._trust = trust
        self.blobs = BlobStore(folder)

    def latest(self, channel: str) -> Release | None:
        """Returns the newest release of a channel, or None.

        Raises:
            SignatureError: it is not signed by our key.
            StorageError: it cannot be read.
        """
        numbers = [int(path.stem) for path in (self._folder / channel).glob("*.release")]
        return self.get(channel, max(numbers)) if numbers else None

    def get(self, channel: str, seq: int) -> Release | None:
        """Returns a release of a channel, or None; raises as ``latest`` does."""
        path = self._path(channel, seq)
        try:
            envelope = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        return Release(envelope, open_envelope(envelope, self._trust))

    def add(self, envelope: bytes, artefact: bytes) -> Release:
        """Keeps a release; the artefact first.

        Raises:
            StorageError: it cannot be written, or a release with this seq is there already.
        """
        manifest = open_envelope(envelope, self._trust)
        path = self._path(manifest.channel, manifest.seq)
        if path.exists():
            raise StorageError(f"{manifest.channel} has a release {manifest.seq} already")
        if hashlib.sha256(artefact).hexdigest() != manifest.artefact.sha256:
            raise StorageError("the artefact is not the signed one")
        self.blobs.add(artefact)
        write_durably(path, envelope)
        return Release(envelope, manifest)

    def _path(self, channel: str, seq: int) -> Path:
        return self._folder / channel / f"{seq}.release"
