"""Artefacts on disk, named by their digest, put together from chunks that each prove themselves."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

from shared.durable import write_durably
from shared.errors import DigestError, StorageError
from shared.releases.artefact import Artefact

log = logging.getLogger(__name__)


class BlobStore:
    """A folder of whole artefacts, and beside it the chunks of those that are still incomplete.

    A chunk that is on disk proved itself when it came and is checked again when the artefact is put
    together; so an interrupted fetch resumes from what the folder holds.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Returns where a whole artefact stands, or would stand."""
        return self._folder / "blobs" / sha256

    def has(self, artefact: Artefact) -> bool:
        """Whether the whole artefact is here and its bytes are the signed ones."""
        try:
            data = self.path(artefact.sha256).read_bytes()
        except OSError:
            return False
        return hashlib.sha256(data).hexdigest() == artefact.sha256

    def missing(self, artefact: Artefact) -> list[int]:
        """Returns the indices of the chunks that are not here yet."""
        here = {path.name for path in self._chunk_folder(artefact).glob("[0-9]*")}
        return [index for index in range(len(artefact.chunks)) if str(index) not in here]

    def add_chunk(self, artefact: Artefact, index: int, data: bytes) -> None:
        """Keeps a chunk.

        Raises:
            DigestError: it is not the chunk with this index.
            StorageError: it cannot be written.
        """
        if not 0 <= index < len(artefact.chunks):
            raise DigestError(f"{artefact.sha256} has no chunk {index}")
        if len(data) > artefact.chunk_bytes:
            raise DigestError(f"chunk {index} of {artefact.sha256} is too large")
        if hashlib.sha256(data).hexdigest() != artefact.chunks[index]:
            raise DigestError(
                f"chunk {index} of {artefact.sha256} has other bytes than were signed"
            )
        write_durably(self._chunk_folder(artefact) / str(index), data)

    def add(self, data: bytes) -> str:
        """Keeps a whole artefact that was made here; returns its SHA-256 in hex.

        Raises:
            StorageError: it cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        write_durably(self.path(digest), data)
        return digest

    def assemble(self, artefact: Artefact) -> None:
        """Puts the chunks together and checks length and digest of the whole.

        Raises:
            DigestError: the disk gave back other bytes than it took; the chunks are gone then.
            StorageError: a chunk is missing, or the whole cannot be written.
        """
        if self.has(artefact):
            return
        folder = self._chunk_folder(artefact)
        try:
            parts = [(folder / str(index)).read_bytes() for index in range(len(artefact.chunks))]
        except OSError as error:
            raise StorageError(f"cannot read the chunks of {artefact.sha256}: {error}") from error
        data = b"".join(parts)
        shutil.rmtree(folder, ignore_errors=True)
        if len(data) != artefact.size or hashlib.sha256(data).hexdigest() != artefact.sha256:
            raise DigestError(f"{artefact.sha256}: the whole is not what was signed")
        self.add(data)

    def prune(self, keep: set[str]) -> None:
        """Deletes whole artefacts but those in ``keep``, and the chunks of every other."""
        for kind in ("blobs", "incoming"):
            for path in (self._folder / kind).glob("*"):
                if path.name not in keep:
                    _delete(path)

    def _chunk_folder(self, artefact: Artefact) -> Path:
        return self._folder / "incoming" / artefact.sha256


def _delete(path: Path) -> None:
    """Deletes a file or folder; one that cannot be deleted only takes room."""
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot delete %s: %s", path, error)


def chunked(data: bytes, chunk_bytes: int) -> list[bytes]:
    """Cuts an artefact into chunks.

    Args:
        data: the whole.
        chunk_bytes: size of each but the last.
    """
    return [data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes)]


def describe(data: bytes, chunk_bytes: int, precision: str) -> Artefact:
    """Returns what a manifest says of an artefact."""
    return Artefact(
        precision="int8" if precision == "int8" else "fp32",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        chunk_bytes=chunk_bytes,
        chunks=tuple(hashlib.sha256(part).hexdigest() for part in chunked(data, chunk_bytes)),
    )
