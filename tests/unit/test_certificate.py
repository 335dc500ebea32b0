"""What a node says of the certificate of the model that serves."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from shared.certificate import NOTHING_FOUND, Finding, describe
from shared.messages import CertificateState, ModelInfo, from_json, to_json
from shared.model_spec import Calibration
from shared.releases.manifest import Void
from tests.builders import CERTIFICATE, spec

PLAIN = spec(threshold=0.8)
CERTIFIED = replace(PLAIN, calibration=Calibration(1.0, 0.8, CERTIFICATE))
VOID = Void(reason="the fleet drifts", since=1.0)
BROKEN = Finding(threshold=0.9, broken="tier-2 disagrees")
DRIFTED = Finding(drifted="it escalates more", drift_alarms=2)


@pytest.mark.parametrize(
    ("finding", "void", "state", "remark"),
    [
        (NOTHING_FOUND, None, "holds", ""),
        (NOTHING_FOUND, VOID, "void", "the fleet drifts"),
        (DRIFTED, None, "void", "it escalates more"),
        (DRIFTED, VOID, "void", "the fleet drifts"),
        (BROKEN, None, "broken", "tier-2 disagrees"),
        (BROKEN, VOID, "broken", "tier-2 disagrees"),
    ],
    ids=["nothing", "void", "drifted", "both", "broken", "broken-and-void"],
)
def test_it_says_whether_the_certificate_counts_and_why_not(
    finding: Finding, void: Void | None, state: CertificateState, remark: str
) -> None:
    info = describe(CERTIFIED, finding, void)
    assert (info.certificate, info.remark) == (state, remark)


@pytest.mark.parametrize("void", [None, VOID])
def test_where_nothing_was_certified_there_is_nothing_to_void(void: Void | None) -> None:
    info = describe(PLAIN, DRIFTED, void)
    assert (info.certificate, info.remark, info.drift_alarms) == ("none", "", 2)


@pytest.mark.parametrize(
    ("finding", "threshold"),
    [(NOTHING_FOUND, 0.8), (BROKEN, 0.9), (Finding(threshold=math.inf, broken="x"), None)],
    ids=["released", "raised", "accepts-nothing"],
)
def test_it_says_which_threshold_the_gate_goes_by(
    finding: Finding, threshold: float | None
) -> None:
    info = describe(CERTIFIED, finding, VOID)
    assert info.threshold == threshold
    assert from_json(to_json(info), ModelInfo) == info


def test_what_an_older_node_says_is_read() -> None:
    old = b'{"model": "meter", "version": "1", "sha256": "0"}'
    assert from_json(old, ModelInfo).certificate == "none"
