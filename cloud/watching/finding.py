"""What a test for a drift says once it is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Test = Literal["binomial", "adwin", "page_hinkley", "risk", "calibration"]
"""``binomial``: the escalation rate against the certified one. ``adwin`` and ``page_hinkley``: a
series against itself. ``risk``: the audit against the certified bound. ``calibration``: the audit
against tier-1's confidence."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A drift.

    Attributes:
        test: which test found it.
        words: what it found, for people.
    """

    test: Test
    words: str
