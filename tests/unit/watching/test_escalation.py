"""The certified rate is left by drift, and by nothing less."""

from __future__ import annotations

import numpy as np
import pytest

from cloud.watching.config import RetrainConfig
from cloud.watching.escalation import CertifiedRate
from cloud.watching.finding import Finding
from cloud.watching.series import Block

CONFIG = RetrainConfig(window=200, margin=0.1, p_value=1e-6)


@pytest.fixture
def test() -> CertifiedRate:
    return CertifiedRate(0.2, CONFIG)


def feed(test: CertifiedRate, rate: float, blocks: int) -> list[Finding | None]:
    return [test.add(Block(n, 5.0, 20, round(20 * rate))) for n in range(blocks)]


def test_more_than_was_certified_is_found_with_its_figures(test: CertifiedRate) -> None:
    assert not any(feed(test, 0.2, 20))
    found = next(filter(None, feed(test, 0.8, 20)))
    assert found.test == "binomial"
    assert found.words == "38% of 200 samples escalated where 20% were certified"


def test_the_certified_rate_is_not(test: CertifiedRate) -> None:
    rng = np.random.default_rng(1)
    assert not any(test.add(Block(n, 5.0, 20, int(unsure)))
                   for n, unsure in enumerate(rng.binomial(20, 0.2, 2000)))  # fmt: skip


def test_a_trifle_is_not_however_sure_it_is() -> None:
    test = CertifiedRate(0.2, RetrainConfig(window=100_000, margin=0.1, p_value=0.01))
    assert not test.add(Block(1, 5.0, 100_000, 29_000))
    assert test.add(Block(2, 5.0, 100_000, 31_000))


def test_a_few_samples_say_nothing_however_far_they_are(test: CertifiedRate) -> None:
    assert not any(feed(test, 1.0, 9))
    assert all(feed(test, 1.0, 1))


def test_old_samples_leave_the_window(test: CertifiedRate) -> None:
    feed(test, 0.0, 1000)
    assert any(feed(test, 1.0, 10))


def test_a_release_without_a_certificate_escalates_everything_and_is_never_worse() -> None:
    assert not any(feed(CertifiedRate(1.0, CONFIG), 1.0, 50))
