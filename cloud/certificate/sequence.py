"""Tests thresholds in a fixed sequence: which of them hold a promise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloud.certificate.bound import (
    Rates,
    enough_trials,
    fewest_trials,
    lower_bounds,
    upper_bounds,
)
from cloud.certificate.evidence import Accepted, Evidence
from cloud.certificate.grid import Grid
from cloud.certificate.promise import Promise
from shared.model_spec import Certificate
from shared.scores import Flags


@dataclass(frozen=True, slots=True)
class Candidate:
    """A threshold that holds the promise."""

    threshold: float
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the tests.

    Attributes:
        grid: the thresholds.
        passed: strictest first; all of them hold at once, so any may be chosen afterwards.
        why: why the one after the last that passed did not, in words; empty if all passed.
    """

    grid: Grid
    passed: tuple[Candidate, ...]
    why: str


def certified(
    evidence: Evidence, grid: Grid, promise: Promise, coverage: Rates | None = None
) -> Outcome:
    """Tests thresholds in their order, up to the first that fails.

    Fixed-sequence testing, Angelopoulos et al., Learn then Test, arXiv 2110.01052, section 2.2:
    each hypothesis "the risk exceeds alpha" is tested at level delta by an exact binomial bound, on
    the selective risk P(disagrees | accepted) of Geifman and El-Yaniv, arXiv 1705.08500. For any
    false certificate the first threshold of the order whose risk exceeds alpha must pass, which has
    a chance of delta at most; so all that pass hold at once with probability 1 - delta.

    People's labels must not contradict. Where so many samples have one that the strictest threshold
    is expected to accept ``enough_trials`` of them, the risk P(wrong | accepted) must pass the same
    test as well; both claims are then made at level delta each, and together too, for each needs
    both tests to pass (the intersection-union test, Berger, Technometrics 24(4), 1982). How many
    have one decides, and not where or what: given the number, they are a uniform sample. With
    fewer, labels promise nothing; they end the sequence where the lower bound of their risk is
    above alpha.

    Args:
        evidence: samples that no model, temperature or grid was fitted to.
        grid: chosen without these samples.
        promise: what to certify.
        coverage: float64 [M], the share of the traffic that each threshold accepts, where more is
            known of it than the evidence says.
    """
    if not len(grid):
        return Outcome(grid, (), "tier-1 gave no well-formed scores")
    tests = _Tests.of(evidence, grid, promise)
    if coverage is None:
        coverage = tests.accepted.n / max(1, len(evidence))
    fails = ~(tests.agree & tests.labels_allow)
    ends = int(np.argmax(fails)) if fails.any() else len(grid)
    passed = tuple(
        Candidate(float(grid.thresholds[place]), tests.certificate(place, float(coverage[place])))
        for place in range(ends)
    )
    return Outcome(grid, passed, tests.why_not(ends) if fails.any() else "")


@dataclass(frozen=True, slots=True)
class _Tests:
    """The tests of all thresholds.

    Attributes:
        grid: M thresholds.
        promise: what to certify.
        accepted: what they accept.
        bounds: float64 [M], on the risk to disagree with tier-2.
        label_bounds: float64 [M], on the risk to be wrong.
        enough_labels: whether labels can promise something.
    """

    grid: Grid
    promise: Promise
    accepted: Accepted
    bounds: Rates
    label_bounds: Rates
    enough_labels: bool

    @classmethod
    def of(cls, evidence: Evidence, grid: Grid, promise: Promise) -> _Tests:
        accepted = evidence.accepted(grid.thresholds)
        expected = float(grid.coverages[0] * np.count_nonzero(evidence.labelled))
        return cls(
            grid=grid,
            promise=promise,
            accepted=accepted,
            bounds=upper_bounds(accepted.disagreements, accepted.n, promise.delta),
            label_bounds=upper_bounds(accepted.wrong, accepted.labelled, promise.delta),
            enough_labels=expected >= enough_trials(promise.alpha, promise.delta),
        )

    @property
    def agree(self) -> Flags:
        """Which thresholds hold the promise against tier-2, bool [M]."""
        return self.bounds <= self.promise.alpha

    @property
    def labels_allow(self) -> Flags:
        """At which thresholds people's labels do not contradict, bool [M]."""
        alpha, accepted = self.promise.alpha, self.accepted
        if self.enough_labels:
            return self.label_bounds <= alpha
        return lower_bounds(accepted.wrong, accepted.labelled, self.promise.delta) <= alpha

    def certificate(self, place: int, coverage: float) -> Certificate:
        """Returns what is promised of a threshold that passed."""
        accepted = self.accepted
        return Certificate(
            alpha=self.promise.alpha,
            delta=self.promise.delta,
            n=int(accepted.n[place]),
            disagreements=int(accepted.disagreements[place]),
            coverage=coverage,
            bound=float(self.bounds[place]),
            labelled=int(accepted.labelled[place]),
            wrong=int(accepted.wrong[place]),
            label_bound=float(self.label_bounds[place]) if self.enough_labels else None,
        )

    def why_not(self, place: int) -> str:
        """Says why a threshold failed."""
        threshold, alpha = f"{self.grid.thresholds[place]:.6g}", f"{100 * self.promise.alpha:.3g} %"
        n, errors = int(self.accepted.n[place]), int(self.accepted.disagreements[place])
        fewest = fewest_trials(self.promise.alpha, self.promise.delta)
        if n < fewest:
            return (
                f"threshold {threshold} accepts {n} of the samples that test it, and for a risk of "
                f"{alpha} it takes {fewest} even if tier-2 agrees with all"
            )
        if not self.agree[place]:
            return (
                f"at threshold {threshold} tier-2 answers {errors} of {n} accepted samples "
                f"otherwise, so the risk may be {100 * self.bounds[place]:.3g} %, above {alpha}"
            )
        return self._why_labels_forbid(threshold, alpha, place)

    def _why_labels_forbid(self, threshold: str, alpha: str, place: int) -> str:
        wrong, labelled = self.accepted.wrong[place], self.accepted.labelled[place]
        upper = f"may be {100 * self.label_bounds[place]:.3g} %"
        lower = lower_bounds(wrong, labelled, self.promise.delta)
        return (
            f"people's labels contradict: at threshold {threshold} tier-1 is wrong on {wrong} of "
            f"{labelled} accepted samples that have one, so its risk "
            f"{upper if self.enough_labels else f'is at least {100 * lower:.3g} %'}, above {alpha}"
        )
