"""Which version a rollback brings back. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from cloud.rollout.phases import Phase
from cloud.rollout.record import RolloutRecord


def proven(history: Iterable[RolloutRecord], version: str) -> str:
    """Returns the version that was proven last, before another one; empty if there is none.

    A version is proven by a rollout that is COMPLETED, and no longer by that once a later one was
    aborted or rolled back. What a rollout has for its base was proven when it began.

    Args:
        history: the rollouts so far, newest first; it may have gaps.
        version: which is to be rolled out.
    """
    unfit = {version}
    for record in history:
        if record.phase is Phase.COMPLETED and record.version not in unfit:
            return record.version
        if record.phase in (Phase.ABORTED, Phase.ROLLED_BACK):
            unfit.add(record.version)
        if record.base and record.base not in unfit:
            return record.base
    return ""
