"""What a node remembers of a channel across restarts: one file, replaced whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from shared.durable import clear_unfinished, write_durably
from shared.files import put_aside, read_if_there
from shared.messages import UNREADABLE, UpdateReport
from shared.releases.machine import State
from shared.releases.manifest import Manifest


class Accepted(msgspec.Struct, frozen=True):
    """A manifest that this node has accepted.

    Attributes:
        envelope: the signed manifest.
        sha256: of the file of its release that serves here; empty while none is chosen.
    """

    envelope: bytes
    sha256: str = ""


class Quarantine(msgspec.Struct, frozen=True):
    """A file that failed here after the swap.

    Attributes:
        sha256: of the file.
        retry_epoch: of the manifest that brought it; a greater one lifts the quarantine.
    """

    sha256: str
    retry_epoch: int


class ChannelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's memory.

    Attributes:
        key_epoch: of the newest accepted manifest.
        seq: of that manifest; no older one is accepted again.
        issued: the latest of all accepted manifests: a clock that says less is wrong.
        expires: of the newest accepted manifest: past it, something may withhold newer ones.
        active: the release that serves.
        previous: the one before.
        gone: of a gateway: the one before that. Chunks of it may be left at the site's broker.
        pending: an update under way.
        state: where that update is, or how the last one ended.
        quarantined: what failed here after the swap.
        retry: the last update ended for a reason that lay not in the release (no chunks in time,
            the disk), so the same seq may be taken again.
        report: the last one published.
        proven: whether the active release has answered enough samples to be believed. Until then
            its ``deaths`` speak against it.
        deaths: how often in a row the node has died with an active release that is not proven.
        stopped: whether the node was stopped on purpose with it, and has not started since.
        stops: how often it was stopped on purpose within the probation under way.
    """

    key_epoch: int = 0
    seq: int = 0
    issued: float = 0.0
    expires: float | None = None
    active: Accepted | None = None
    previous: Accepted | None = None
    gone: Accepted | None = None
    pending: Accepted | None = None
    state: State = State.IDLE
    quarantined: tuple[Quarantine, ...] = ()
    retry: bool = False
    report: UpdateReport | None = None
    proven: bool = True
    deaths: int = 0
    stopped: bool = False
    stops: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """Epoch and seq of the newest accepted manifest."""
        return (self.key_epoch, self.seq)

    @property
    def standing(self) -> list[Accepted]:
        """The releases that may have to serve: the active one, then the one before."""
        return [each for each in (self.active, self.previous) if each is not None]

    def knows(self, sha256: str, retry_epoch: int) -> bool:
        """Whether a file has failed here, and no newer manifest has asked to try it again."""
        return any(
            each.sha256 == sha256 and retry_epoch <= each.retry_epoch for each in self.quarantined
        )


def memory_of(manifest: Manifest, record: ChannelRecord) -> dict[str, Any]:
    """Returns what is remembered of a manifest, so that no older one is accepted again.

    Of an older one nothing: what a crash has cut off, or a disk has damaged, may be begun anew.
    """
    if manifest.order < record.order:
        return {}
    # What a thief has dated to the end of time ends with the thief's key epoch.
    is_new_epoch = manifest.key_epoch > record.key_epoch
    return {
        "key_epoch": manifest.key_epoch,
        "seq": manifest.seq,
        "issued": manifest.issued if is_new_epoch else max(record.issued, manifest.issued),
        "expires": manifest.expires,
    }


class ChannelFile:
    """The file of a channel's record.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, state_dir: Path, channel: str) -> ChannelFile:
        """Returns the file of a channel that a node follows."""
        return cls(state_dir / "channels" / f"{channel}.record")

    def read(self) -> ChannelRecord:
        """Returns the record; an empty one if there is none. A broken file is put aside.

        For who owns the file.

        Raises:
            StorageError: the disk does not give it.
        """
        clear_unfinished(self._path)
        data = read_if_there(self._path)
        if data is None:
            return ChannelRecord()
        try:
            return _decode(data)
        except UNREADABLE as error:
            put_aside(self._path, f"cannot be read ({error})")
            return ChannelRecord()

    def peek(self) -> ChannelRecord | None:
        """Returns the record as another process has left it, None if it cannot be read now.

        For who does not own the file: it is left where it is.
        """
        try:
            return _decode(self._path.read_bytes())
        except (OSError, *UNREADABLE):
            return None

    def stamp(self) -> tuple[int, int] | None:
        """Returns what changes whenever the file is replaced, None where there is none."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def write(self, record: ChannelRecord) -> None:
        """Replaces the record.

        Raises:
            StorageError: it cannot be written; the old one still stands.
        """
        write_durably(self._path, _encode(record))


def _encode(record: ChannelRecord) -> bytes:
    """Returns the record as JSON behind its digest: a flipped bit must not pass for a threshold."""
    body = msgspec.json.encode(record)
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _decode(data: bytes) -> ChannelRecord:
    digest, _, body = data.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise msgspec.DecodeError("its bytes are not those that were written")
    return msgspec.json.decode(body, type=ChannelRecord)
