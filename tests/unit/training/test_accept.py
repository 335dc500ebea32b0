"""A trainer's model is taken if it may be looked at, loads, and answers with numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose

from cloud.training.accept import accept
from cloud.training.contract import MODEL
from cloud.training.export import to_onnx
from cloud.training.network import Network
from shared.errors import ArtefactError
from shared.model import Model
from shared.scores import Floats
from tests.training_data import job, labelled, logits_of, network_of

JOB = job("tier1")
SAMPLES = labelled(20, 1).inputs
MOST_BYTES = 2**20


def taken(folder: Path, samples: Floats = SAMPLES, most_bytes: int = MOST_BYTES) -> Model:
    return accept(folder, folder / "kept" / "tier1.onnx", JOB, samples, most_bytes)


def refused(folder: Path, reason: str, **options: Any) -> None:
    with pytest.raises(ArtefactError, match=reason):
        taken(folder, **options)
    assert not (folder / "kept" / "tier1.onnx").exists()


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load_model_from_string(to_onnx(network_of(), "m"))
    change(model)
    return bytes(model.SerializeToString())


def renamed(model: onnx.ModelProto, old: str, new: str) -> None:
    for port in (*model.graph.input, *model.graph.output):
        port.name = new if port.name == old else port.name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def test_a_good_model_is_copied_and_loaded(tmp_path: Path) -> None:
    network = network_of()
    (tmp_path / MODEL).write_bytes(to_onnx(network, "m"))
    model = taken(tmp_path)
    assert_allclose(model.scores(SAMPLES), logits_of(network, SAMPLES), atol=1e-4)
    (tmp_path / MODEL).write_bytes(b"changed afterwards")
    assert (tmp_path / "kept" / "tier1.onnx").read_bytes() == to_onnx(network, "m")


def without_numbers(value: float) -> bytes:
    network = network_of()
    first = network.dense[0]
    weight = first.weight.copy()
    weight[0, 0] = value
    whole: Network = replace(network, dense=(replace(first, weight=weight), *network.dense[1:]))
    return to_onnx(whole, "m")


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "must not be loaded: not an ONNX file", id="empty"),
        pytest.param(b"no model", "must not be loaded", id="text"),
        pytest.param(changed(outside), "numbers lie in another file", id="external-data"),
        pytest.param(without_numbers(np.nan), "no numbers: look at its weights", id="nan-weights"),
        pytest.param(without_numbers(np.inf), "no numbers", id="infinite-weights"),
        pytest.param(
            changed(lambda model: renamed(model, "features", "x")),
            "name its one input `features`", id="other-input",
        ),
        pytest.param(
            changed(lambda model: renamed(model, "logits", "y")),
            "its output `logits`", id="other-output",
        ),
        pytest.param(changed(fixed_batch), "batches of 8 only. Fix: export", id="fixed-batch"),
        pytest.param(to_onnx(network_of(shape=(7,)), "m"), "samples of shape", id="other-shape"),
    ],
)  # fmt: skip
def test_a_model_that_must_not_be_used_is_refused_with_the_reason(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / MODEL).write_bytes(data)
    refused(tmp_path, reason)


def test_a_model_of_other_labels_is_refused(tmp_path: Path) -> None:
    two = job("tier1").model_copy(update={"labels": ("a", "b")})
    (tmp_path / MODEL).write_bytes(to_onnx(network_of(), "m"))
    with pytest.raises(ArtefactError):
        accept(tmp_path, tmp_path / "kept.onnx", two, SAMPLES, MOST_BYTES)


def test_a_trainer_that_leaves_no_model_is_told_so(tmp_path: Path) -> None:
    refused(tmp_path, r"left no model\.onnx")


def test_a_model_larger_than_allowed_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / MODEL).touch()
    os.truncate(tmp_path / MODEL, 2**40)  # no such room is taken, on the disk or in memory
    refused(tmp_path, r"1,099,511,627,776 bytes, more than training\.model_bytes: 1,048,576")


def test_a_link_in_the_models_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(to_onnx(network_of(), "m"))
    (tmp_path / MODEL).symlink_to(tmp_path / "other.onnx")
    refused(tmp_path, "cannot be read")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_refused_without_waiting(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / MODEL)
    refused(tmp_path, r"model\.onnx is no file")
