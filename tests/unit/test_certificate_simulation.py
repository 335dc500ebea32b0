"""Redrawn a thousand times, a certificate is wrong as seldom as it says, and a guess is not.

Tier-1 has two labels and the logits (m, 0), where m >= 0; tier-2 agrees with a chance of
sigmoid(m). So the temperature is 1, a threshold of t on the confidence is one of logit(t) on m, and
the risk of a threshold is known but for one numeric integral.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

from cloud.certificate.calibration import calibrate
from cloud.certificate.evidence import Evidence
from cloud.certificate.grid import Grid
from cloud.certificate.observed import Observed
from cloud.certificate.promise import Promise
from cloud.certificate.sampling import uniform_rows
from cloud.certificate.sequence import certified
from cloud.certificate.what_if import certify
from shared.scores import probabilities
from tests.traffic import most_by_chance

REDRAWS = 1000
LAXEST = Promise(alpha=0.02, delta=0.05, escalation_budget=0.0)
"""2 % with 95 % confidence. Without a budget the laxest threshold that passed is chosen, which is
wrong most easily."""
ALLOWED = most_by_chance(REDRAWS, LAXEST.delta)
STEPS = 400_000
RUNNING_M = 2.0
RUNNING = float(expit(RUNNING_M))

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    """Traffic whose m are the absolute values of a normal distribution."""

    spread: float

    def margins(self, ranks: Column) -> Column:
        """Returns m at ranks of the traffic, 0 to 1."""
        return np.asarray(self.spread * ndtri((1 + ranks) / 2))

    @property
    def hard_share(self) -> float:
        """Share of the traffic that the running threshold does not accept."""
        return float(2 * ndtr(RUNNING_M / self.spread) - 1)

    def above(self, m: Column) -> tuple[Column, Column]:
        """Returns P(accepted) and P(accepted and disagrees) of thresholds on m."""
        ranks = (np.arange(STEPS) + 0.5) / STEPS
        steps = self.margins(ranks)
        wrong = np.concatenate([[0], np.cumsum(expit(-steps))]) / STEPS
        first = np.searchsorted(steps, m)
        return 1 - first / STEPS, wrong[-1] - wrong[first]


def risks(sites: list[Site], thresholds: Column, temperatures: Column) -> Column:
    """Returns P(disagrees | accepted) of thresholds on the confidence; sites count alike."""
    m = temperatures * logit(thresholds)
    parts = [site.above(m) for site in sites]
    return np.asarray(sum(wrong for _, wrong in parts) / sum(accepted for accepted, _ in parts))


def two_logits(m: Column) -> Column:
    return np.stack([m, np.zeros_like(m)], axis=1)


def held_out(rng: np.random.Generator, site: Site, n: int) -> tuple[Column, NDArray[np.int64]]:
    m = site.margins(rng.random(n))
    return two_logits(m), (rng.random(n) > expit(m)).astype(np.int64)


def test_a_certificate_is_wrong_as_seldom_as_it_says_and_a_naive_threshold_far_more_often() -> None:
    rng, site, tuning = np.random.default_rng(1), Site(8.0), 750
    chosen, naive = np.empty((REDRAWS, 2)), np.empty((REDRAWS, 2))
    for draw in range(REDRAWS):
        logits, tier2 = held_out(rng, site, 3000)
        calibration = calibrate(logits, tier2, tuning, LAXEST)
        chosen[draw] = calibration.threshold, calibration.temperature
        scores = probabilities(logits.astype(np.float32), "logits", calibration.temperature)
        certainty, answers = scores.max(axis=1), scores.argmax(axis=1)
        grid = Grid.of(certainty[:tuning])
        seen = Evidence.of(certainty[tuning:], answers[tuning:], tier2[tuning:])
        accepted = seen.accepted(grid.thresholds)
        (good,) = np.nonzero(accepted.disagreements <= LAXEST.alpha * accepted.n)
        naive[draw] = grid.thresholds[good[-1]], calibration.temperature
    gives = chosen[:, 0] <= 1
    wrong = (risks([site], *chosen[gives].T) > LAXEST.alpha).sum()
    naively_wrong = (risks([site], *naive.T) > LAXEST.alpha).sum()
    assert gives.mean() > 0.95
    assert wrong <= ALLOWED
    assert naively_wrong > 3 * ALLOWED


HARD_SITE, EASY_SITE = Site(4.0), Site(12.0)


def recorded(rng: np.random.Generator, gated: int, shares: tuple[float, float]) -> Observed:
    """Returns what two sites send of their traffic that audit another share each."""
    m, chances, audited = [], [], []
    for site, audit_share in zip((HARD_SITE, EASY_SITE), shares, strict=True):
        hard_share = site.hard_share
        hard = rng.binomial(gated, hard_share)
        drawn = rng.binomial(gated - hard, audit_share)
        ranks = np.concatenate(
            [hard_share * rng.random(hard), hard_share + (1 - hard_share) * rng.random(drawn)]
        )
        m.append(site.margins(ranks))
        chances.append(np.repeat([1.0, audit_share], [hard, drawn]))
        audited.append(np.concatenate([rng.random(hard) < audit_share, np.full(drawn, True)]))
    order = rng.permutation(sum(map(len, m)))
    margins = np.concatenate(m)[order]
    disagrees = rng.random(len(order)) > expit(margins)
    return Observed(
        certainty=expit(margins).astype(np.float32),
        answers=np.zeros(len(order), np.int64),
        tier2_answers=disagrees.astype(np.int64),
        labels=np.full(len(order), -1),
        asked=np.full(len(order), False),
        chances=np.concatenate(chances)[order],
        audited=np.concatenate(audited)[order],
        input_share=1.0,
    )


def laxest(observed: Observed, rows: NDArray[np.intp], rng: np.random.Generator) -> float:
    """Returns the laxest threshold that is certified on rows, above 1 where none is."""
    passed = certify(observed, rows, [RUNNING], LAXEST, rng).passed
    return passed[-1].threshold if passed else 2.0


@pytest.mark.parametrize("shares", [(0.05, 0.05), (0.04, 0.4)], ids=["one-share", "two-shares"])
def test_recorded_traffic_certifies_as_seldom_wrongly_whatever_share_is_audited_where(
    shares: tuple[float, float],
) -> None:
    rng = np.random.default_rng(2)
    thinned, pooled = np.empty(REDRAWS), np.empty(REDRAWS)
    for draw in range(REDRAWS):
        observed = recorded(rng, 25_000, shares)
        thinned[draw] = laxest(observed, uniform_rows(observed.chances, rng), rng)
        pooled[draw] = laxest(observed, np.flatnonzero(observed.audited), rng)
    wrong, wrong_pooled = (
        (risks([HARD_SITE, EASY_SITE], found[found <= 1], np.array(1.0)) > LAXEST.alpha).sum()
        for found in (thinned, pooled)
    )
    assert (thinned <= 1).mean() > 0.5
    assert wrong <= ALLOWED
    if shares[0] == shares[1]:  # then what was audited is a uniform sample as it is
        assert wrong_pooled <= ALLOWED
    else:
        assert wrong_pooled > 5 * ALLOWED


def test_what_labels_of_people_promise_is_wrong_as_seldom() -> None:
    # Tier-2 always agrees, and tier-1 is wrong a little more often than is promised.
    rng, n = np.random.default_rng(3), 4000
    promised = 0
    for _ in range(REDRAWS):
        certainty = rng.random(n).astype(np.float32)
        right = rng.random(n) >= 1.02 * LAXEST.alpha
        seen = Evidence(certainty, np.full(n, True), rng.random(n) < 0.5, right)
        outcome = certified(seen, Grid.of(rng.random(1000).astype(np.float32)), LAXEST)
        promised += any(each.certificate.label_bound is not None for each in outcome.passed)
    assert promised <= ALLOWED
