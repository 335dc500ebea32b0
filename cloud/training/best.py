"""Early stop: keeps the best of what a training went through. Pure."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

from shared.errors import ArtefactError

State = TypeVar("State")


class Best(Generic[State]):
    """The state with the smallest loss on the tuning samples.

    Prechelt, Early Stopping - But When?, in Neural Networks: Tricks of the Trade, LNCS 1524, 1998:
    a training ends when the loss on samples that it does not learn from has not become smaller for
    some time.

    Args:
        patience: so many passes without a smaller loss are waited for; 0 for all, of which the
            last one counts.

    Attributes:
        state: the best so far.
        epoch: the pass that gave it, from 1.
        loss: its loss.
    """

    def __init__(self, patience: int) -> None:
        self.state: State | None = None
        self.epoch = 0
        self.loss = math.inf
        self._patience = patience

    def add(self, epoch: int, loss: float, state: State) -> bool:
        """Takes what a pass has made; returns whether the training goes on.

        Args:
            epoch: the pass, from 1.
            loss: on the tuning samples.
            state: a copy of the model.

        Raises:
            ArtefactError: the loss is no number any more.
        """
        if not math.isfinite(loss):
            raise ArtefactError(
                f"the loss is {loss} after epoch {epoch}: look at the data, or lower learning_rate"
            )
        if loss < self.loss or not self._patience:
            self.state, self.epoch, self.loss = state, epoch, loss
        return not self._patience or epoch - self.epoch < self._patience

    @property
    def found(self) -> State:
        """The best state.

        Raises:
            ArtefactError: there was no pass.
        """
        if self.state is None:
            raise ArtefactError("there was no pass over the samples")
        return self.state
