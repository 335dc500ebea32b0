"""Takes weights out of a network by their L1 norm. Pure.

Structured pruning takes whole filters and neurons out: Li et al., Pruning Filters for Efficient
ConvNets, ICLR 2017, arXiv 1608.08710, section 3.1. What is left is a smaller network of the same
kind, in its file and in its time. Unstructured pruning (Han et al., Learning both Weights and
Connections, NeurIPS 2015, arXiv 1506.02626) sets single weights to zero: a baseline, for neither
the file nor ONNX Runtime gains by it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloud.training.network import Conv, Dense, Network
from shared.scores import Floats

Mask = NDArray[np.bool_]


def without_filters(network: Network, share: float) -> Network:
    """Returns the network without a share of its filters and hidden neurons.

    Those with the smallest L1 norm go, of each layer the same share; the last layer keeps its
    outputs.

    Args:
        network: the network.
        share: of the filters and neurons of each layer, 0 to 1; one always stays.
    """
    convs: list[Conv] = []
    kept = np.arange(network.planes[0] if network.planes else 0)
    for conv in network.convs:
        weight = conv.weight[:, kept]
        kept = _strongest(np.abs(weight).reshape(len(weight), -1).sum(axis=1), share)
        convs.append(replace(conv, weight=weight[kept], bias=conv.bias[kept]))
    kept = _rows(kept, network.positions) if convs else np.arange(len(network.dense[0].weight))
    dense: list[Dense] = []
    for layer in network.dense[:-1]:
        weight = layer.weight[kept]
        kept = _strongest(np.abs(weight).sum(axis=0), share)
        dense.append(Dense(weight[:, kept], layer.bias[kept]))
    last = network.dense[-1]
    dense.append(Dense(last.weight[kept], last.bias))
    return replace(network, convs=tuple(convs), dense=tuple(dense))


def weight_masks(network: Network, share: float) -> tuple[Mask, ...]:
    """Returns which weights stay if of each layer a share goes, the smallest first.

    Args:
        network: the network.
        share: of the weights of each layer, 0 to 1.

    Returns:
        For each convolution, then for each dense layer, bool of its weight's shape.
    """
    return tuple(_mask(layer.weight, share) for layer in network.layers)


def _strongest(norms: NDArray[np.floating[Any]], share: float) -> NDArray[np.intp]:
    """Returns the indices of what stays, in their order."""
    count = max(1, len(norms) - int(share * len(norms)))
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def _rows(filters: NDArray[np.intp], positions: int) -> NDArray[np.intp]:
    """Returns the rows of the first dense layer that belong to filters: each has several."""
    rows: NDArray[np.intp] = (filters[:, None] * positions + np.arange(positions)).ravel()
    return rows


def _mask(weight: Floats, share: float) -> Mask:
    mask = np.ones(weight.size, bool)
    mask[np.argsort(np.abs(weight).ravel(), kind="stable")[: int(share * weight.size)]] = False
    return mask.reshape(weight.shape)
