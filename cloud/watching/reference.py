"""How a release did in the beginning, which later samples are held against. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from cloud.watching.series import Audited, Block, keeps

LEAST_CONFIDENCE_SPREAD = 0.005
"""Where all confidences are alike, smaller changes than this are no news."""


class Moments(msgspec.Struct, frozen=True):
    """Mean and standard deviation of one sample."""

    mean: float
    deviation: float


class AuditReference(msgspec.Struct, frozen=True):
    """The first audited samples that a release accepted.

    Attributes:
        chance: the smallest with which they were drawn; later ones are thinned to it.
        confidence: tier-1's.
        disagreement: whether tier-2 answered otherwise, 0 or 1.
        gap: how much less often tier-2 agreed than the confidence said, at least 0.
    """

    chance: float
    confidence: Moments
    disagreement: Moments
    gap: float


def share_of(hits: int, n: int) -> Moments:
    """Returns the moments of a share. Of none or all, one hit or one miss less is assumed.

    Args:
        hits: 0 to n.
        n: at least 1.
    """
    mean = hits / n
    likely = min(max(mean, 1 / n), 1 - 1 / n) if n > 1 else 0.5
    return Moments(mean, math.sqrt(likely * (1 - likely)))


def learn_rate(blocks: Sequence[Block]) -> Moments:
    """Returns the moments of the rate of a block.

    The deviation is that of the rates as they came, and no less than chance alone makes it: nodes
    that differ from each other, and from hour to hour, make it larger.
    """
    seen = sum(block.seen for block in blocks)
    of_one = share_of(sum(block.unsure for block in blocks), seen)
    by_chance = of_one.deviation / math.sqrt(seen / len(blocks))
    found = float(np.std([block.rate for block in blocks], ddof=1)) if len(blocks) > 1 else 0.0
    return Moments(of_one.mean, max(found, by_chance))


def learn_audits(samples: Sequence[Audited]) -> AuditReference:
    """Returns what the first audited samples say, as if all were drawn with one chance."""
    chance = min(sample.chance for sample in samples)
    kept = [each for each in samples if keeps(each.number, each.chance, chance)]
    confidences = np.array([each.confidence for each in kept])
    spread = float(np.std(confidences, ddof=1)) if len(kept) > 1 else 0.0
    disagreement = share_of(sum(not each.agrees for each in kept), len(kept))
    return AuditReference(
        chance=chance,
        confidence=Moments(float(confidences.mean()), max(spread, LEAST_CONFIDENCE_SPREAD)),
        disagreement=disagreement,
        gap=max(0.0, float(confidences.mean()) - (1.0 - disagreement.mean)),
    )
