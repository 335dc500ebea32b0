"""Artefacts on disk, named by their digest, put together from chunks that each prove themselves."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from shared.durable import disk_trouble, move_durably, write_durably
from shared.errors import DigestError, StorageError
from shared.releases.artefact import Artefact
from shared.releases.assembly import put_together
from shared.releases.incoming import Incoming, Slot
from shared.releases.packing import chunked, describe, pack_chunk

__all__ = ["BlobStore", "chunked", "describe"]

NAMED = re.compile(r"\.?([0-9a-f]{64})(?:\..*)?")
MAX_COMING = 16
LEFT_BY_A_WRITE = re.compile(r"\..*\.(\d+)\.tmp")

log = logging.getLogger(__name__)


class BlobStore:
    """A folder of whole artefacts, and beside it the chunks of those that are still incomplete.

    A chunk that is on disk proved itself when it came and is proved again when the artefact is put
    together; so an interrupted fetch resumes from what the folder holds. ``assemble`` takes as long
    as the disk takes for the whole, and may run in a thread.

    Args:
        folder: made where it is missing.
        keeps_packed: whether packed chunks stay for others to fetch, once the whole is there.
    """

    def __init__(self, folder: Path, *, keeps_packed: bool = False) -> None:
        self._folder = folder
        self._keeps_packed = keeps_packed
        self._incoming: dict[str, Incoming] = {}
        self._proved: dict[str, tuple[int, ...]] = {}

    def path(self, sha256: str) -> Path:
        """Returns where a whole artefact stands, or would stand."""
        return self._folder / "blobs" / sha256

    def has(self, artefact: Artefact) -> bool:
        """Whether the whole artefact is here and its bytes are the signed ones.

        A file that was proved is not read again until it changes.
        """
        path = self.path(artefact.sha256)
        try:
            stamp = _stamp(path)
            if self._proved.get(artefact.sha256) != stamp:
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != artefact.sha256:
                        return False
                self._proved[artefact.sha256] = stamp
        except OSError:
            return False
        return True

    def missing(self, artefact: Artefact) -> list[int]:
        """Returns the indices of the chunks that are not here yet."""
        slots = self._of(artefact).slots()
        return [index for index, slot in enumerate(slots) if slot is Slot.EMPTY]

    def add_chunk(self, artefact: Artefact, index: int, data: bytes) -> None:
        """Keeps a chunk as it travels.

        Raises:
            DigestError: it is not the chunk with this index.
            StorageError: it cannot be written.
        """
        _prove(artefact, index, data)
        self._of(artefact).put(index, data, Slot.AS_IT_TRAVELS)

    def copy_chunk(self, artefact: Artefact, index: int, older: Artefact, its: int) -> bool:
        """Takes a chunk from an older artefact instead of fetching it.

        Args:
            artefact: what is coming.
            index: of its chunk.
            older: one that is whole here.
            its: index of the chunk with the same digest in it.

        Returns:
            Whether the older artefact had it.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            if artefact.is_packed(index) and not self._keeps_packed:
                raw = self._raw(older, its)
                self._of(artefact).put(index, raw, Slot.UNPACKED)
                return True
            data = self.chunk(older, its)
        except StorageError as error:
            if not isinstance(error, _NotHereError):
                raise
            return False
        self.add_chunk(artefact, index, data)
        return True

    def chunk(self, artefact: Artefact, index: int) -> bytes:
        """Returns a chunk of a whole artefact as it travels.

        Raises:
            StorageError: it is damaged or gone.
        """
        if not artefact.is_packed(index):
            data = self._raw(artefact, index)
        else:
            packed, at = self._packed(artefact), index * artefact.chunk_bytes
            if packed.exists():
                data = _read_at(packed, at, artefact.wire_size(index))
            else:
                data = pack_chunk(self._raw(artefact, index))
        if hashlib.sha256(data).hexdigest() != artefact.chunks[index]:
            raise _NotHereError(
                f"chunk {index} of {artefact.sha256} is damaged or gone. Fix: delete "
                f"{self.path(artefact.sha256)}, so that it is fetched or published anew"
            )
        return data

    def add(self, data: bytes, artefact: Artefact | None = None) -> str:
        """Keeps a whole artefact that was made here; returns its SHA-256 in hex.

        Args:
            data: the whole.
            artefact: its description. With it the packed chunks are kept, too: another version of
                zstd would pack them into other bytes.

        Raises:
            DigestError: the description is of another artefact.
            StorageError: it cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        if artefact is not None and artefact.encoding != "identity":
            self._add_packed(artefact, data)
        write_durably(self.path(digest), data)
        return digest

    def assemble(self, artefact: Artefact) -> None:
        """Puts the chunks together: proves each of them, then the whole.

        No more than one chunk is in memory at a time.

        Raises:
            DigestError: the chunks are the signed ones, and the whole is not; they are gone then.
            StorageError: a chunk is missing or was changed by the disk, or the whole cannot be
                written. What was changed is missing from then on.
        """
        incoming = self._of(artefact)
        if not self.has(artefact):
            slots = incoming.slots()
            if Slot.EMPTY in slots:
                raise StorageError(
                    f"cannot read the chunks of {artefact.sha256}: "
                    f"{slots.count(Slot.EMPTY)} of {len(slots)} are not here. Fix: fetch them"
                )
            self._build(incoming, slots)
        keeps = self._keeps_packed and artefact.encoding != "identity"
        if keeps and incoming.path.exists():
            move_durably(incoming.path, self._packed(artefact))
        incoming.forget()
        self._incoming.pop(artefact.sha256, None)

    def discard(self, artefact: Artefact) -> None:
        """Deletes a whole artefact, if it is here, with its packed chunks."""
        for path in (self.path(artefact.sha256), self._packed(artefact)):
            _delete(path)

    def prune(self, keep: set[str]) -> None:
        """Deletes whole artefacts but those in ``keep``, and the chunks of every other."""
        self._incoming = {each: slot for each, slot in self._incoming.items() if each in keep}
        for kind in ("blobs", "incoming", "packed"):
            for path in (self._folder / kind).glob("*"):
                named, written = NAMED.fullmatch(path.name), LEFT_BY_A_WRITE.fullmatch(path.name)
                torn = written is not None and int(written[1]) != os.getpid()
                if named is None or named[1] not in keep or torn:
                    _delete(path)

    def _build(self, incoming: Incoming, slots: Sequence[Slot]) -> None:
        sha256 = incoming.artefact.sha256
        path = self.path(sha256)
        aside = path.with_name(f".{sha256}.{os.getpid()}.tmp")
        try:
            move_durably(put_together(incoming, slots, aside), path)
            self._proved[sha256] = _stamp(path)
        except OSError as error:
            raise disk_trouble("put together", path, error) from error
        finally:
            _delete(aside)

    def _add_packed(self, artefact: Artefact, data: bytes) -> None:
        path = self._packed(artefact)
        aside = path.with_name(f".{artefact.sha256}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                for index in range(len(artefact.chunks)):
                    at = index * artefact.chunk_bytes
                    travels = pack_chunk(data[at : at + artefact.chunk_bytes])
                    _prove(artefact, index, travels)
                    file.seek(at)
                    file.write(travels)
        except OSError as error:
            _delete(aside)
            raise disk_trouble("write", path, error) from error
        move_durably(aside, path)

    def _raw(self, artefact: Artefact, index: int) -> bytes:
        at = index * artefact.chunk_bytes
        return _read_at(self.path(artefact.sha256), at, artefact.raw_size(index))

    def _packed(self, artefact: Artefact) -> Path:
        return self._folder / "packed" / artefact.sha256

    def _of(self, artefact: Artefact) -> Incoming:
        incoming = self._incoming.get(artefact.sha256)
        if incoming is None or incoming.artefact != artefact:
            incoming = Incoming(self._folder / "incoming", artefact)
            if len(self._incoming) >= MAX_COMING:
                self._incoming.clear()  # they are read from the disk again
            self._incoming[artefact.sha256] = incoming
        return incoming


class _NotHereError(StorageError):
    """The store does not have what it was asked for; nothing is wrong with the disk."""


def _prove(artefact: Artefact, index: int, data: bytes) -> None:
    if not 0 <= index < len(artefact.chunks):
        raise DigestError(f"{artefact.sha256} has no chunk {index}")
    if len(data) > artefact.chunk_bytes:
        raise DigestError(f"chunk {index} of {artefact.sha256} is too large")
    if hashlib.sha256(data).hexdigest() != artefact.chunks[index]:
        raise DigestError(f"chunk {index} of {artefact.sha256} has other bytes than were signed")
    if len(data) != artefact.wire_size(index):
        raise DigestError(f"chunk {index} of {artefact.sha256} has another size than was signed")


def _read_at(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except FileNotFoundError as error:
        raise _NotHereError(f"{path.name} is damaged or gone. Fix: fetch it anew") from error
    except OSError as error:
        raise disk_trouble("read", path, error) from error


def _stamp(path: Path) -> tuple[int, ...]:
    """Returns what changes with a file's content; raises ``OSError``."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _delete(path: Path) -> None:
    """Deletes a file or folder; one that cannot be deleted only takes room."""
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot delete %s: %s", path, error)
