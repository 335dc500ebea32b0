"""Which of a node's processes this one is, and what it calls its own. Pure."""

from __future__ import annotations

import re
import zlib

import msgspec

MAX_WORKERS = 64
WORKER_NAME = re.compile(r".*\.w\d+")
"""What the name of a node does not look like: ``name`` makes such names of a worker's."""

_TEXT = re.compile(r"(\d{1,4})/(\d{1,4})")


class Worker(msgspec.Struct, frozen=True):
    """One process of a node.

    Worker 0 bears the node's own names and speaks for it: birth, last will, info, updates. A node
    without workers is worker 0 of 1. So neither more nor fewer workers change who worker 0 is to
    the broker and on the disk.

    Attributes:
        index: its number, from 0.
        count: how many the node has. A number beyond them is that of a worker that leaves: it
            answers what its session still holds, and comes no more.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Worker:
        """Returns the worker that ``str`` wrote.

        Raises:
            ValueError: it wrote no such text.
        """
        match = _TEXT.fullmatch(text)
        if match is None or int(match[2]) == 0:
            raise ValueError(f"{text!r} is not a worker: write for example 0/2")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def leads(self) -> bool:
        """Whether it speaks for the node."""
        return self.index == 0

    @property
    def leaves(self) -> bool:
        """Whether the node has no place for it any more."""
        return self.index >= self.count

    @property
    def departed(self) -> tuple[Worker, ...]:
        """Those whose files are now its own: worker 0 inherits from the ones beyond the count."""
        if not self.leads:
            return ()
        return tuple(Worker(index, self.count) for index in range(self.count, MAX_WORKERS))

    @property
    def client_suffix(self) -> str:
        """What tells its MQTT client id from the node's."""
        return f"-w{self.index}" if self.index else ""

    def name(self, node: str) -> str:
        """Returns the name under which it is answered: the node's, or one derived from it."""
        return f"{node}.w{self.index}" if self.index else node

    def file_name(self, name: str) -> str:
        """Returns the name of its own file in the node's folder.

        Args:
            name: what worker 0 calls that file.
        """
        if not self.index:
            return name
        stem, dot, ending = name.rpartition(".")
        return f"{stem}-w{self.index}.{ending}" if dot else f"{name}-w{self.index}"

    def port(self, first: int) -> int:
        """Returns its TCP port: one after the other from the first. 0, any, stays 0.

        A worker that leaves takes any, for its old one may be another node's by now.
        """
        return first + self.index if first and not self.leaves else 0

    def threads(self, available: int) -> int:
        """Returns its part of the threads that the node may run, at least one."""
        return max(1, available // self.count)

    def takes(self, sensor: str) -> bool:
        """Whether a sensor is its own, where the broker does not share samples out.

        Every sensor is that of exactly one worker of the node, and always of the same.
        """
        return zlib.crc32(sensor.encode()) % self.count == self.index


ALONE = Worker()
"""The one process of a node without workers."""
