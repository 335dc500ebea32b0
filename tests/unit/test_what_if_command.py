"""``escalon what-if``: from a cloud's store to a table, and from a threshold to a rollout."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.registry import Registry
from escalon.cli import main
from shared.model_spec import Certificate
from tests.builders import CHANNEL, diagonal_onnx
from tests.cloud_desk import TIER2, Desk
from tests.recording import opened, record
from tests.traffic import Columns, Seen

THRESHOLD, AUDIT_SHARE = 0.9, 0.2

Said = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def columns() -> Columns:
    seen = Seen.of(np.random.default_rng(1), 6000)
    return seen.sent(np.random.default_rng(2), THRESHOLD, AUDIT_SHARE)


class Asking(Desk):
    """A person who asks what other thresholds would have done."""

    def ask(self, *arguments: object, code: int = 0) -> str:
        self.said.readouterr()
        given = ["what-if", str(self.config), *map(str, arguments)]
        assert main(given) == code, self.said.readouterr().err
        told = self.said.readouterr()
        return told.err if code else told.out

    def table(self, *arguments: object) -> Any:
        return json.loads(self.ask("--json", *arguments))

    def version(self, name: str) -> Any:
        found = Registry(self.state / "registry").version(CHANNEL, name)
        assert found is not None
        return found


@pytest.fixture
def desk(tmp_path: Path, capsys: Said, columns: Columns) -> Asking:
    """A cloud whose version 1 stands and has sent traffic."""
    desk = Asking(tmp_path, capsys)
    desk.fleet("press-1")
    desk.publish()
    desk.complete()
    record(desk.config, columns)
    return desk


def test_what_was_recorded_becomes_a_table(desk: Asking, columns: Columns) -> None:
    table = desk.table("--pipeline", "meter")
    assert (table["pipeline"], table["tier1_version"], table["tier2_version"]) == (
        "meter", f"{CHANNEL}/1", f"{TIER2}/7",
    )  # fmt: skip
    assert table["samples"] == len(columns.label)
    assert [row["threshold"] for row in table["rows"] if row["runs"]] == [float(np.float32(0.9))]
    assert any(row["certificate"] for row in table["rows"])
    assert table["promise"] == {"alpha": 0.05, "delta": 0.05, "escalation_budget": 0.2}
    text = desk.ask()
    assert f"meter: {CHANNEL}/1 of tier-1 beside {TIER2}/7 of tier-2." in text
    assert text.count("%") > 50


def test_asked_twice_it_says_the_same(desk: Asking) -> None:
    assert desk.ask() == desk.ask()


def test_only_what_came_since_is_looked_at(desk: Asking, columns: Columns) -> None:
    assert desk.table("--since", "2h")["samples"] == len(columns.label)
    error = desk.ask("--since", "2100-01-01", code=1)
    assert f"nothing is recorded of version {CHANNEL}/1 in this time. Fix: an earlier" in error


def test_versions_before_are_drawn_beside_it(desk: Asking, columns: Columns) -> None:
    desk.publish(model=desk.file("other.onnx", diagonal_onnx(3.0)))
    desk.complete()
    seen = Seen.of(np.random.default_rng(3), 3000, gain=8.0)
    better = seen.sent(np.random.default_rng(4), THRESHOLD, AUDIT_SHARE, versions=("2", "7"))
    record(desk.config, better, "b")
    table = desk.table()
    assert [each["version"] for each in table["versions"]] == [f"{CHANNEL}/1", f"{CHANNEL}/2"]
    first, second = (each["augrc"] for each in table["versions"])
    assert second < first
    assert table["samples"] == len(better.label)
    earlier = desk.table("--tier1-version", "1")
    assert [each["samples"] for each in earlier["versions"]] == [len(columns.label)]


def test_labels_of_people_count(desk: Asking, columns: Columns) -> None:
    seen = Seen.of(np.random.default_rng(5), 1000)
    labelled = seen.sent(np.random.default_rng(6), THRESHOLD, AUDIT_SHARE, label_share=0.5)
    record(desk.config, labelled, "l")
    table = desk.table()
    assert table["labelled"] == (labelled.label >= 0).sum()
    assert table["rows"][0]["accuracy"]["value"] < 1
    before = max(row["certificate"]["labelled"] for row in table["rows"] if row["certificate"])
    assert before > 10
    with opened(desk.config) as store:
        assert store.queue("meter", 100_000, 0.0) == []  # tier-2 is sure of all
    assert desk.table() == table


def test_before_anything_is_recorded_it_says_so(tmp_path: Path, capsys: Said) -> None:
    desk = Asking(tmp_path, capsys)
    assert "nothing is recorded yet" in desk.ask(code=1)
    assert not (desk.state / "telemetry.sqlite").exists()


def test_before_a_version_stands_it_says_so(tmp_path: Path, capsys: Said, columns: Columns) -> None:
    desk = Asking(tmp_path, capsys)
    record(desk.config, columns)
    assert f"no version stands in {CHANNEL} yet" in desk.ask(code=1)


def test_a_wrong_command_line_is_said(desk: Asking) -> None:
    assert "pipelines are meter" in desk.ask("--pipeline", "x", code=2)
    assert "there is no version 9" in desk.ask("--tier1-version", "9", code=2)
    for option in (["--since", "lately"], ["--samples-a-message", "0"]):
        with pytest.raises(SystemExit) as ended:
            desk.ask(*option)
        assert ended.value.code == 2


def test_a_refusal_is_json_for_a_program(desk: Asking) -> None:
    desk.said.readouterr()
    assert main(["what-if", str(desk.config), "--json", "--since", "2100-01-01"]) == 1
    assert "nothing is recorded" in json.loads(desk.said.readouterr().out)["error"]


def test_more_samples_in_a_message_take_fewer_bytes(desk: Asking) -> None:
    one, many = desk.table(), desk.table("--samples-a-message", "64")
    assert many["all_bytes"] < one["all_bytes"]


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra plots")
def test_it_is_drawn(desk: Asking) -> None:
    desk.ask("--plot", desk.folder / "what-if.svg")
    assert (desk.folder / "what-if.svg").read_text().rstrip().endswith("</svg>")


def test_what_cannot_be_drawn_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    error = Asking(tmp_path, capsys).ask("--plot", "a.svg", code=1)
    assert "pip install 'escalon[plots]'" in error


# Writing


def certified(desk: Asking) -> list[float]:
    return [row["threshold"] for row in desk.table()["rows"] if row["certificate"]]


def test_a_certified_threshold_becomes_a_version_and_is_offered(desk: Asking) -> None:
    threshold = certified(desk)[-1]
    said = desk.ask("--write", threshold, "--by", "ada")
    version = desk.version("2")
    (variant,) = version.release.variants
    (before,) = desk.version("1").release.variants
    assert variant.calibration.threshold == threshold
    assert isinstance(variant.calibration.certificate, Certificate)
    assert variant.calibration.temperature == before.calibration.temperature
    assert variant.artefact == before.artefact
    assert (version.by, version.parents) == ("ada", (f"{CHANNEL}/1",))
    assert "instead of 0.9, by what-if on" in version.notes
    assert (desk.record.version, desk.record.base) == ("2", "1")
    assert f"{CHANNEL}/2: threshold" in said
    assert "certified: at most 5 % with 95 %" in said


def test_the_threshold_may_be_written_as_the_table_shows_it(desk: Asking) -> None:
    line = next(line for line in desk.ask().splitlines() if "<=" in line and "*" not in line)
    desk.ask("--write", line.split()[0])
    assert desk.version("2").release.variants[0].calibration.certificate is not None


def test_written_again_after_it_was_cut_off_it_is_the_same_version(desk: Asking) -> None:
    threshold, before = certified(desk)[0], desk.record
    desk.ask("--write", threshold)
    desk.rollout.write(before)  # cut off before the rollout began
    desk.ask("--write", threshold)
    assert desk.record.version == "2"
    assert {each["version"] for each in desk.json("list")} == {"1", "2"}


@pytest.mark.parametrize(
    ("threshold", "problem"),
    [
        pytest.param(0.0, "threshold 0 is not certified (at threshold", id="in-the-table"),
        pytest.param(0.123, "threshold 0.123 is not in the table, so it was not tested", id="else"),
    ],
)
def test_nothing_uncertified_is_written_unless_it_is_said(
    desk: Asking, threshold: float, problem: str
) -> None:
    error = desk.ask("--write", threshold, code=1)
    assert problem in error
    assert "Fix: take one of them, or say --uncertified" in error
    assert [each["version"] for each in desk.json("list")] == ["1"]
    assert "not certified" in desk.ask("--write", threshold, "--uncertified", "--by", "bob")
    calibration = desk.version("2").release.variants[0].calibration
    assert calibration.threshold == pytest.approx(threshold)
    assert calibration.certificate is None
    assert calibration.reason == "bob chose the threshold without a certificate"


def test_a_threshold_that_no_node_could_hold_is_refused(desk: Asking) -> None:
    assert "the threshold is negative" in desk.ask("--write=-1", "--uncertified", code=1)
    assert [each["version"] for each in desk.json("list")] == ["1"]


def test_a_threshold_of_another_version_than_stands_is_not_written(
    desk: Asking, columns: Columns
) -> None:
    threshold = certified(desk)[0]
    desk.publish(model=desk.file("other.onnx", diagonal_onnx(3.0)))
    desk.complete()
    error = desk.ask("--tier1-version", "1", "--write", threshold, code=1)
    assert "version 2 stands now" in error


def test_what_somebody_has_halted_is_not_replaced(desk: Asking) -> None:
    threshold = certified(desk)[0]
    desk.publish(model=desk.file("other.onnx", diagonal_onnx(3.0)))
    desk.output("halt", "--channel", CHANNEL)
    error = desk.ask("--tier1-version", "1", "--write", threshold, code=1)
    assert "not written: the rollout of version 2 is halted" in error
