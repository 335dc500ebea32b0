"""A uniform sample of the traffic, out of samples that reached the cloud with unequal chances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def uniform_rows(chances: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Draws rows so that each sample of the traffic is among them with the same chance.

    What tier-1 accepts reaches tier-2 with the chance of the audit, which may differ from node to
    node and from day to day; what it does not accept always does. A row is kept with the chance

        keep = smallest / chance,

    independently of every other. Then each sample of the traffic, sent and kept, is drawn with

        chance * keep = smallest

    whatever it is, and independently: Bernoulli thinning. Of samples that are drawn so, the errors
    among those that a fixed threshold accepts are binomial given their number, and the exact bound
    holds. This is not so of rows that were not thinned: there a node that audits ten times as much
    counts ten times as much, and what was escalated counts a hundred times.

    All that was sent must come in, not the audit alone: the rows that are kept of what was
    escalated stand for what the audit drew of it. A node that audits nothing is not part of the
    traffic that is spoken of, and no rows of it may come in. The smallest chance is that of the
    rows that came, so it must not depend on what they are: of each share that nodes audit, at least
    one sample must have come.

    Args:
        chances: float64 [N], the inclusion probabilities of all samples that were sent, in (0, 1].
        rng: source of the draw. One seed for good: who tries several picks the result.

    Returns:
        int [M], ascending.
    """
    if not len(chances):
        return np.empty(0, np.intp)
    return np.flatnonzero(rng.random(len(chances)) * chances < chances.min())
