"""Calibrates the gate: a temperature, and a threshold with a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.certificate.evidence import Evidence
from cloud.certificate.grid import Grid
from cloud.certificate.promise import Promise
from cloud.certificate.sequence import Candidate, certified
from cloud.certificate.temperature import fit_temperature
from shared.model_spec import Calibration
from shared.scores import probabilities

NOTHING_ACCEPTED = 2.0
"""A threshold above every confidence: where nothing can be certified, everything escalates."""


def calibrate(
    logits: NDArray[np.floating[Any]],
    tier2_labels: NDArray[np.int64],
    tuning: int,
    promise: Promise,
    labels: NDArray[np.int64] | None = None,
) -> Calibration:
    """Fits temperature and threshold of a tier-1 artefact.

    The samples must be a uniform sample of the traffic (``sampling.py`` draws one): a bound on
    others says nothing about the traffic.

    Args:
        logits: float [N, labels] of the artefact that is deployed, on held-out inputs in order.
        tier2_labels: int64 [N], what tier-2 answers to them.
        tuning: the first so many fit temperature and grid; the others only certify.
        promise: what to certify.
        labels: int64 [N], people's; below 0 for none. Who has one must not depend on whether
            tier-1 is right: what people were asked because it seemed hard is left out.

    Returns:
        The calibration; without a certificate, one that accepts nothing and says why.
    """
    temperature = fit_temperature(logits[:tuning], tier2_labels[:tuning])
    scores = probabilities(logits.astype(np.float32), "logits", temperature)
    certainty, answers = scores.max(axis=1), scores.argmax(axis=1)
    evidence = Evidence.of(
        certainty[tuning:],
        answers[tuning:],
        tier2_labels[tuning:],
        None if labels is None else labels[tuning:],
    )
    outcome = certified(evidence, Grid.of(certainty[:tuning]), promise)
    chosen = choose(outcome.passed, promise.escalation_budget)
    if chosen is None:
        return Calibration(
            temperature,
            NOTHING_ACCEPTED,
            reason=f"cannot be certified with any threshold: {outcome.why}",
        )
    return Calibration(temperature, chosen.threshold, chosen.certificate)


def choose(candidates: Sequence[Candidate], escalation_budget: float) -> Candidate | None:
    """Returns the strictest threshold within the budget, else the one that escalates least.

    Args:
        candidates: as ``certified`` returns them.
        escalation_budget: share of the traffic, 0 to 1.
    """
    within = [
        candidate
        for candidate in candidates
        if 1.0 - candidate.certificate.coverage <= escalation_budget
    ]
    if within:
        return within[0]
    return candidates[-1] if candidates else None
