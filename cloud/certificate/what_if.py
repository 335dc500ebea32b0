"""What other thresholds would have done with recorded traffic, and which of them are certified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.certificate.calibration import NOTHING_ACCEPTED
from cloud.certificate.estimate import Estimate, share, total
from cloud.certificate.evidence import Evidence
from cloud.certificate.grid import Grid
from cloud.certificate.latency import Latencies, Latency
from cloud.certificate.message_bytes import MessageBytes
from cloud.certificate.observed import Observed
from cloud.certificate.promise import Promise
from cloud.certificate.sampling import drawn_labels, uniform_rows
from cloud.certificate.sequence import Outcome, certified
from shared.model_spec import Certificate

TUNING_SHARE = 0.25
"""The first so much of the uniform sample chooses the grid, the rest tests it."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a threshold would have done.

    Attributes:
        threshold: accepts from this certainty on.
        coverage: share of the traffic that is accepted.
        risk: P(tier-1 disagrees with tier-2 | accepted).
        accuracy: share of right final answers, by people's labels; where there is none tier-2's
            answer counts as right.
        escalated: share that tier-2 answers.
        sent: share that tier-2 sees, the audit included.
        tier2_bytes: from tier-1 to tier-2 for each sample that is gated.
        uplink_bytes: from tier-2 to the cloud for each sample that is gated.
        latency: of all answers; None where it was not measured.
        certificate: what is promised of it; None where nothing can be.
        runs: whether it is the one that runs.
    """

    threshold: float
    coverage: Estimate
    risk: Estimate
    accuracy: Estimate
    escalated: float
    sent: float
    tier2_bytes: float
    uplink_bytes: float
    latency: Latency | None
    certificate: Certificate | None
    runs: bool


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A table of thresholds, strictest first.

    Attributes:
        rows: the thresholds; the first accepts nothing, the last everything.
        promise: what certificates say.
        samples: that were sent.
        gated: of how many they are an estimated sample.
        labelled: samples with a person's label.
        uniform: how many of the samples are a uniform sample.
        audit_share: share of the traffic that the audit draws.
        all_bytes: to tier-2 for each sample, if all were sent.
        why: why no laxer threshold is certified, in words; empty if all are.
    """

    rows: tuple[Row, ...]
    promise: Promise
    samples: int
    gated: float
    labelled: int
    uniform: int
    audit_share: float
    all_bytes: float
    why: str

    @property
    def certified(self) -> tuple[Row, ...]:
        """The rows with a certificate, strictest first."""
        return tuple(row for row in self.rows if row.certificate is not None)


def what_if(
    observed: Observed,
    *,
    running: Sequence[float],
    promise: Promise,
    message: MessageBytes,
    rng: np.random.Generator,
    latencies: Latencies | None = None,
) -> WhatIf:
    """Returns what thresholds would have done.

    Shares are estimated from all samples, weighted, with intervals that miss with a chance of
    delta. Certificates come from a uniform sample of the traffic that is drawn from them, of which
    the first quarter chooses the grid: they are exact, and all of the table hold at once.

    Args:
        observed: of the version that runs, oldest first.
        running: the thresholds that run, one for each file of the release that has another; they
            were chosen without these samples.
        promise: what to certify.
        message: what samples take in messages.
        rng: draws the uniform sample, and labels. One seed for good.
        latencies: what was measured of answers.
    """
    uniform = uniform_rows(observed.chances, rng)
    outcome = certify(observed, uniform, running, promise, rng)
    certificates = {each.threshold: each.certificate for each in outcome.passed}
    runs = frozenset(float(np.float32(each)) for each in running)
    thresholds = {NOTHING_ACCEPTED, *outcome.grid.thresholds.tolist(), *runs, 0.0}
    table = _Table(observed, promise.delta, message, latencies, certificates, runs)
    return WhatIf(
        rows=tuple(table.row(threshold) for threshold in sorted(thresholds, reverse=True)),
        promise=promise,
        samples=len(observed.chances),
        gated=total(np.ones(len(observed.chances)), observed.weights),
        labelled=int(np.count_nonzero(observed.labels >= 0)),
        uniform=len(uniform),
        audit_share=observed.audit_share,
        all_bytes=message.escalation,
        why=outcome.why,
    )


def certify(
    observed: Observed,
    uniform: NDArray[np.intp],
    running: Sequence[float],
    promise: Promise,
    rng: np.random.Generator,
) -> Outcome:
    """Tests thresholds on recorded traffic.

    The first quarter of the uniform sample chooses the grid, the rest tests it. What share each
    accepts is estimated from all samples, weighted.

    Args:
        observed: of the version that runs, oldest first.
        uniform: rows that are a uniform sample of the traffic, as ``uniform_rows`` draws them.
        running: the thresholds that run, which were chosen without these samples.
        promise: what to certify.
        rng: draws the labels that count.
    """
    tuning, testing = np.split(uniform, [int(TUNING_SHARE * len(uniform))])
    grid = Grid.of(observed.certainty[tuning], also=running)
    labels = observed.labels[testing]
    counts = drawn_labels(labels >= 0, observed.asked[testing], rng)
    evidence = Evidence.of(
        observed.certainty[testing],
        observed.answers[testing],
        observed.tier2_answers[testing],
        np.where(counts, labels, -1),
    )
    weights = observed.weights
    accepted = [total(observed.certainty >= np.float32(each), weights) for each in grid.thresholds]
    return certified(evidence, grid, promise, np.array(accepted) / weights.sum())


@dataclass(frozen=True, slots=True)
class _Table:
    """Writes the rows."""

    observed: Observed
    delta: float
    message: MessageBytes
    latencies: Latencies | None
    certificates: Mapping[float, Certificate]
    runs: frozenset[float]

    def row(self, threshold: float) -> Row:
        observed = self.observed
        accepted = observed.certainty >= np.float32(threshold)
        final = np.where(accepted, observed.answers, observed.tier2_answers)
        coverage = share(accepted, observed.weights, self.delta)
        escalated = 1.0 - coverage.value
        sent = escalated + observed.audit_share * coverage.value
        return Row(
            threshold=threshold,
            coverage=coverage,
            risk=share(observed.disagrees[accepted], observed.weights[accepted], self.delta),
            accuracy=share(final == observed.truth, observed.weights, self.delta),
            escalated=escalated,
            sent=sent,
            tier2_bytes=sent * self.message.escalation,
            uplink_bytes=sent * self.message.uplink(observed.input_share),
            latency=self.latencies.mixed(escalated) if self.latencies else None,
            certificate=self.certificates.get(threshold),
            runs=threshold in self.runs,
        )
