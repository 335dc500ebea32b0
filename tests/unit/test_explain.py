"""``escalon explain`` tells one sample's story from what the store and the registry hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.store import FoundSample
from escalon.cli import main
from escalon.explain.story import told
from escalon.explain.words import WHY_SENT, in_words
from shared.model_spec import Calibration
from tests.builders import CERTIFICATE, CHANNEL, LABELS
from tests.cloud_desk import TIER2, Desk
from tests.recording import record
from tests.traffic import Columns, Seen

Said = pytest.CaptureFixture[str]
CERTIFIED = Calibration(1.0, 0.9, CERTIFICATE)


def sample(**changes: Any) -> FoundSample:
    whole: dict[str, Any] = {
        "number": 1, "received_s": 1_700_000_005.0, "site": "plant", "node": "press-1",
        "sensor": "cam-01", "id": "a1", "timestamp": "1700000000.5", "reason": "low_confidence",
        "audit": False, "inclusion_probability": 1.0, "tier1_version": "3", "tier2_version": "7",
        "tier1": np.array([0.6, 0.3, 0.1], np.float32),
        "tier2": np.array([0.05, 0.9, 0.05], np.float32), "label": None, "has_input": True,
    }  # fmt: skip
    return FoundSample(**(whole | changes))


def tell(calibration: Calibration | None = CERTIFIED, **changes: Any) -> dict[str, str]:
    """Returns the lines of a story by their names."""
    story = told(
        sample(**changes), pipeline="meter", channels=(CHANNEL, TIER2), labels=LABELS,
        calibration=calibration,
    )  # fmt: skip
    lines = in_words(story).splitlines()[1:]
    return {line.split()[0]: line[12:].strip() for line in lines}


def test_a_hard_sample_was_asked_about() -> None:
    lines = tell()
    assert lines["tier-1"] == f"press-1, {CHANNEL}/3: zero (0.6000), one (0.3000), two (0.1000)"
    assert lines["rule"].startswith("max_probability 0.6 is below the threshold 0.9; P(tier-1")
    assert lines["why"] == "tier-1 was not sure, and asked (low_confidence)"
    assert lines["tier-2"].startswith(f"{TIER2}/7: one (0.9000)")
    assert lines["tier-2"].endswith("it disagrees")
    assert lines["answer"].startswith("one, by tier-2, if that came within the deadline")
    assert "counts for 1;" in lines["chance"]
    assert lines["label"] == "none by a person"


def test_an_easy_sample_was_answered_and_audited() -> None:
    lines = tell(
        reason="audit", audit=True, inclusion_probability=0.02,
        tier1=np.array([0.02, 0.95, 0.03], np.float32),
    )  # fmt: skip
    assert "is at or above the threshold 0.9" in lines["rule"]
    assert lines["answer"] == "one, by tier-1"
    assert lines["tier-2"].endswith("it agrees")
    assert lines["chance"] == (
        "2 % of such samples are sent on, so it counts for 50; the audit drew it"
    )


def test_a_label_says_who_was_right() -> None:
    assert tell(label="one")["label"] == "one, by a person: right was tier-2"
    assert tell(label="zero")["label"] == "zero, by a person: right was tier-1"
    assert tell(label="two")["label"] == "two, by a person: right was neither"


def test_malformed_scores_are_told_as_such() -> None:
    lines = tell(reason="invalid_scores", tier1=np.full(3, np.nan, np.float32))
    assert lines["tier-1"].endswith("malformed scores")
    assert lines["rule"].startswith("accepts from a max_probability of 0.9 on")
    assert "agrees" not in lines["tier-2"]


@pytest.mark.parametrize("reason", ["offline", "something_new"])
def test_every_reason_is_told(reason: str) -> None:
    assert tell(reason=reason)["why"] == f"{WHY_SENT.get(reason, reason)} ({reason})"


def test_the_rule_is_as_much_as_is_known() -> None:
    assert tell(None)["rule"] == f"not known: {CHANNEL}/3 is not in the registry"
    margin = tell(Calibration(1.0, 0.5, score="margin"))["rule"]
    assert margin == "margin 0.3 is below the threshold 0.5"
    energy = tell(Calibration(1.0, 4.5, score="energy"))["rule"]
    assert energy == "accepts from a energy of 4.5 on"
    nothing = tell(Calibration(1.0, 2.0, reason="cannot be certified with any threshold: too few"))[
        "rule"
    ]
    assert nothing.endswith("; cannot be certified with any threshold: too few")


def test_a_timestamp_is_told_as_its_sensor_wrote_it() -> None:
    assert "its own time: 2023-11-1" in tell()["sensor"]
    assert "its own time: 2026-01-31T10:00Z" in tell(timestamp="2026-01-31T10:00Z")["sensor"]


def test_scores_of_another_model_have_numbers_for_labels() -> None:
    assert "3 (0.7000)" in tell(tier2=np.array([0.1, 0.1, 0.1, 0.7], np.float32))["tier-2"]


# The command


@pytest.fixture(scope="module")
def columns() -> Columns:
    seen = Seen.of(np.random.default_rng(1), 60)
    return seen.sent(np.random.default_rng(2), 0.9, 0.5, label_share=0.5)


@pytest.fixture
def desk(tmp_path: Path, capsys: Said, columns: Columns) -> Desk:
    desk = Desk(tmp_path, capsys)
    desk.publish()
    record(desk.config, columns)
    return desk


def explain(desk: Desk, *arguments: str, code: int = 0) -> str:
    desk.said.readouterr()
    assert main(["explain", arguments[0], str(desk.config), *arguments[1:]]) == code
    told = desk.said.readouterr()
    return told.err if code else told.out


def test_the_story_of_what_is_stored_is_told(desk: Desk, columns: Columns) -> None:
    (story,) = json.loads(explain(desk, "a-3", "--json"))
    assert (story["sensor"], story["node"], story["id"]) == ("cam-01", "press-cam-01", "a-3")
    best = int(columns.tier1[3].argmax())
    assert story["tier1"][0] == {
        "label": LABELS[best],
        "probability": pytest.approx(float(columns.tier1[3][best]), abs=1e-6),
    }
    assert story["rule"]["threshold"] == 0.9
    assert story["rule"]["certainty"] == pytest.approx(float(columns.tier1[3].max()))
    assert (story["label"] is None) == (columns.label[3] < 0)
    assert "meter: cam-01 -> press-cam-01 -> tier-2 -> cloud" in explain(
        desk, "a-3", "--sensor", "cam-01"
    )


def test_of_several_samples_with_an_id_the_newest_is_told(desk: Desk) -> None:
    later = Seen.of(np.random.default_rng(3), 60).sent(np.random.default_rng(4), 0.9, 0.5)
    record(desk.config, later, sensor="cam-02")
    told = explain(desk, "a-3")
    assert told.startswith("meter: cam-02 ->")
    assert told.endswith("1 more have this id: name --site and --sensor, or see --json\n")
    assert len(json.loads(explain(desk, "a-3", "--json"))) == 2
    assert explain(desk, "a-3", "--sensor", "cam-01").startswith("meter: cam-01 ->")


def test_what_left_no_trace_is_said(desk: Desk) -> None:
    error = explain(desk, "nobody", code=1)
    assert "nothing is recorded of sample nobody. What tier-1 was sure of" in error
    assert "nothing is recorded" in explain(desk, "a-3", "--sensor", "cam-99", code=1)
    assert "known are meter" in explain(desk, "a-3", "--pipeline", "x", code=2)
