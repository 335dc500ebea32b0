"""Moves a channel from state to state: on the disk first, then in memory, then in the report."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.errors import StorageError
from shared.messages import Step, UpdateReport
from shared.metrics import NodeMetrics
from shared.releases.machine import UNDER_WAY, Event, State, advance
from shared.releases.manifest import Manifest
from shared.releases.record import ChannelFile, ChannelRecord

CATCH_UP_S = 10.0
"""Between two attempts to write an end that the disk has not taken."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """What a report speaks of.

    Attributes:
        manifest: the manifest.
        sha256: of the file that was chosen; empty before that.
        bytes_fetched: over the network, for this update.
    """

    manifest: Manifest
    sha256: str = ""
    bytes_fetched: int = 0


class Journal:
    """A channel's record, and the retained report of its last step.

    Args:
        file: the record on the disk.
        node: this node's name.
        channel: the channel.
        metrics: counts the states.
        publish: publishes a report.

    Attributes:
        record: what is on the disk; the end of an update may be there later.
    """

    def __init__(
        self,
        file: ChannelFile,
        *,
        node: str,
        channel: str,
        metrics: NodeMetrics,
        publish: Callable[[UpdateReport], None],
    ) -> None:
        self.record = ChannelRecord()
        self._file = file
        self._node = node
        self._channel = channel
        self._metrics = metrics
        self._publish = publish
        self._steps: list[Step] = []
        self._since_s = 0.0
        self._owes_end = False
        self._catch_up_due_s = 0.0

    def load(self) -> None:
        """Reads what the last life left.

        Raises:
            StorageError: the disk does not give it.
        """
        self.record = self._file.read()

    def write(self, **changes: Any) -> None:
        """Changes the record without a step of the update.

        Raises:
            StorageError: the disk does not take it; the record is as it was.
        """
        record = msgspec.structs.replace(self.record, **changes)
        self._put(record)
        self.record = record

    def assume(self, **changes: Any) -> None:
        """Changes the record in memory alone: the next write takes it along."""
        self.record = msgspec.structs.replace(self.record, **changes)

    def go(
        self, event: Event, subject: Subject, now_s: float, reason: str = "", **changes: Any
    ) -> None:
        """Takes a step.

        Args:
            event: what happened.
            subject: what the report speaks of.
            now_s: monotonic.
            reason: in words.
            changes: of the record, written together with the step.

        Raises:
            IllegalTransitionError: the event is not possible now.
            StorageError: the disk does not take it; nothing has changed.
        """
        record = self._after(event, subject, now_s, reason, changes)
        self._put(record)
        self._enter(record, now_s)

    def end(
        self, event: Event, subject: Subject, now_s: float, reason: str, **changes: Any
    ) -> None:
        """Takes the last step, on the disk if it takes it: else ``catch_up`` writes it later."""
        record = self._after(event, subject, now_s, reason, {"pending": None, **changes})
        self._write_if_possible(record)
        self._enter(record, now_s)

    def settle(self, event: Event, reason: str, **changes: Any) -> None:
        """Ends what the last life left under way. The report goes out at the next ``say``.

        Args:
            event: what is made of it.
            reason: in words.
            changes: of the record, written together with it.
        """
        record = self.record
        state = advance(record.state, event)
        report = record.report and msgspec.structs.replace(
            record.report, state=state.value, reason=reason, since=time.time()
        )
        settled = msgspec.structs.replace(
            record, state=state, report=report, **{"pending": None, **changes}
        )
        self._write_if_possible(settled)
        self.record = settled

    def catch_up(self, now_s: float) -> None:
        """Writes the end of an update that the disk has not taken, if it takes it by now.

        Until then the next start would find the update in the middle, and what it has died of here
        would be taken for the fault of the release. Call it while no update is under way.
        """
        if not self._owes_end or now_s < self._catch_up_due_s:
            return
        self._catch_up_due_s = now_s + CATCH_UP_S
        with contextlib.suppress(StorageError):  # which was said when the update ended
            self._put(self.record)

    def say(self) -> None:
        """Publishes the last report again: the broker may have lost it."""
        if self.record.report is not None:
            self._publish(self.record.report)

    @property
    def since_s(self) -> float:
        """When the present state began, monotonic."""
        return self._since_s

    def _put(self, record: ChannelRecord) -> None:
        self._file.write(record)
        self._owes_end = False

    def _write_if_possible(self, record: ChannelRecord) -> None:
        try:
            self._put(record)
        except StorageError as error:
            self._owes_end = True
            log.error("%s: the end of the update is not on disk yet: %s", self._channel, error)

    def _after(
        self, event: Event, subject: Subject, now_s: float, reason: str, changes: dict[str, Any]
    ) -> ChannelRecord:
        left = self.record.state
        steps = []
        if left in UNDER_WAY:
            seconds = round(now_s - self._since_s, 3)
            steps = [*self._steps, Step(state=left.value, seconds=seconds)]
        state = advance(left, event)
        manifest = subject.manifest
        report = UpdateReport(
            node=self._node,
            channel=self._channel,
            key_epoch=manifest.key_epoch,
            seq=manifest.seq,
            version=manifest.release.version,
            rollout=manifest.rollout.id,
            state=state.value,
            reason=reason,
            since=self._began(event, manifest),
            steps=steps,
            sha256=subject.sha256,
            bytes_fetched=subject.bytes_fetched,
        )
        return msgspec.structs.replace(self.record, state=state, report=report, **changes)

    def _began(self, event: Event, manifest: Manifest) -> float:
        """Returns when the state of a report began: what is confirmed goes on, under a new seq."""
        said = self.record.report
        goes_on = (
            event is Event.CONFIRM
            and said is not None
            and (said.state, said.version) == (State.COMMITTED, manifest.release.version)
        )
        return said.since if said is not None and goes_on else time.time()

    def _enter(self, record: ChannelRecord, now_s: float) -> None:
        self.record = record
        report = record.report
        if report is None:
            return
        self._steps, self._since_s = report.steps, now_s
        self._metrics.updates.labels(channel=report.channel, state=report.state).inc()
        log.info("%s seq %d: %s %s", report.channel, report.seq, report.state, report.reason)
        self._publish(report)
