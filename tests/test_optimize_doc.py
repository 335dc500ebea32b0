"""The commands and the numbers of docs/optimize.md are those of the code."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest

from cloud.optimize.calibration import PERCENTILE
from cloud.optimize.choice import EQUAL_GAIN
from cloud.optimize.measuring import CONFIRMING_PAIRS, NEIGHBOURED_ROWS, PAIRS
from cloud.optimize.optimizer import MAX_CALIBRATION_ROWS, MAX_TEST_ROWS
from cloud.optimize.recipes import RECIPES, SOURCE
from cloud.optimize.rows import Budget
from escalon.cli import main

DOCUMENT = (Path(__file__).parents[1] / "docs" / "optimize.md").read_text()
MAKING, CALLING = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("optimize")


@pytest.fixture(scope="module")
def made(folder: Path) -> dict[str, Any]:
    """What the first block of Python leaves behind: names, and files in the folder."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(folder)
        warnings.simplefilter("ignore")  # skl2onnx uses old names of numpy's
        names: dict[str, Any] = {}
        exec(MAKING, names)
    return names


def test_its_commands_do_what_they_say(
    made: dict[str, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    (text,) = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        capsys.readouterr()
        assert main(words[1:]) in (0, 3)
    assert {path.name for path in (folder / "small").iterdir()} == {
        "model.onnx", "report.json", "plot.svg",
    }  # fmt: skip
    assert json.loads(capsys.readouterr().out)["budget"]["max_points_lost"] == 1.0


def test_its_python_does_what_it_says(
    made: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    exec(CALLING, made)
    assert (folder / "kept.onnx").read_bytes() == made["found"].model


def test_its_table_has_every_candidate() -> None:
    table = DOCUMENT.split("## What is made")[1].split("\n\nBefore")[0]
    assert f"makes up to {len(RECIPES)} candidates" in DOCUMENT
    named = set(re.findall(r"`([a-z0-9-]+)`", table))
    endings = {f"-{end}" for end in re.findall(r"`(?:…|)-([a-z]+)`", table)}
    for recipe in (SOURCE, *RECIPES):
        name = recipe.name
        while name not in named and any(name.endswith(end) for end in endings):
            name = name.rpartition("-")[0]
        assert name in named, recipe.name


def test_its_numbers_are_those_of_the_code() -> None:
    budget = Budget()
    kept = DOCUMENT.split("## What is kept")[1]
    assert f"at most {budget.max_points_lost:g} points of accuracy" in kept
    assert f"{100 * budget.level:g} % is what two measurements" in kept
    assert f"move by more than {budget.max_neighbour_shift:g}" in kept
    assert f"{budget.wished_speed_32:g} times as fast at a batch of 32" in kept
    assert f"at most {budget.wished_size:g} of the size" in kept
    assert f"give or take {100 * EQUAL_GAIN:g} %" in kept
    assert f"median of {PAIRS} pairs, {CONFIRMING_PAIRS} for what is kept" in kept
    assert f"asked {NEIGHBOURED_ROWS} samples one by one" in kept
    assert f"calibrates ({MAX_CALIBRATION_ROWS} at most)" in DOCUMENT
    assert f"tests ({MAX_TEST_ROWS} at most)" in DOCUMENT
    assert f"{PERCENTILE:g} % of the values" in DOCUMENT
