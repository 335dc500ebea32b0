"""Pruning takes out what is weakest; what it takes out whole makes the network smaller."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cloud.training.export import to_onnx
from cloud.training.network import Network, planes_of
from cloud.training.pruning import weight_masks, without_filters
from tests.training_data import logits_of, network_of

NETWORKS = {
    "mlp": network_of(hidden=(16, 8)),
    "cnn1d": network_of("cnn1d", (3, 9), channels=(6, 8)),
    "cnn2d": network_of("cnn2d", (2, 8, 8), channels=(6, 8), hidden=(10,)),
    "cnn2d-to-logits": network_of("cnn2d", (8, 8), channels=(6,), hidden=()),
}
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def silenced(network: Network, share: float, seed: int = 3) -> Network:
    """Returns a network of which a share of each layer's filters and neurons do nothing at all."""
    rng = np.random.default_rng(seed)

    def without(layer: object, axis: int) -> object:
        weight, bias = layer.weight.copy(), layer.bias.copy()  # type: ignore[attr-defined]
        chosen = rng.permutation(len(bias))[: int(share * len(bias))]
        bias[chosen] = 0
        weight[(slice(None),) * axis + (chosen,)] = 0
        return replace(layer, weight=weight, bias=bias)  # type: ignore[type-var]

    return replace(
        network,
        convs=tuple(without(each, 0) for each in network.convs),  # type: ignore[misc]
        dense=(*(without(each, 1) for each in network.dense[:-1]), network.dense[-1]),  # type: ignore[arg-type]
    )


@each_network
def test_what_did_nothing_is_taken_out_and_nothing_changes(network: Network) -> None:
    idle = silenced(network, 0.5)
    pruned = without_filters(idle, 0.5)
    inputs = np.random.default_rng(1).uniform(0, 16, (20, *network.shape)).astype(np.float32)
    assert_allclose(logits_of(pruned, inputs), logits_of(idle, inputs), atol=1e-5)
    widths = [
        (len(a.bias), len(b.bias)) for a, b in zip(network.layers, pruned.layers, strict=True)
    ]
    assert all(after == before // 2 for before, after in widths[:-1])
    assert widths[-1] == (3, 3)


@each_network
def test_structured_pruning_shrinks_the_file_and_unstructured_pruning_does_not(
    network: Network,
) -> None:
    whole = len(to_onnx(network, "m"))
    assert len(to_onnx(without_filters(network, 0.5), "m")) < whole
    masks = weight_masks(network, 0.5)
    convs = tuple(
        replace(each, weight=each.weight * mask)
        for each, mask in zip(network.convs, masks, strict=False)
    )
    dense = tuple(
        replace(each, weight=each.weight * mask)
        for each, mask in zip(network.dense, masks[len(convs) :], strict=True)
    )
    sparse = replace(network, convs=convs, dense=dense)
    assert abs(sparse.weights - network.weights // 2) <= len(network.layers)
    assert len(to_onnx(sparse, "m")) == whole


@each_network
def test_of_a_layer_the_smallest_weights_go(network: Network) -> None:
    for layer, mask in zip(network.layers, weight_masks(network, 0.3), strict=True):
        size = np.abs(layer.weight)
        assert (~mask).sum() == int(0.3 * mask.size)
        assert size[~mask].max() <= size[mask].min()


def test_one_filter_always_stays() -> None:
    pruned = without_filters(NETWORKS["cnn2d"], 0.999)
    assert [len(each.bias) for each in pruned.layers] == [1, 1, 1, 3]


def test_the_order_of_what_stays_is_kept() -> None:
    network = NETWORKS["mlp"]
    first = without_filters(network, 0.5).dense[0].weight
    columns = [
        int(np.flatnonzero((network.dense[0].weight == column[:, None]).all(axis=0))[0])
        for column in first.T
    ]
    assert_array_equal(columns, sorted(columns))


@pytest.mark.parametrize(
    ("kind", "shape", "image_shape", "planes"),
    [
        ("mlp", (3, 4, 5, 6), None, ()),
        ("cnn1d", (9,), None, (1, 9)),
        ("cnn1d", (3, 9), None, (3, 9)),
        ("cnn1d", (3, 9, 2), None, None),
        ("cnn2d", (9,), None, None),
        ("cnn2d", (192,), (8, 8), (3, 8, 8)),
        ("cnn2d", (8, 9), None, (1, 8, 9)),
        ("cnn2d", (3, 8, 9), (8, 9), (3, 8, 9)),
        ("cnn2d", (3, 8, 9, 2), None, None),
    ],
)
def test_samples_are_seen_as_planes_where_they_fit(
    kind: str, shape: tuple[int, ...], image_shape: tuple[int, int] | None, planes: object
) -> None:
    assert planes_of(kind, shape, image_shape) == planes  # type: ignore[arg-type]
