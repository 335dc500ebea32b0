"""Passes over the samples, until the loss on the tuning samples gets no smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cloud.training.best import Best
from cloud.training.config import ModelConfig
from cloud.training.deep.rows import Rows
from cloud.training.deep.trainable import Trainable
from cloud.training.network import Network
from cloud.training.progress import Say
from cloud.training.pruning import Mask

WEIGHT_DECAY = 1e-4
TUNING_BATCH = 1024

Loss = Callable[[Tensor, Rows], Tensor]
"""Logits of rows, and the rows → a number for each."""


class Fitting:
    """Trains a network in one part or several.

    Args:
        model: batch size, learning rate, patience.
        rows: to learn from.
        tuning: tells when to stop; without any, the loss of the last pass does.
        rng: orders the samples.
        say: is told how far it is.

    Attributes:
        epochs: passes that led to the network that was given last.
    """

    def __init__(
        self,
        model: ModelConfig,
        rows: Rows,
        tuning: Rows,
        rng: np.random.Generator,
        say: Say,
    ) -> None:
        self.epochs = 0
        self._model = model
        self._rows = rows
        self._tuning = tuning
        self._rng = rng
        self._say = say
        self._begun = 0

    def run(
        self, network: Network, loss: Loss, epochs: int, masks: Sequence[Mask] = ()
    ) -> Best[Network]:
        """Trains a network, and returns the best that it was.

        Args:
            network: its first weights.
            loss: what is made small.
            epochs: passes over the samples, at most.
            masks: which weights stay; empty for all.

        Raises:
            ArtefactError: the loss is no number any more.
        """
        trainable = Trainable(network, masks)
        optimizer = torch.optim.AdamW(
            trainable.parameters, lr=self._model.learning_rate, weight_decay=WEIGHT_DECAY
        )
        best: Best[Network] = Best(self._model.patience)
        for epoch in range(1, epochs + 1):
            learned = self._go_over(trainable, optimizer, loss)
            judged = self._judge(trainable, loss) if len(self._tuning) else learned
            goes_on = best.add(epoch, judged, trainable.network())
            self._say(self._begun + epoch, self._model.planned_epochs, judged)
            if not goes_on:
                break
        self._begun += epochs
        self.epochs += best.epoch
        return best

    def _go_over(self, trainable: Trainable, optimizer: torch.optim.Optimizer, loss: Loss) -> float:
        order, total = torch.from_numpy(self._rng.permutation(len(self._rows))), 0.0
        for chosen in order.split(self._model.batch_size):
            batch = self._rows.taken(chosen)
            optimizer.zero_grad()
            mean = (batch.weights * loss(trainable.logits(batch.inputs), batch)).mean()
            mean.backward()
            optimizer.step()
            trainable.mask()
            total += float(mean.detach()) * len(batch)
        return total / len(self._rows)

    def _judge(self, trainable: Trainable, loss: Loss) -> float:
        total = 0.0
        with torch.no_grad():
            for start in range(0, len(self._tuning), TUNING_BATCH):
                rows = self._tuning.taken(slice(start, start + TUNING_BATCH))
                total += float(loss(trainable.logits(rows.inputs), rows).sum())
        return total / len(self._tuning)
