"""Every release that was ever made, immutable, on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.durable import write_durably
from shared.errors import StorageError
from shared.releases.blobs import BlobStore
from shared.releases.manifest import Manifest, read_manifest


@dataclass(frozen=True)
class Entry:
    """A signed manifest in the registry."""

    envelope: bytes
    manifest: Manifest


class Registry:
    """A folder: ``{channel}/{seq}.release`` beside the artefacts that they name.

    A manifest is there as soon as its file is; the artefacts are written before it. Nothing is
    verified here: it was signed here, and every node verifies for itself.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.blobs = BlobStore(folder)

    def latest(self, channel: str) -> Entry | None:
        """Returns the newest release of a channel, or None.

        Raises:
            ArtefactError: it is damaged.
            StorageError: it cannot be read.
        """
        numbers = [int(path.stem) for path in (self._folder / channel).glob("*.release")]
        return self.get(channel, max(numbers)) if numbers else None

    def get(self, channel: str, seq: int) -> Entry | None:
        """Returns a release of a channel, or None; raises as ``latest`` does."""
        path = self._path(channel, seq)
        try:
            envelope = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        return Entry(envelope, read_manifest(envelope))

    def add(self, envelope: bytes, artefacts: Sequence[bytes] = ()) -> Entry:
        """Keeps a manifest; its artefacts first.

        Args:
            envelope: signed.
            artefacts: files of its release that are not in the registry yet.

        Raises:
            StorageError: it cannot be written, a file of the release is missing, or a manifest with
                this seq is there already.
        """
        manifest = read_manifest(envelope)
        path = self._path(manifest.channel, manifest.seq)
        if path.exists():
            raise StorageError(f"{manifest.channel} has a release {manifest.seq} already")
        described = {artefact.sha256: artefact for artefact in manifest.release.artefacts}
        for data in artefacts:
            self.blobs.add(data, described.get(hashlib.sha256(data).hexdigest()))
        for artefact in manifest.release.artefacts:
            if not self.blobs.has(artefact):
                raise StorageError(f"the registry has no file {artefact.sha256} of this release")
        write_durably(path, envelope)
        return Entry(envelope, manifest)

    def _path(self, channel: str, seq: int) -> Path:
        return self._folder / channel / f"{seq}.release"
