"""A uniform sample of the traffic, out of samples that reached the cloud with unequal chances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.scores import Flags


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


def drawn_labels(labelled: Flags, asked: Flags, rng: np.random.Generator) -> Flags:
    """Draws labels so that what was asked for counts no more than the rest.

    People are asked for labels of what tier-2 is least sure of, and there both tiers err most. Of
    the samples that were asked for the share ``a`` has a label, of the others the share ``b``, at
    random. A label that was asked for is kept with the chance b / a: then the same share of both
    has one. Where nothing but what was asked for has a label, none is kept: such labels say nothing
    of the traffic.

    Args:
        labelled: bool [N], of a uniform sample of the traffic.
        asked: bool [N], what people were asked for.
        rng: source of the draw.

    Returns:
        bool [N], the labels that are kept.
    """
    of_asked, of_others = labelled[asked].sum(), labelled[~asked].sum()
    if not of_asked:
        return labelled.copy()
    keep = of_others * np.count_nonzero(asked) / (of_asked * max(1, np.count_nonzero(~asked)))
    kept: Flags = labelled & (~asked | (rng.random(len(labelled)) < keep))
    return kept
