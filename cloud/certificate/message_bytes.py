"""What a sample takes in a message, by the encoders that write it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.messages import (
    SCHEMA_VERSION,
    EscalatedSample,
    Escalation,
    Internal,
    Telemetry,
    TelemetryRecord,
    Tensor,
    pack,
)

NAME = "sixteen-letters-"
"""Stands for the names of nodes, sensors and samples, which a recording does not hold."""
VERSION = "1"
MOMENT_S = 1_700_000_000.5
BATCH = "0" * 32


@dataclass(frozen=True, slots=True)
class MessageBytes:
    """Bytes of a sample in a message of so many, without MQTT's own.

    Attributes:
        escalation: from tier-1 to tier-2.
        record: from tier-2 to the cloud, with the input.
        bare_record: the same without it.
    """

    escalation: float
    record: float
    bare_record: float

    @classmethod
    def of(cls, shape: tuple[int, ...], labels: int, samples: int) -> MessageBytes:
        """Packs messages and weighs them.

        Args:
            shape: of one input, in float32.
            labels: how many scores a model gives.
            samples: in a message, at least 1.
        """
        escalation, bare = _escalation(shape, labels, samples), _telemetry((), labels, samples)
        return cls(
            escalation=len(pack(escalation)) / samples,
            record=len(pack(_telemetry(shape, labels, samples))) / samples,
            bare_record=len(pack(bare)) / samples,
        )

    def uplink(self, input_share: float) -> float:
        """Returns the bytes of a record where a share of them has the input."""
        return input_share * self.record + (1.0 - input_share) * self.bare_record


def _sample() -> EscalatedSample:
    number = 2**62  # a correlation number is random
    return EscalatedSample(number, NAME, NAME, MOMENT_S, "low_confidence", False, 1.0)


def _zeros(*shape: int) -> Tensor:
    return Tensor.of(np.zeros(shape, np.float32))


def _escalation(shape: tuple[int, ...], labels: int, samples: int) -> Escalation:
    return Escalation(
        SCHEMA_VERSION,
        node=NAME,
        pipeline=NAME,
        model_version=VERSION,
        budget_ms=500.0,
        seen=samples,
        unsure=samples,
        samples=(_sample(),) * samples,
        inputs=_zeros(samples, *shape),
        probabilities=_zeros(samples, labels),
    )


def _telemetry(shape: tuple[int, ...], labels: int, samples: int) -> Internal:
    record = TelemetryRecord(
        _sample(), NAME, NAME, VERSION, VERSION, _zeros(labels), _zeros(labels),
        _zeros(*shape) if shape else None,
    )  # fmt: skip
    return Telemetry(SCHEMA_VERSION, NAME, BATCH, (record,) * samples, ())
