"""Samples as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cloud.training.contract import Samples


@dataclass(frozen=True)
class Rows:
    """Samples as tensors.

    Attributes:
        inputs: float32 [N, ...].
        targets: what is right, int64 [N].
        weights: float32 [N].
        teacher: tier-2's logits, float32 [N, labels]; None where there is no teacher.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    teacher: Tensor | None

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.targets)

    @classmethod
    def of(cls, samples: Samples, temperature: float) -> Rows:
        """Returns samples as tensors.

        Args:
            samples: the samples.
            temperature: what the teacher's logits were divided by.
        """
        teacher = None if samples.teacher is None else samples.logits(temperature)
        return cls(
            torch.from_numpy(samples.inputs),
            torch.from_numpy(samples.targets),
            torch.from_numpy(samples.weights),
            None if teacher is None else torch.from_numpy(teacher),
        )

    def taken(self, rows: Tensor | slice) -> Rows:
        """Returns some of them."""
        teacher = None if self.teacher is None else self.teacher[rows]
        return Rows(self.inputs[rows], self.targets[rows], self.weights[rows], teacher)
