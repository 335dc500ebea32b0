"""What a sample is, as the YAML says it: one input or several, and what the model is fed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from shared.config_file import ConfigFile, ConfigFileError
from shared.config_section import Section
from tier1.config import Tier1PipelineConfig


class Node(Section):
    """A node with nothing but pipelines."""

    pipelines: dict[str, Tier1PipelineConfig]


def read(folder: Path, pipeline: dict[str, Any]) -> Tier1PipelineConfig:
    """Reads a pipeline as from a file, with a model that is there."""
    (folder / "model.onnx").write_bytes(b"a model")
    (folder / "trust.signed").write_bytes(b"a key")
    model = {} if "releases" in pipeline else {"model": MODEL}
    (folder / "node.yaml").write_text(
        yaml.safe_dump({"pipelines": {"meter": model | pipeline}}, sort_keys=False)
    )
    return ConfigFile(folder / "node.yaml").parse(Node, {}).pipelines["meter"]


MODEL = {"path": "model.onnx", "labels": ["a", "b"]}
RELEASES = {"channel": "meter", "trust": "trust.signed"}


def test_one_input_gives_the_layout_of_a_row(tmp_path: Path) -> None:
    layout = read(tmp_path, {"input": {"shape": [3, 8, 8], "dtype": "uint8", "scale": 255}}).layout
    assert (layout.shape, layout.dtype.name, layout.names) == ((3, 8, 8), "uint8", (None,))
    assert layout.specs[0].scale == (255.0,)


def test_several_inputs_keep_the_order_of_the_file(tmp_path: Path) -> None:
    inputs = {"window": {"shape": [3, 128]}, "a speed": {"shape": [1], "mean": [2.5]}}
    layout = read(tmp_path, {"inputs": inputs}).layout
    assert (layout.names, layout.sizes) == (("window", "a speed"), (384, 1))


def test_a_layout_is_made_once(tmp_path: Path) -> None:
    config = read(tmp_path, {"input": {"shape": [3]}})
    assert config.layout is config.layout


@pytest.mark.parametrize(
    ("pipeline", "problem", "fix"),
    [
        pytest.param({}, "either `input:` or `inputs:`", "write `input:", id="none"),
        pytest.param(
            {"input": {"shape": [3]}, "inputs": {"x": {"shape": [3]}}},
            "either `input:` or `inputs:`",
            "a section for each input",
            id="both",
        ),
        pytest.param(
            {"inputs": {"x": {"shape": [3]}}, "releases": RELEASES},
            "a release takes a sample as it comes",
            "join their inputs",
            id="several-with-releases",
        ),
        pytest.param(
            {"input": {"shape": [3], "mean": 1}, "releases": RELEASES},
            "a release takes a sample as it comes",
            "put mean and scale into the released models",
            id="normalised-with-releases",
        ),
        pytest.param(
            {"input": {"shape": [3, 8, 8], "mean": [1, 2]}},
            "mean has 2 numbers, which fit nothing in shape [3, 8, 8]",
            "one for each channel (3, or 8 where it comes last), or 192",
            id="mean-of-no-dimension",
        ),
        pytest.param(
            {"input": {"shape": [1_000_000, 1_000_000]}},
            "larger than any message",
            "stay within",
            id="too-many-numbers",
        ),
    ],
)
def test_an_input_that_cannot_be_is_refused_with_the_fix(
    tmp_path: Path, pipeline: dict[str, Any], problem: str, fix: str
) -> None:
    with pytest.raises(ConfigFileError) as refusal:
        read(tmp_path, pipeline)
    assert problem in str(refusal.value)
    assert fix in str(refusal.value)


def test_a_released_pipeline_may_take_bytes(tmp_path: Path) -> None:
    config = read(tmp_path, {"input": {"shape": [3], "dtype": "uint8"}, "releases": RELEASES})
    assert config.layout.dtype == np.uint8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", "float64"),
        ("mean", []),
        ("mean", "1"),
        ("mean", True),
        ("mean", [True]),
        ("mean", float("nan")),
        ("mean", 1e31),
        ("mean", [0.0, "1", 2.0]),
        ("scale", 0),
        ("scale", -1),
        ("scale", [1.0, 0.0, 1.0]),
        ("scale", float("inf")),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused_by_its_key(
    tmp_path: Path, key: str, value: object
) -> None:
    with pytest.raises(ConfigFileError) as refusal:
        read(tmp_path, {"input": {"shape": [3], key: value}})
    assert f"pipelines.meter.input.{key}" in str(refusal.value)
