"""The workers of a node go by one verdict on the broker's shared subscriptions: that of worker 0.

If each judged for itself, one would take a sample that the broker deals out to another.
"""

from __future__ import annotations

import logging
import math
import random
from pathlib import Path
from typing import Protocol

import msgspec

from shared.durable import write_durably
from shared.errors import StorageError
from shared.messages import UNREADABLE
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.mqtt.shared_subscriptions import SharedProbe, Verdict
from shared.topics import Topics
from shared.workers.worker import Worker

LOOK_S = 0.25
RETRY_S = 5.0

log = logging.getLogger(__name__)


class Verdicts(Protocol):
    """Whence a process knows whether the broker delivers shared subscriptions."""

    verdict: Verdict
    """The latest."""

    def start(self) -> None:
        """Reads what an earlier life knew."""

    def take(self, message: Message) -> bool:
        """Takes a message if it is a probe's; returns False if not."""

    def poll(self, now_s: float) -> None:
        """Finds out more, if there is more. ``now_s`` is monotonic."""

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic, or None while nothing is open."""


class VerdictRecord:
    """The file that holds the verdict on each broker, by its address.

    Args:
        folder: the node's.
        url: the broker's address.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._path = folder / "sharing.json"
        self._url = url

    def read(self) -> Verdict:
        """Returns the verdict; what cannot be read is not known."""
        return self._read().get(self._url, Verdict.UNKNOWN)

    def write(self, verdict: Verdict) -> None:
        """Replaces the verdict, durably.

        Raises:
            StorageError: it cannot be written; the old one still stands.
        """
        write_durably(self._path, msgspec.json.encode(self._read() | {self._url: verdict}))

    def _read(self) -> dict[str, Verdict]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Verdict])
        except (OSError, *UNREADABLE):
            return {}


class LeadingVerdict:
    """Worker 0's: it probes, and goes by what the others can read as well.

    Args:
        probe: of the broker.
        record: where it is left to the others.
    """

    def __init__(self, probe: SharedProbe, record: VerdictRecord) -> None:
        self.verdict = Verdict.UNKNOWN
        self._probe = probe
        self._record = record
        self._retry_s = -math.inf

    def start(self) -> None:
        """Reads what an earlier life knew: it stands until the broker has shown otherwise."""
        self.verdict = self._record.read()

    def take(self, message: Message) -> bool:
        """Takes a message if it is the probe's; returns False if not."""
        return self._probe.take(message)

    def poll(self, now_s: float) -> None:
        """Carries the probe on, and writes what it has found."""
        self._probe.poll(now_s)
        found = self._probe.verdict
        if found in (Verdict.UNKNOWN, self.verdict) or now_s < self._retry_s:
            return
        try:
            self._record.write(found)
        except StorageError as error:
            log.error("the other workers cannot know how samples are shared: %s", error)
            self._retry_s = now_s + RETRY_S
        else:
            self.verdict = found

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic, or None while nothing is open."""
        return self._probe.due_s()


class FollowedVerdict:
    """That of the others: what worker 0 has written.

    Args:
        record: where it is written.
    """

    def __init__(self, record: VerdictRecord) -> None:
        self.verdict = Verdict.UNKNOWN
        self._record = record
        self._look_s = -math.inf

    def start(self) -> None:
        """Reads what is known."""
        self.verdict = self._record.read()

    def take(self, message: Message) -> bool:
        """Takes nothing: it sends nothing."""
        return False

    def poll(self, now_s: float) -> None:
        """Looks whether there is news."""
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_S
        found = self._record.read()
        if found is not Verdict.UNKNOWN:
            self.verdict = found

    def due_s(self) -> float | None:
        """Returns when ``poll`` is due, monotonic."""
        return self._look_s


def make_verdicts(
    worker: Worker,
    name: str,
    link: Link,
    topics: Topics,
    *,
    folder: Path,
    url: str,
    rng: random.Random,
) -> Verdicts:
    """Makes what a process of a node goes by.

    Args:
        worker: which of the node's processes this is.
        name: what that is called.
        link: the broker.
        topics: of the node's site.
        folder: the node's.
        url: the broker's address.
        rng: makes what the probe sends unlike anybody else's.
    """
    record = VerdictRecord(folder, url)
    if not worker.leads:
        return FollowedVerdict(record)
    probe = SharedProbe(link, topics.probe(name, "shared"), topics.probe(name, "plain"), rng)
    # One process has nobody to agree with, and needs no disk.
    return probe if worker.count == 1 else LeadingVerdict(probe, record)
