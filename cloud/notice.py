"""What the cloud node leaves on its disk for the command line: that it runs, and what holds it up.

That it runs is a lock, which ends with the process however that ends. It is seen by who works on
the same machine; a folder that another machine has mounted may not tell.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from cloud.channel_lock import ChannelLock
from shared.durable import write_durably
from shared.errors import StorageError
from shared.messages import SCHEMA_VERSION, UNREADABLE, Public

MAX_TROUBLE = 600
EVERY_S = 2.0
LEAVE_S = 10.0
"""So long the next cloud node waits for one that is about to end."""

log = logging.getLogger(__name__)


class Notice(Public, frozen=True):
    """What holds a cloud node up.

    Attributes:
        taken: since when that is so, seconds since 1970.
        node: what holds up all channels, in words; empty for nothing.
        channels: what holds up one, by channel; those that go on are left out.
    """

    taken: float
    node: str = ""
    channels: dict[str, str] = msgspec.field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def trouble(self, channel: str) -> str:
        """Returns all that holds a channel up, in words; empty for nothing."""
        return "; ".join(filter(None, [self.channels.get(channel, ""), self.node]))


class NoticeFile:
    """The file of the latest notice, and the lock of who writes it.

    Args:
        folder: the cloud's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "notice.json"
        self._lock = ChannelLock(folder / "node.lock", f"the cloud's folder {folder}")
        self._kept: tuple[str, dict[str, str]] | None = None
        self._due_s = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Shows that a cloud node runs, for as long as the block does.

        Raises:
            StorageError: the lock's file cannot be opened.
        """
        with self._lock.held(LEAVE_S) as is_held:
            if not is_held:
                log.warning("another cloud node runs on the folder %s", self._path.parent)
            yield

    @property
    def is_running(self) -> bool:
        """Whether a cloud node runs on this folder, on this machine; True where nobody can tell."""
        if not self._lock.path.exists():
            return False  # and who only looks makes none
        try:
            with self._lock.held(0.0) as is_held:
                return not is_held
        except StorageError:
            return True

    def read(self) -> Notice:
        """Returns the latest notice; an empty one where there is none, or a damaged one."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Notice)
        except OSError as error:
            said = "" if isinstance(error, FileNotFoundError) else error.strerror
            return Notice(taken=0.0, node=f"cannot read {self._path}: {said}" if said else "")
        except UNREADABLE:
            return Notice(taken=0.0)  # the cloud node writes it anew when it starts

    def keep(
        self, node: str, channels: Mapping[str, str], now_s: float, monotonic_s: float
    ) -> None:
        """Writes a notice where it says something new, at most every two seconds.

        A disk that does not take it is no trouble of its own: the log has what it would say.

        Args:
            node: what holds up all channels; empty for nothing.
            channels: what holds up each; empty for nothing.
            now_s: seconds since 1970.
            monotonic_s: the clock by which that is held.
        """
        said = (
            node[:MAX_TROUBLE],
            {name: trouble[:MAX_TROUBLE] for name, trouble in channels.items() if trouble},
        )
        if said == self._kept or monotonic_s < self._due_s:
            return
        self._due_s = monotonic_s + EVERY_S
        notice = Notice(taken=now_s, node=said[0], channels=said[1])
        with contextlib.suppress(StorageError):
            write_durably(self._path, msgspec.json.encode(notice))
            self._kept = said
