"""Keeps what a watch has found on the disk: one small file a pipeline, replaced whole."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable
from pathlib import Path

import msgspec

from shared.durable import clear_unfinished, write_durably
from shared.errors import StorageError
from shared.files import put_aside
from shared.messages import UNREADABLE
from tier1.calibration_watch import CalibrationWatch
from tier1.watch import Watch

SAVE_S = 60.0
"""Between two writes: a flash memory bears only so many."""
MAX_BYTES = 256 * 2**10

log = logging.getLogger(__name__)


class WatchFile:
    """The file of one pipeline's watch. Without it the node goes on, and finds it all out anew.

    Args:
        path: the file.
        watch: what is kept.
    """

    def __init__(self, path: Path, watch: Watch) -> None:
        self._path = path
        self._watch = watch
        self._due_s = -math.inf

    def start(self) -> None:
        """Reads what the last life has kept. The model that serves is in place."""
        clear_unfinished(self._path)
        try:
            self._watch.restore(_decode(self._path))
        except FileNotFoundError:
            self._watch.look()
        except (OSError, *UNREADABLE) as error:
            put_aside(self._path, f"cannot be read ({error})")
            log.error("what the audit had found is lost: the threshold is the released one again")
            self._watch.look()

    def poll(self, now_s: float) -> None:
        """Looks what serves; writes what is new: at once where it raises the threshold.

        Args:
            now_s: monotonic.
        """
        self._watch.look()
        if self._watch.changed and (self._watch.urgent or now_s >= self._due_s):
            self._due_s = now_s + SAVE_S
            self.save()

    def save(self) -> None:
        """Writes what is new, if the disk takes it; else it is tried again later."""
        if not self._watch.changed:
            return
        # Whatever comes of it: a disk that is full is not asked in each turn.
        self._watch.urgent = False
        try:
            write_durably(self._path, _encode(self._watch.kept))
        except StorageError as error:
            log.error("what the audit has found is not on disk: %s", error)
            return
        self._watch.changed = False


def _encode(kept: Iterable[CalibrationWatch]) -> bytes:
    """Returns it behind its digest: a flipped bit must not pass for a threshold."""
    body = msgspec.msgpack.encode(tuple(kept))
    return hashlib.sha256(body).digest() + body


def _decode(path: Path) -> tuple[CalibrationWatch, ...]:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES)
    digest, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != digest:
        raise msgspec.DecodeError("its bytes are not those that were written")
    return msgspec.msgpack.decode(body, type=tuple[CalibrationWatch, ...])
