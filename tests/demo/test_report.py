"""The check that CI holds a demo's report against: it passes a good one and fails each bad one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from escalon.demo.report import (
    DemoReport,
    FirstModels,
    NodeRelease,
    PhaseReport,
    ReleaseReport,
)
from tests.demo_report import shortcomings


def phase(**changes: Any) -> PhaseReport:
    good = PhaseReport(
        samples=1000,
        predictions=1000,
        lost=0,
        duplicates=0,
        accuracy=0.97,
        tier1_accuracy=0.90,
        tier2_accuracy=0.97,
        escalation_rate=0.2,
        audit_rate=0.1,
        fallback_rate=0.0,
        p50_ms=2.0,
        p99_ms=9.0,
        bytes_sensor=1,
        bytes_escalation=1,
        bytes_uplink=1,
    )
    return msgspec.structs.replace(good, **changes)


def report() -> DemoReport:
    nodes = [NodeRelease(f"tier1-{name}", "2", "COMMITTED", 2.0, []) for name in "abc"]
    return DemoReport(
        phases={
            "steady": phase(),
            "drift": phase(accuracy=0.88, escalation_rate=0.4),
            "rollout": phase(),
            "after": phase(accuracy=0.94),
        },
        release=ReleaseReport("1", "2", nodes, 9, 29, 0.92, 0.92, {"alpha": 0.05}, 0.9),
        first_models=FirstModels(9, 29, 0.90, 0.90, 300),
        broker="Mosquitto",
        seed=1,
        seconds_total=70.0,
        corrections=0,
        unacknowledged=0,
    )


def with_phase(name: str, **changes: Any) -> DemoReport:
    good = report()
    changed = msgspec.structs.replace(good.phases[name], **changes)
    return msgspec.structs.replace(good, phases=good.phases | {name: changed})


def with_release(**changes: Any) -> DemoReport:
    good = report()
    release = msgspec.structs.replace(good.release, **changes)
    return msgspec.structs.replace(good, release=release)


def with_first_models(**changes: Any) -> DemoReport:
    good = report()
    first = msgspec.structs.replace(good.first_models, **changes)
    return msgspec.structs.replace(good, first_models=first)


def test_a_good_report_has_no_shortcomings() -> None:
    assert shortcomings(report()) == []


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(with_phase("rollout", lost=1), id="a sample lost while swapping"),
        pytest.param(with_phase("after", duplicates=1), id="an answer too many"),
        pytest.param(with_phase("drift", samples=0), id="an empty phase"),
        pytest.param(with_phase("steady", escalation_rate=0.26), id="escalates too much"),
        pytest.param(with_phase("steady", accuracy=0.96), id="less than 90 % of the way"),
        pytest.param(with_phase("after", accuracy=0.88), id="no more accurate than in drift"),
        pytest.param(with_phase("after", escalation_rate=0.4), id="escalates as in drift"),
        pytest.param(with_release(int8_bytes=10), id="new artefact over a third"),
        pytest.param(with_release(int8_accuracy=0.90), id="new artefact loses two points"),
        pytest.param(with_release(certificate=None), id="not certified"),
        pytest.param(with_release(nodes=[]), id="no node committed"),
        pytest.param(with_release(new_version="3"), id="another version committed"),
        pytest.param(with_phase("steady", tier2_accuracy=0.9), id="tier-2 is no better"),
        pytest.param(with_phase("after", p99_ms=None), id="no latencies"),
        pytest.param(
            msgspec.structs.replace(report(), unacknowledged=1), id="a sample never arrived"
        ),
        pytest.param(with_first_models(tier1_int8_bytes=10), id="first artefact over a third"),
        pytest.param(
            with_first_models(tier1_int8_accuracy=0.88), id="first artefact loses two points"
        ),
    ],
)
def test_each_shortcoming_is_found(bad: DemoReport) -> None:
    assert len(shortcomings(bad)) == 1
