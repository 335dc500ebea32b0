"""What becomes of a rollout next. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from cloud.rollout.phases import Event, after
from cloud.rollout.record import RolloutRecord


@dataclass(frozen=True)
class Decision:
    """What was decided.

    Whoever takes it writes ``record`` first, where it differs from the one before, and then, as
    long as it ``needs_seq``, brings a manifest of ``record.offer`` out and says ``published``. Cut
    off in between, the record says what is left to do.

    Attributes:
        event: what happened to the rollout; None for nothing.
        record: the rollout from now on.
        reason: why, in words.
    """

    event: Event | None
    record: RolloutRecord
    reason: str

    @property
    def needs_seq(self) -> bool:
        """Whether no manifest carries the rollout's offer yet."""
        return self.record.seq == 0


def move(record: RolloutRecord, event: Event, reason: str, **changes: Any) -> Decision:
    """Returns the decision for an event.

    Args:
        record: the rollout.
        event: what happens to it.
        reason: why.
        changes: to other fields of the record.

    Raises:
        IllegalCommandError: the event is not possible in the rollout's phase.
    """
    phase = after(record.phase, event, has_base=bool(record.base))
    moved = msgspec.structs.replace(record, phase=phase, reason=reason, **changes)
    if moved.offer != record.offer:
        moved = msgspec.structs.replace(moved, seq=0)
    return Decision(event, moved, reason)
