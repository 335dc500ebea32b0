"""The exported file answers like the network, of whatever kind it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose

from cloud.training.export import IR_VERSION, OPSET, to_onnx
from cloud.training.network import Kind, Network
from shared.inputs import Inputs
from shared.model import Model
from shared.releases.structure import check_structure
from tests.builders import spec
from tests.training_data import LABELS, logits_of, network_of

NETWORKS = {
    "mlp": network_of(),
    "one-layer": network_of(hidden=()),
    "mlp-of-an-image": network_of(shape=(2, 3)),
    "cnn1d": network_of("cnn1d", (10,)),
    "cnn1d-of-channels": network_of("cnn1d", (3, 9), kernel=5),
    "cnn2d-of-a-row": network_of("cnn2d", (128,), (8, 8)),
    "cnn2d": network_of("cnn2d", (6, 5), hidden=()),
    "cnn2d-of-channels": network_of("cnn2d", (3, 8, 12)),
    "cnn2d-deep": network_of("cnn2d", (4, 4), channels=(3, 4, 5), hidden=(4,)),
    "cnn2d-of-points": network_of("cnn2d", (4, 4), kernel=1),
}
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@each_network
def test_the_exported_graph_answers_like_the_network(network: Network, tmp_path: Path) -> None:
    inputs = np.random.default_rng(1).uniform(0, 16, (20, *network.shape)).astype(np.float32)
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(network, "tiny"))
    model = Model.load(path, spec(labels=LABELS, scores="logits"), Inputs.plain(network.shape))
    expected = logits_of(network, inputs)
    assert_allclose(model.scores(inputs), expected, atol=1e-5 * np.abs(expected).max())


@each_network
def test_the_exported_file_is_one_that_nodes_take(network: Network) -> None:
    data = to_onnx(network, "tiny")
    assert check_structure(data).opsets[""] == OPSET
    model = onnx.load_model_from_string(data)
    assert model.ir_version == IR_VERSION
    assert [each.name for each in (*model.graph.input, *model.graph.output)] == [
        "features", "logits",
    ]  # fmt: skip


def test_exporting_twice_gives_the_same_bytes() -> None:
    assert to_onnx(NETWORKS["cnn2d"], "m") == to_onnx(NETWORKS["cnn2d"], "m")


@pytest.mark.parametrize("kind", ["mlp", "cnn1d", "cnn2d"])
def test_the_seed_decides_the_first_weights(kind: Kind) -> None:
    one, again, other = (network_of(kind, (4, 4), seed=seed) for seed in (1, 1, 2))
    assert to_onnx(one, "m") == to_onnx(again, "m") != to_onnx(other, "m")
