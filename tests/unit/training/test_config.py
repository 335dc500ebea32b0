"""A training section that contradicts itself or its pipeline is refused with the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud.config import CloudConfig
from cloud.orders import first_order
from cloud.training.config import (
    ModelConfig,
    Tier1TrainingConfig,
    Tier2TrainingConfig,
    TrainingConfig,
)
from shared.config_file import ConfigFile, ConfigFileError

MINIMAL = {"base": "data", "first_job": "first"}


def parsed(folder: Path, training: dict[str, Any], **pipeline: Any) -> CloudConfig:
    """Returns a cloud with such a training section, read from a file."""
    (folder / "trust.signed").touch()
    meter = {
        "input": {"shape": [64]}, "labels": ["a", "b"], "tier1_channel": "small",
        "tier2_channel": "full", "training": MINIMAL | training, **pipeline,
    }  # fmt: skip
    whole = {
        "role": "cloud", "node": "cloud", "site": "cloud", "state_dir": "state",
        "broker": {"url": "mqtt://127.0.0.1:1"}, "signing_key": "release.key",
        "trust": "trust.signed", "pipelines": {"meter": meter},
    }  # fmt: skip
    path = folder / "cloud.yaml"
    path.write_text(yaml.safe_dump(whole))
    return ConfigFile(path).parse(CloudConfig, {"TOKEN": "t0k3n"})


def training_of(config: CloudConfig) -> TrainingConfig:
    training = config.pipelines["meter"].training
    assert training is not None
    return training


def test_a_section_of_before_means_what_it_meant(tmp_path: Path) -> None:
    training = training_of(parsed(tmp_path, {}))
    assert training.trainer == "sklearn"
    assert (training.tier1.hidden, training.tier1.epochs) == ((96,), 50)
    assert (training.tier2.hidden, training.tier2.epochs) == ((384, 128), 15)
    assert training.tier2.augmented_copies == 60


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        pytest.param({"trainer": "command"}, "has no command. Fix: write `command", id="command"),
        pytest.param({"command": ["a"]}, "`sklearn` runs no command", id="idle-command"),
        pytest.param({"environment": {"A": "b"}}, "runs no command", id="idle-environment"),
        pytest.param(
            {"trainer": "command", "command": ["a"], "environment": {"A-B": "c"}},
            "A-B", id="no-name-of-a-variable",
        ),
        pytest.param(
            {"tier1": {"architecture": "cnn1d"}},
            r"tier1\.architecture asks for what trainer `sklearn` cannot do. Fix: .*torch",
            id="sklearn-cnn",
        ),
        pytest.param(
            {"tier1": {"pruning": {"share": 0.5}}}, r"tier1\.pruning asks", id="sklearn-pruning"
        ),
        pytest.param(
            {"tier1": {"distillation": {"alpha": 0.5}}}, r"tier1\.distillation", id="sklearn-alpha"
        ),
        pytest.param({"tier1": {"deferral": {}}}, r"tier1\.deferral", id="sklearn-deferral"),
        pytest.param(
            {"trainer": "torch", "tier2": {"deferral": {}}}, "unknown key", id="tier2-deferral"
        ),
        pytest.param(
            {"trainer": "torch", "tier1": {"architecture": "cnn2d"}},
            r"training\.tier1 is a cnn2d.*of shape \[64\].*image_shape", id="cnn2d-of-a-row",
        ),
        pytest.param({"image_shape": [8, 9]}, r"\[8, 9\] does not fit", id="image-shape"),
        pytest.param({"memory_bytes": 1000}, "at least 536,870,912", id="memory"),
        pytest.param({"timeout_s": 0}, "at least 1", id="timeout"),
        pytest.param({"model_bytes": 2**40}, "at most 536,870,912", id="model-bytes"),
        pytest.param({"trainer": "keras"}, "sklearn, torch, command", id="trainer"),
        pytest.param({"tier1": {"kernel": 4}}, "one of 1, 3, 5", id="even-kernel"),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused_with_the_reason(
    tmp_path: Path, training: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigFileError, match=reason):
        parsed(tmp_path, training)


@pytest.mark.parametrize(
    ("training", "shape"),
    [
        ({"trainer": "torch", "tier1": {"architecture": "cnn1d"}}, [64]),
        ({"trainer": "torch", "tier1": {"architecture": "cnn2d"}}, [3, 8, 8]),
        ({"trainer": "torch", "tier1": {"architecture": "cnn2d"}, "image_shape": [8, 8]}, [192]),
    ],
    ids=["cnn1d", "cnn2d", "cnn2d-of-a-row"],
)
def test_an_architecture_that_fits_the_samples_is_taken(
    tmp_path: Path, training: dict[str, Any], shape: list[int]
) -> None:
    parsed(tmp_path, training, input={"shape": shape})


def test_a_secret_of_the_programs_comes_from_the_environment_and_is_not_shown(
    tmp_path: Path,
) -> None:
    section = {
        "trainer": "command", "command": ["train", "{folder}"], "environment": {"T": "${TOKEN}"},
    }  # fmt: skip
    training = training_of(parsed(tmp_path, section))
    assert training.environment == {"T": "t0k3n"}
    assert "t0k3n" not in repr(training)


def test_an_order_carries_the_section_whole(tmp_path: Path) -> None:
    section = {
        "trainer": "torch", "image_shape": [8, 8], "seed": 7,
        "tier1": {"architecture": "cnn2d", "channels": [4], "deferral": {"alpha": 0.4}},
    }  # fmt: skip
    config = parsed(tmp_path, section).pipelines["meter"]
    training = config.training
    assert training is not None
    order = first_order("meter", config, training)
    assert order.settings == training.model_copy(update={"base": training.base.absolute()})


@pytest.mark.parametrize("kind", [Tier1TrainingConfig, Tier2TrainingConfig])
def test_a_job_says_all_that_the_section_of_its_tier_does(kind: Any) -> None:
    assert set(kind.model_fields) <= set(ModelConfig.model_fields)
    model = ModelConfig.model_validate(kind().model_dump())
    assert model.planned_epochs == kind().epochs
