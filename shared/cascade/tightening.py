"""The threshold that a node falls back on when the audit has broken its certificate. Pure."""

from __future__ import annotations

import numpy as np

from shared.releases.evidence import is_below, least_total
from shared.scores import Flags, Floats

STEPS = 20


def tightened(
    certainty: Floats, agrees: Flags, *, alpha: float, delta: float, above: float
) -> float | None:
    """Returns the lowest threshold above the present one that the audit's results certify.

    Fixed-sequence testing, strictest first, each threshold by the exact binomial bound
    (Angelopoulos et al., Learn then Test, arXiv 2110.01052, section 2.2): the first that fails ends
    it. The thresholds follow from the certainties alone, so that they are given before any answer
    of tier-2 is looked at.

    Args:
        certainty: float32 [N], of audited samples that were accepted.
        agrees: bool [N], whether tier-2 said the same.
        alpha: bound on P(tier-2 disagrees | accepted), above 0, below 1.
        delta: how likely the bound may not hold, above 0, below 1.
        above: the present threshold.

    Returns:
        None where no threshold is certified.
    """
    order = np.argsort(-certainty, kind="stable")
    ranked, bad = certainty[order], np.cumsum(~agrees[order])
    least, found = least_total(alpha, delta), None
    step = max(1, (len(ranked) - least) // STEPS)
    for size in range(least, len(ranked) + 1, step):
        threshold = ranked[size - 1]
        if threshold <= above:
            break
        # All that are as certain are accepted with it.
        count = int(np.searchsorted(-ranked, -threshold, side="right"))
        if not is_below(int(bad[count - 1]), count, alpha, delta):
            break
        found = float(threshold)
    return found
