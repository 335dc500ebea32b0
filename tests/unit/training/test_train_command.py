"""``escalon train`` makes a candidate of a pipeline's first models, and says how far it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloud.training.order import read_report
from escalon.cli import main
from tests.cloud_desk import TIER2, Desk, Said
from tests.training_data import LABELS, write_base

SMALL = {"hidden": [32], "augmented_copies": 3, "learning_rate": 0.01}


@pytest.fixture
def desk(tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> Desk:
    found = Desk(tmp_path, capsys)
    write_base(tmp_path / "data")
    found.write_config(
        input={"shape": [6]}, labels=list(LABELS),
        training={"base": "data", "first_job": "first", "input_maximum": 16, "tier2": SMALL},
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    return found


def test_it_trains_shows_how_far_it_is_and_says_what_came_of_it(desk: Desk) -> None:
    assert main(["train", "try", "--config", "cloud.yaml"]) == 0
    said = desk.said.readouterr()
    stages = [line.split(",")[0] for line in said.err.splitlines()]
    assert list(dict.fromkeys(stages)) == ["tier2", "tier1", "testing"]
    assert "tier2, epoch 15/15   loss " in said.err
    assert "int8: " in said.out
    assert "disagrees on at most" in said.out
    report = read_report(desk.folder / "try" / "candidate")
    assert report is not None
    assert main(["train", "try", "--config", "cloud.yaml", "--json"]) == 0
    again = json.loads(desk.said.readouterr().out)
    assert again["fingerprint"] == report.fingerprint
    assert again["seconds"] == report.seconds  # nothing was trained


def test_a_failure_is_said_in_words(desk: Desk) -> None:
    (desk.folder / "data" / "train.npz").write_bytes(b"no data")
    assert main(["train", "try", "--config", "cloud.yaml"]) == 1
    error = desk.said.readouterr().err
    assert "escalon: training failed: cannot read" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--pipeline", "pump"], "no pipeline pump is trained; trained are: meter"),
        ([], "which pipeline? Trained are: none"),
    ],
    ids=["another", "none"],
)
def test_a_pipeline_that_is_not_trained_is_named(
    desk: Desk, options: list[str], reason: str
) -> None:
    if not options:
        desk.write_config(training=None)
    assert main(["train", "try", "--config", "cloud.yaml", *options]) == 1
    assert reason in desk.said.readouterr().err
    assert TIER2 in desk.config.read_text()


def test_without_a_cloud_the_command_line_is_wrong(desk: Desk) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "try"])
    assert ended.value.code == 2
