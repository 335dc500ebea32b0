"""The chunks of an artefact that is not whole yet, so that a fetch goes on where it was cut off.

One file has a slot for each chunk, another one says in one byte for each what its slot holds. The
byte is written after the chunk, so after kill -9 none says too much. After a power cut one may:
the disk writes in its own order. So whoever puts the artefact together proves each chunk again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from enum import IntEnum
from pathlib import Path

from shared.durable import disk_trouble, write_durably
from shared.errors import StorageError
from shared.releases.artefact import Artefact

HEADER_BYTES = 32
SYNC_EVERY = 16
"""Chunks between two fsyncs: what a power cut may cost. For each chunk it would be the slowest part
of a fetch, as it was when each had a file of its own."""


class Slot(IntEnum):
    """What a slot holds."""

    EMPTY = 0
    AS_IT_TRAVELS = 1
    UNPACKED = 2  # cut from an older artefact that is whole: equal digest, equal bytes


class Incoming:
    """The two files of one artefact.

    Args:
        folder: where they are.
        artefact: what is coming.
    """

    def __init__(self, folder: Path, artefact: Artefact) -> None:
        self.artefact = artefact
        self.path = folder / artefact.sha256
        self._map = folder / f"{artefact.sha256}.map"
        self._header = _identity(artefact)
        self._unsynced = 0
        self._made = False

    def slots(self) -> list[Slot]:
        """Returns what each slot holds; all are empty where the files are missing or of no use."""
        empty = [Slot.EMPTY] * len(self.artefact.chunks)
        try:
            whole = self._map.read_bytes()
            size = self.path.stat().st_size
        except OSError:
            return empty
        states = whole[HEADER_BYTES:]
        if (
            whole[:HEADER_BYTES] != self._header
            or size != self.artefact.size
            or len(states) != len(empty)
            or any(state > max(Slot) for state in states)
        ):
            return empty
        self._made = True
        return [Slot(state) for state in states]

    def put(self, index: int, data: bytes, slot: Slot) -> None:
        """Keeps a chunk.

        Args:
            index: which.
            data: not longer than its slot, and proved.
            slot: how it is.

        Raises:
            StorageError: the disk is full, read-only or broken. The slot is then empty.
        """
        if not self._made:
            self._make()
        try:
            _write_at(self.path, data, index * self.artefact.chunk_bytes)
            _write_at(self._map, bytes([slot]), HEADER_BYTES + index)
            self._unsynced += 1
            if self._unsynced >= SYNC_EVERY:
                self.sync()
        except OSError as error:
            self._made = False  # looked at again before the next chunk
            raise disk_trouble("write", self.path, error) from error

    def clear(self, index: int) -> None:
        """Forgets a chunk that the disk did not keep.

        Raises:
            StorageError: the disk does not take that either.
        """
        try:
            _write_at(self._map, bytes([Slot.EMPTY]), HEADER_BYTES + index)
        except OSError as error:
            raise disk_trouble("write", self._map, error) from error

    def sync(self) -> None:
        """Has the disk keep what was put; raises ``OSError``."""
        for path in (self.path, self._map):
            descriptor = os.open(path, os.O_RDWR)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._unsynced = 0

    def forget(self) -> None:
        """Deletes both files, or what is left of them."""
        self._made = False
        for path in (self._map, self.path):
            with contextlib.suppress(OSError):
                path.unlink()

    def _make(self) -> None:
        """Makes the files if they are not there, with all their room: a full disk is said first."""
        self.slots()
        if self._made:
            return
        self.forget()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("wb") as file:
                _reserve(file.fileno(), self.artefact.size)
        except OSError as error:
            self.forget()
            raise disk_trouble(f"take {self.artefact.size} bytes for", self.path, error) from error
        try:
            write_durably(self._map, self._header + bytes(len(self.artefact.chunks)))
        except StorageError:
            self.forget()
            raise
        self._made = True


def _write_at(path: Path, data: bytes, offset: int) -> None:
    """Writes into a file that exists: one that was deleted meanwhile is not made anew, empty."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)
    finally:
        os.close(descriptor)


def _reserve(descriptor: int, size: int) -> None:
    """Gives a file its size and, where the system can, the room for it."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
    os.truncate(descriptor, size)


def _identity(artefact: Artefact) -> bytes:
    """Returns what tells one way of cutting and packing an artefact from every other."""
    form = f"{artefact.encoding} {artefact.size} {artefact.chunk_bytes} {artefact.wire_bytes} "
    return hashlib.sha256((form + " ".join(artefact.chunks)).encode()).digest()
