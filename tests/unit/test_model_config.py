"""The model of a YAML: its labels from wherever they are, a threshold in the range of its score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.config_file import ConfigFile, ConfigFileError
from shared.config_section import Section
from shared.model_config import ModelConfig


class Node(Section):
    """A node with nothing but a model."""

    model: ModelConfig


def read(folder: Path, **model: Any) -> ModelConfig:
    (folder / "small.onnx").write_bytes(b"a model")
    (folder / "node.yaml").write_text(yaml.safe_dump({"model": {"path": "small.onnx"} | model}))
    return ConfigFile(folder / "node.yaml").parse(Node, {"LABELS": "labels.txt"}).model


def refusal(folder: Path, **model: Any) -> str:
    with pytest.raises(ConfigFileError) as refused:
        read(folder, **model)
    return str(refused.value)


def test_nothing_but_the_path_is_needed(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert (config.labels, config.output, config.score) == (None, None, "max_probability")
    assert config.threshold == 0.9


@pytest.mark.parametrize(
    ("content", "expected"),
    [("good\nbent\n", ("good", "bent")), ('["good", "a, b"]', ("good", "a, b"))],
    ids=["lines", "json"],
)
@pytest.mark.parametrize("path", ["labels.txt", "${LABELS}"], ids=["plain", "variable"])
def test_labels_come_from_a_file(
    tmp_path: Path, content: str, expected: tuple[str, ...], path: str
) -> None:
    (tmp_path / "labels.txt").write_text(content)
    assert read(tmp_path, labels=path).labels == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["a", "b"], ("a", "b")), ([0, 1, 2], ("0", "1", "2"))],
    ids=["texts", "numbers"],
)
def test_labels_come_from_a_list(
    tmp_path: Path, labels: list[Any], expected: tuple[str, ...]
) -> None:
    assert read(tmp_path, labels=labels).labels == expected


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        pytest.param("labels.csv", "there is no file", id="no-file"),
        pytest.param("${NOWHERE}", "the environment variable NOWHERE is not set", id="no-variable"),
        pytest.param([True, False], "the label True is no text. Fix: put it in quotes", id="yes"),
        pytest.param(["a", 1.5], "the label 1.5 is no text", id="fraction"),
        pytest.param(["a"], "a model has 2 to 10,000 labels, not 1", id="one"),
        pytest.param(["a", "a"], "the label a stands twice", id="twice"),
        pytest.param(["a", ""], "1 to 256 characters", id="empty"),
        pytest.param({"a": 0}, "write a list", id="mapping"),
        pytest.param(7, "write a list", id="number"),
    ],
)
def test_what_are_no_labels_is_refused_by_its_key(
    tmp_path: Path, labels: Any, problem: str
) -> None:
    message = refusal(tmp_path, labels=labels)
    assert "model.labels:" in message
    assert problem in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"good\n\nbent", "line 2 is empty", id="empty-line"),
        pytest.param(b"", "a model has 2 to 10,000 labels, not 0", id="empty"),
        pytest.param(b"\xff\xfe\x00", "codec can't decode", id="not-text"),
        pytest.param(b"a\n" * (2 * 2**20 + 1), "more than 4194304 bytes", id="too-large"),
        pytest.param(b"[1, 2", "no JSON list of texts", id="no-json"),
    ],
)
def test_a_file_without_labels_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    message = refusal(tmp_path, labels="labels.txt")
    assert problem in message


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        pytest.param({"threshold": 1.01}, "lies between 0 and 1, not at 1.01", id="above-one"),
        pytest.param({"threshold": -0.1, "score": "margin"}, "of margin lies between", id="below"),
        pytest.param({"threshold": float("inf")}, "model.threshold", id="infinite"),
        pytest.param(
            {"score": "energy", "threshold": 3.0}, "energy is that of logits", id="no-logits"
        ),
        pytest.param(
            {"score": "energy", "scores": "logits"}, "Fix: write `threshold:`", id="no-threshold"
        ),
        pytest.param({"score": "gini"}, "energy", id="unknown-score"),
        pytest.param({"output": ""}, "model.output", id="empty-output"),
    ],
)
def test_a_threshold_that_its_score_cannot_have_is_refused(
    tmp_path: Path, model: dict[str, Any], problem: str
) -> None:
    assert problem in refusal(tmp_path, **model)


@pytest.mark.parametrize("threshold", [-3.5, 0, 12.25])
def test_the_threshold_of_energy_is_any_number(tmp_path: Path, threshold: float) -> None:
    config = read(tmp_path, score="energy", scores="logits", threshold=threshold)
    assert config.threshold == threshold


def test_a_wrong_score_is_not_held_against_the_threshold_too(tmp_path: Path) -> None:
    assert "threshold" not in refusal(tmp_path, score="gini", threshold=7)
