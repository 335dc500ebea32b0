"""Messages of telemetry as a tier-2 node sends them, made beforehand."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec
import numpy as np

from shared.messages import EscalatedSample, GateCount, Telemetry, TelemetryRecord, Tensor

RECORDS = 256
"""In a message: tier-2's default."""
FEATURES = 64
LABELS = tuple(map(str, range(10)))
NODES = 8
SENSORS = 64
KINDS = 4096
"""So many inputs are different: more than a pack holds, so that none is compressed twice."""
AUDIT_EVERY = 5
FIRST_NUMBER = 2**61  # a multiple of KINDS


class TelemetryFeed:
    """Makes messages whose samples are all different in what the store tells them apart by.

    Args:
        sender: whose messages.
        seed: decides inputs and scores, of which there are some thousands.
    """

    def __init__(self, sender: str, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        inputs = (rng.integers(0, 17, (KINDS, FEATURES)) / 16).astype(np.float32)
        scores = rng.dirichlet(np.full(len(LABELS), 0.2), (2, KINDS)).astype(np.float32)
        self._sender = sender
        self._rng = rng
        self._number = FIRST_NUMBER
        self._records = [
            TelemetryRecord(
                EscalatedSample(0, "", f"cam-{place % SENSORS}", 0.0, "low_confidence", False, 1.0),
                f"press-{place % NODES}",
                "meter",
                "12",
                "7",
                Tensor.of(scores[0, place]),
                Tensor.of(scores[1, place]),
                Tensor.of(inputs[place]),
            )
            for place in range(KINDS)
        ]

    def messages(self, count: int) -> Iterator[Telemetry]:
        """Yields so many messages."""
        for _ in range(count):
            yield self._message()

    def _message(self) -> Telemetry:
        names = self._rng.bytes(16 * RECORDS).hex()
        records = []
        first = self._number % KINDS
        for place, record in enumerate(self._records[first : first + RECORDS]):
            self._number += 1
            is_audit = place % AUDIT_EVERY == 0
            sample = EscalatedSample(
                self._number,
                names[32 * place : 32 * place + 32],
                record.sample.sensor,
                1_764_072_000.0 + self._number % 10_000_000 / 1000,
                "audit" if is_audit else "low_confidence",
                is_audit,
                0.01 if is_audit else 1.0,
            )
            records.append(msgspec.structs.replace(record, sample=sample))
        counts = (GateCount("press-1", "meter", "12", 10 * RECORDS, RECORDS),)
        return Telemetry(1, self._sender, uuid.uuid4().hex, tuple(records), counts)
