"""What of the traffic is watched: gate counts, and the audited of what tier-1 accepted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.scores import Flags, Floats

AUDIT = "audit"
"""Why a sample was sent that tier-1 had accepted: the audit drew it."""

_ODD = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = 2**64 - 1


class Counted(Protocol):
    """Gate counts, as the store returns them."""

    @property
    def number(self) -> int:
        """Of the row; it grows."""

    @property
    def received_s(self) -> float:
        """When they came, seconds since 1970."""

    @property
    def model_version(self) -> str:
        """Of tier-1's model."""

    @property
    def seen(self) -> int:
        """Samples that a node gated."""

    @property
    def unsure(self) -> int:
        """How many of them it was not sure of."""


class Recorded(Protocol):
    """N samples in columns, oldest first, as the store returns them."""

    @property
    def number(self) -> NDArray[np.int64]:
        """Of the row, int64 [N]; it grows."""

    @property
    def received_s(self) -> NDArray[np.float64]:
        """When it came, seconds since 1970, float64 [N]."""

    @property
    def tier1(self) -> Floats:
        """Tier-1's calibrated probabilities, float32 [N, labels]; NaN where malformed."""

    @property
    def tier2(self) -> Floats:
        """Tier-2's, float32 [N, labels]."""

    @property
    def reason(self) -> Sequence[str]:
        """Why it was sent."""

    @property
    def inclusion_probability(self) -> NDArray[np.float64]:
        """The chance that such a sample is sent, float64 [N], in (0, 1]."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive gate counts, taken together.

    Attributes:
        number: of the last row in it.
        received_s: when that came, seconds since 1970.
        seen: samples.
        unsure: how many of them tier-1 was not sure of.
    """

    number: int
    received_s: float
    seen: int
    unsure: int

    @property
    def rate(self) -> float:
        """Share that was escalated, 0 to 1."""
        return self.unsure / self.seen


@dataclass(frozen=True, slots=True)
class Audited:
    """One sample that tier-1 accepted and tier-2 looked at as a check.

    Attributes:
        number: of the row.
        received_s: when it came, seconds since 1970.
        confidence: tier-1's calibrated probability of its answer, 0 to 1.
        agrees: whether tier-2 gives the same label.
        chance: with which the audit drew it, in (0, 1].
    """

    number: int
    received_s: float
    confidence: float
    agrees: bool
    chance: float


class Blocks:
    """Makes blocks of whole rows.

    A row ends where a node asks tier-2, so that the share in a single row says little of the rate:
    a row of one question has one unsure sample whatever the rate. And a large row must not become
    several blocks: these would be alike, and look steadier than they are.

    Args:
        least: samples in a block at least.
    """

    def __init__(self, least: int) -> None:
        self._least = least
        self._seen = self._unsure = 0

    def add(self, rows: Iterable[Counted], version: str) -> Iterator[Block]:
        """Takes rows, oldest first; those of another version and broken ones are left out."""
        for row in rows:
            if row.model_version != version or not 0 <= row.unsure <= row.seen or not row.seen:
                continue
            self._seen += row.seen
            self._unsure += row.unsure
            if self._seen >= self._least:
                yield Block(row.number, row.received_s, self._seen, self._unsure)
                self._seen = self._unsure = 0


def audited(recorded: Recorded) -> list[Audited]:
    """Returns the audited of what tier-1 accepted, oldest first.

    The audit draws before the gate, so that on one node these are a uniform sample of what it
    accepts; what it did not accept comes to the cloud always, and tells nothing of the accepted.
    """
    is_audit = np.array([reason == AUDIT for reason in recorded.reason], bool)
    confidence = recorded.tier1.max(axis=1) if len(is_audit) else np.zeros(0, np.float32)
    rows: Flags = is_audit & np.isfinite(confidence)
    agrees = recorded.tier1[rows].argmax(axis=1) == recorded.tier2[rows].argmax(axis=1)
    columns = (
        recorded.number[rows], recorded.received_s[rows], confidence[rows].astype(np.float64),
        agrees, recorded.inclusion_probability[rows],
    )  # fmt: skip
    return [Audited(*row) for row in zip(*(each.tolist() for each in columns), strict=True)]


def keeps(number: int, chance: float, smallest: float) -> bool:
    """Whether a sample stays in the uniform sample of what all nodes accept.

    Where nodes audit different shares, one that audits ten times as much would count ten times as
    much. Each sample is kept with the chance smallest / chance, so that all are drawn with the
    smallest chance (Bernoulli thinning, see ``cloud/certificate/sampling.py``). The draw is a hash
    of the row's number (the mixer of SplitMix64: Steele, Lea and Flood, Fast splittable
    pseudorandom number generators, OOPSLA 2014), so that a restart draws the same.

    Args:
        number: of the row.
        chance: with which the audit drew it, in (0, 1].
        smallest: of all nodes.
    """
    if chance <= smallest:
        return True
    mixed = (number * _ODD[0] + _ODD[0]) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * _ODD[1]) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * _ODD[2]) & _MASK
    return (mixed ^ (mixed >> 31)) / 2**64 * chance < smallest
