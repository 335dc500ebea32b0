"""Numbers as options take them."""

from __future__ import annotations

import argparse
import math


def number(text: str) -> float:
    """Returns a finite number from 0 on.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return value


def positive(text: str) -> float:
    """Returns a finite number above 0; raises as ``number`` does."""
    if (value := number(text)) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
