"""What a built-in trainer comes back with."""

from __future__ import annotations

from dataclasses import dataclass

from cloud.training.network import Network


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        network: the network.
        epochs: passes over the samples that made it.
        loss: on the tuning samples.
        notes: what else is to be said, in words.
    """

    network: Network
    epochs: int
    loss: float
    notes: str = ""
