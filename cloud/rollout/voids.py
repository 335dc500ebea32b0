"""Which of a rollout's releases have a threshold whose certificate holds no more. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cloud.rollout.record import RolloutRecord
from shared.releases.manifest import Void


def voided(record: RolloutRecord, version: str, void: Void) -> RolloutRecord:
    """Returns the record once a version's certificate is void. It changes nothing else.

    Args:
        record: the rollout.
        version: that it rolls out, or goes back to; of another it says nothing.
        void: why, and since when.
    """
    if version not in (record.version, record.base) or record.voids.get(version) == void:
        return record
    return msgspec.structs.replace(record, voids={**record.voids, version: void})


def inherited(history: Iterable[RolloutRecord], base: str) -> dict[str, Void]:
    """Returns what a new rollout knows of the release that it may go back to.

    What it rolls out itself begins anew, whatever was said of it before.

    Args:
        history: the rollouts so far, newest first.
        base: the release from before the rollout; empty for none.
    """
    for record in history:
        if base and base in (record.version, record.base):
            void = record.voids.get(base)
            return {base: void} if void else {}
    return {}
