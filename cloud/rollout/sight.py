"""A rollout's clocks run while the cloud watches its fleet, and else stand still. Pure.

A cloud that was down, cut off from its broker or given another time has seen nobody be silent and
nothing be sound. So the times from which deadlines and soaks are reckoned are moved on by what
went by on the cloud's clock without being watched.
"""

from __future__ import annotations

import msgspec

from cloud.rollout.phases import WATCHED
from cloud.rollout.record import NodeCourse, RolloutRecord

NOTED_EVERY_S = 60.0
"""So often the record says that it is watched: as much is lost of a watch that ends with a kill."""
LONGEST_LOOK_S = 10.0
"""From one turn to the next, no more than this was watched; a turn is due every second."""
SLACK_S = 1.0
"""A clock that is set by less is let go on."""


class Sight:
    """Until when one process has watched a rollout."""

    def __init__(self) -> None:
        self._watched: tuple[float, float] | None = None

    def resumed(self, record: RolloutRecord, now_s: float, monotonic_s: float) -> RolloutRecord:
        """Returns the record as it is to be judged now that the fleet is in sight.

        It is to be written before ``note`` is called: what it was moved on by is known once.

        Args:
            record: as it was written last.
            now_s: seconds since 1970.
            monotonic_s: a clock that nobody sets.
        """
        if record.phase not in WATCHED:
            return record
        if self._watched is not None:
            seen_s, at_s = self._watched
            blind_s = now_s - seen_s - min(monotonic_s - at_s, LONGEST_LOOK_S)
        else:
            blind_s = now_s - record.seen_s if record.seen_s else 0.0
        if abs(blind_s) >= SLACK_S:
            return moved_on(record, blind_s, now_s)
        if 0 <= now_s - record.seen_s < NOTED_EVERY_S:
            return record
        return msgspec.structs.replace(record, seen_s=now_s)

    def note(self, now_s: float, monotonic_s: float) -> None:
        """Notes that the fleet was in sight, and what was decided of it is written.

        Args:
            now_s: as ``resumed`` had it.
            monotonic_s: as ``resumed`` had it.
        """
        self._watched = (now_s, monotonic_s)


def as_watched(record: RolloutRecord, now_s: float) -> RolloutRecord:
    """Returns the record as it stands for who only reads it.

    Args:
        record: as it was written last.
        now_s: seconds since 1970.
    """
    unseen_s = now_s - record.seen_s
    if not record.seen_s or 0 <= unseen_s < 2 * NOTED_EVERY_S:
        return record
    return moved_on(record, unseen_s, now_s)


def moved_on(record: RolloutRecord, blind_s: float, now_s: float) -> RolloutRecord:
    """Returns the record with its clocks as if a time had not been; none is later than now.

    Args:
        record: the rollout.
        blind_s: how much went by unwatched; negative for a clock that was set back.
        now_s: seconds since 1970.
    """

    def later(time_s: float) -> float:
        return min(time_s + blind_s, now_s)

    def open_later(course: NodeCourse) -> NodeCourse:
        if course.outcome is not None:
            return course
        return msgspec.structs.replace(course, offered_s=later(course.offered_s))

    return msgspec.structs.replace(
        record,
        nodes={name: open_later(course) for name, course in record.nodes.items()},
        since_s=None if record.since_s is None else later(record.since_s),
        passed_s=None if record.passed_s is None else later(record.passed_s),
        seen_s=now_s,
    )
