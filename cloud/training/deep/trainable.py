"""A ``Network`` whose weights are tensors that can be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from cloud.training.network import Network
from cloud.training.pruning import Mask
from shared.scores import Floats


class Trainable:
    """Computes a network's logits so that they can be differentiated.

    Args:
        network: its layers and first weights.
        masks: which weights stay, as ``weight_masks`` returns them; empty for all.
    """

    def __init__(self, network: Network, masks: Sequence[Mask] = ()) -> None:
        self._network = network
        self._weights = [_variable(layer.weight) for layer in network.layers]
        self._biases = [_variable(layer.bias) for layer in network.layers]
        self._masks = [torch.from_numpy(mask) for mask in masks]
        self.mask()

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [*self._weights, *self._biases]

    def logits(self, inputs: Tensor) -> Tensor:
        """Returns float32 [N, labels] of inputs, float32 [N, ...]."""
        convs = self._network.convs
        value = inputs * self._network.scale
        if convs:
            value = value.reshape(len(value), *self._network.planes)
        for conv, weight, bias in zip(convs, self._weights, self._biases, strict=False):
            value = functional.relu(_convolve(value, weight, bias))
            if any(width > 1 for width in conv.pool):
                value = _pool(value, conv.pool)
        value = value.flatten(1)
        dense = list(zip(self._weights, self._biases, strict=True))[len(convs) :]
        for weight, bias in dense[:-1]:
            value = functional.relu(value @ weight + bias)
        weight, bias = dense[-1]
        return value @ weight + bias

    def mask(self) -> None:
        """Sets to zero what a mask takes out."""
        with torch.no_grad():
            for weight, mask in zip(self._weights, self._masks, strict=False):
                weight.mul_(mask)

    def network(self) -> Network:
        """Returns a copy of what it has become."""
        count = len(self._network.convs)
        arrays = [
            (weight.detach().numpy().copy(), bias.detach().numpy().copy())
            for weight, bias in zip(self._weights, self._biases, strict=True)
        ]
        convs, dense = self._network.convs, self._network.dense
        return replace(
            self._network,
            convs=tuple(
                replace(conv, weight=weight, bias=bias)
                for conv, (weight, bias) in zip(convs, arrays[:count], strict=True)
            ),
            dense=tuple(
                replace(layer, weight=weight, bias=bias)
                for layer, (weight, bias) in zip(dense, arrays[count:], strict=True)
            ),
        )


def _variable(array: Floats) -> Tensor:
    return torch.from_numpy(array.copy()).requires_grad_()


def _convolve(value: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    convolve = functional.conv1d if weight.ndim == 3 else functional.conv2d
    return convolve(value, weight, bias, padding=weight.shape[-1] // 2)


def _pool(value: Tensor, pool: tuple[int, ...]) -> Tensor:
    reduce = functional.max_pool1d if len(pool) == 1 else functional.max_pool2d
    return reduce(value, pool)
