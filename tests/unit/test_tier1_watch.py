"""A node tests the certificate by its audit, tightens where it is broken, and says so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.model import Model
from shared.releases.manifest import Void
from tests.builders import load_echo
from tests.watch_rig import CERTIFICATE, Rig, certified
from tier1.calibration_watch import WINDOW
from tier1.watch import MAX_KEPT


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_echo(tmp_path_factory.mktemp("echo"))


@pytest.fixture
def rig(echo: Model) -> Rig:
    return Rig(certified(echo))


# The audit


def test_a_certificate_that_holds_stays_as_it_was_released(rig: Rig) -> None:
    rig.audit(1, 5000, 0.02)
    assert (rig.state, rig.threshold) == ("holds", 0.5)
    assert rig.value("edge_certificate_valid") == 1
    assert rig.value("edge_threshold") == 0.5


def test_one_that_is_broken_mildly_is_tightened_to_what_holds(rig: Rig) -> None:
    """Below 0.75 one of six is wrong: of all that is one of twelve, above it none."""
    rig.audit(2, 3000, 1 / 6, least=0.75)
    assert rig.state == "broken"
    assert 0.55 < rig.threshold < 0.95
    assert rig.value("edge_certificate_valid") == 0
    assert rig.value("edge_threshold") == rig.threshold
    assert rig.slot.info is not None
    assert rig.slot.info.threshold == rig.threshold
    assert "audited answers, certified were 5.00%" in rig.slot.info.remark


def test_after_tightening_the_risk_is_within_the_bound_again(echo: Model) -> None:
    """Over many nodes: where a threshold is found, its risk is above the bound hardly ever."""
    wrong = found = 0
    for seed in range(60):
        rig = Rig(certified(echo))
        rig.audit(seed, 1500, 1 / 6, least=0.75)
        if rig.state == "broken" and math.isfinite(rig.threshold):
            found += 1
            risk = max(0.0, 0.75 - rig.threshold) / (1 - rig.threshold) / 6
            wrong += risk > CERTIFICATE.alpha
    assert found >= 20
    assert wrong <= 0.05 * found + 3 * math.sqrt(0.05 * found)


def test_where_nothing_can_be_certified_nothing_is_accepted(rig: Rig) -> None:
    rig.audit(3, 500, 0.5)
    assert (rig.state, rig.threshold) == ("broken", math.inf)
    assert rig.slot.info is not None
    assert rig.slot.info.threshold is None
    assert "nothing is accepted" in rig.slot.info.remark
    assert rig.value("edge_threshold") == math.inf


def test_it_goes_on_testing_the_threshold_that_it_was_raised_to(rig: Rig) -> None:
    rig.audit(2, 3000, 1 / 6, least=0.75)
    raised = rig.threshold
    rig.audit(4, 6000, 0.3)
    assert rig.threshold > raised


def test_however_good_the_audit_is_afterwards_it_does_not_relax(rig: Rig) -> None:
    rig.audit(2, 3000, 1 / 6, least=0.75)
    raised = rig.threshold
    rig.audit(5, 20_000, 0.0)
    assert (rig.state, rig.threshold) == ("broken", raised)


def test_what_was_accepted_below_the_raised_threshold_does_not_count(rig: Rig) -> None:
    rig.audit(2, 3000, 1 / 6, least=0.75)
    raised = rig.threshold
    for _ in range(500):
        rig.watch.audited(rig.model.spec, np.nextafter(np.float32(raised), 0), agrees=False)
    assert rig.threshold == raised


def test_what_another_model_had_accepted_does_not_count(rig: Rig, echo: Model) -> None:
    old = rig.model
    rig.put(certified(echo, "2"))
    for _ in range(500):
        rig.watch.audited(old.spec, 0.9, agrees=False)
    assert rig.state == "holds"


@pytest.mark.parametrize(
    "model",
    [
        lambda echo: echo,
        lambda echo: certified(echo, alpha=0.0),
        lambda echo: certified(echo, alpha=1.0),
        lambda echo: certified(echo, delta=0.0),
    ],
    ids=["no-certificate", "nothing-allowed", "everything-allowed", "no-doubt"],
)
def test_what_cannot_be_tested_is_left_alone(echo: Model, model: Any) -> None:
    rig = Rig(model(echo))
    for _ in range(500):
        rig.watch.audited(rig.model.spec, 0.95, agrees=False)
    assert rig.threshold == rig.released


def test_what_is_kept_does_not_grow(rig: Rig) -> None:
    for number in range(WINDOW + 500):
        rig.watch.audited(rig.model.spec, 0.9, agrees=number % 50 > 0)
    (kept,) = rig.watch.kept
    assert (len(kept.certainties), len(kept.agreements)) == (4 * WINDOW, WINDOW)


# Another model, and the same again


def test_another_calibration_begins_anew(rig: Rig, echo: Model) -> None:
    rig.audit(3, 500, 0.5)
    rig.put(certified(echo, "2", threshold=0.6))
    assert (rig.state, rig.threshold) == ("holds", 0.6)


def test_the_same_calibration_comes_back_to_what_was_found_of_it(rig: Rig, echo: Model) -> None:
    """A probation that fails is no reason to trust the old certificate again."""
    broken = rig.model
    rig.audit(2, 3000, 1 / 6, least=0.75)
    raised = rig.threshold
    rig.put(certified(echo, "2"))
    rig.put(certified(echo, "1"))
    assert (rig.state, rig.threshold) == ("broken", raised)
    assert rig.watch.threshold(broken) == raised


def test_a_batch_of_the_model_before_goes_by_its_own_threshold(rig: Rig, echo: Model) -> None:
    old = rig.model
    rig.audit(2, 3000, 1 / 6, least=0.75)
    raised = rig.threshold
    rig.put(certified(echo, "2", threshold=0.6))
    assert rig.watch.threshold(old) == raised
    assert rig.watch.threshold(certified(echo, "0", threshold=0.7)) == 0.7


def test_of_models_long_gone_nothing_is_kept(rig: Rig, echo: Model) -> None:
    for number in range(2, 10):
        rig.put(certified(echo, str(number)))
    assert len(rig.watch.kept) == MAX_KEPT


# Drift


@pytest.mark.parametrize(
    ("signal", "after"),
    [("escalation_rate", {"rate": 0.5}), ("confidence", {"rate": 0.1, "confidence": 0.6})],
)
def test_a_drift_alarms_and_voids_the_certificate_of_this_node(
    rig: Rig, signal: str, after: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    assert rig.gate(1, 20_000, 0.1) == 0
    assert rig.state == "holds"
    assert rig.gate(2, 2000, **after) == 1
    assert rig.state == "void"
    assert rig.threshold == 0.5
    assert rig.value("edge_drift_alarms_total", signal=signal) == 1
    assert rig.slot.info is not None
    assert rig.slot.info.drift_alarms == 1
    assert "has left its mean" in caplog.text


def test_of_a_model_without_a_certificate_drift_is_counted_too(echo: Model) -> None:
    rig = Rig(echo)
    rig.gate(1, 20_000, 0.1)
    rig.gate(2, 2000, 0.5)
    assert rig.state == "none"
    assert rig.slot.info is not None
    assert rig.slot.info.drift_alarms == 1


def test_batches_of_the_model_before_count_for_nothing(rig: Rig, echo: Model) -> None:
    old = rig.model
    rig.gate(1, 20_000, 0.1)
    rig.put(certified(echo, "2"))
    rig.gate(2, 20_000, 0.5)
    assert rig.state == "holds"
    assert rig.watch.gated(old, 10_000, 10_000, 0.0) == 0


# Void by the manifest


def test_a_void_manifest_is_said_and_the_threshold_stays(rig: Rig) -> None:
    rig.slot.mark(Void(reason="the fleet drifts", since=1.0))
    assert (rig.state, rig.threshold) == ("void", 0.5)
    assert rig.value("edge_certificate_valid") == 0
    rig.slot.mark(None)
    assert rig.state == "holds"
    assert rig.value("edge_certificate_valid") == 1


def test_a_restored_certificate_does_not_relax_what_the_audit_has_raised(rig: Rig) -> None:
    rig.audit(2, 3000, 1 / 6, least=0.75)
    raised = rig.threshold
    rig.slot.mark(Void(reason="the fleet drifts", since=1.0))
    rig.slot.mark(None)
    assert (rig.state, rig.threshold) == ("broken", raised)


# At scale: what is found does not depend on the score


def test_a_certainty_without_an_upper_end_is_tightened_as_well(echo: Model, tmp_path: Path) -> None:
    model = certified(echo, threshold=5.0)
    rig = Rig(model)
    rng = np.random.default_rng(1)
    for _ in range(3000):
        energy = float(rng.uniform(5.0, 25.0))
        if energy >= rig.threshold:
            rig.watch.audited(model.spec, energy, agrees=energy > 12 or rng.random() > 0.3)
    assert rig.state == "broken"
    assert 5.0 < rig.threshold < 25.0
