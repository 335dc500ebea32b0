"""The time, as far as a node may believe its clock. Pure."""

from __future__ import annotations

from typing import Final

BUILT_S: Final = 1_795_564_800.0
"""When this version of the software was made, seconds since 1970: it is later than that."""


def not_before(clock_s: float, issued_s: float) -> float:
    """Returns the time: the clock's, or later where the clock is known to be wrong.

    A device without a battery starts in 1970. What it has accepted tells that it is later.

    Args:
        clock_s: what the clock says, seconds since 1970.
        issued_s: when the newest manifest that was ever accepted was issued.
    """
    return max(clock_s, issued_s, BUILT_S)
