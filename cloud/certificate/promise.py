"""What a certificate is to say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """What a certificate is to say.

    Attributes:
        alpha: bound on P(tier-1 disagrees with tier-2 | accepted), 0 to 1. Where there are enough
            labels of people, it bounds P(tier-1 is wrong | accepted) as well.
        delta: chance that the bound does not hold, 0 to 1.
        escalation_budget: share of the traffic that tier-2 can take, 0 to 1. It is spent on
            accuracy; where the certificate demands more, more is escalated.
    """

    alpha: float
    delta: float
    escalation_budget: float
