"""What a probation looks at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Health:
    """What a pipeline counted since the node started.

    Attributes:
        batches: batches that went through the model.
        broken_batches: batches with malformed scores, or none at all.
    """

    batches: int
    broken_batches: int
