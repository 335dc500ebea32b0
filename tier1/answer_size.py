"""How large an answer may get, as far as a configuration tells. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import msgspec
import numpy as np

from shared.messages import DecidedBy, PackPrediction, Prediction, Reason, to_json
from tier1.formats import MAX_ID_CHARACTERS, MAX_TIMESTAMP_CHARACTERS

LONG_PROBABILITY = float(np.finfo(np.float32).tiny)
"""One that takes as many digits as any."""
LONG_CONFIDENCE = 0.123456
LONG_LATENCY_MS = 999_999.999
LONG_TEXT = "\0" * max(MAX_ID_CHARACTERS, MAX_TIMESTAMP_CHARACTERS)
"""No other character takes more bytes in JSON."""
DECIDERS: tuple[DecidedBy, ...] = get_args(DecidedBy)
REASONS: tuple[Reason, ...] = get_args(Reason)
LONGEST_DECIDER, LONGEST_REASON = max(DECIDERS, key=len), max(REASONS, key=len)


class AnswerSize(NamedTuple):
    """The largest answers of a pipeline, in bytes of JSON.

    Ids that the samples of a pack bring of their own are not in it, nor longer versions of other
    models.

    Attributes:
        first_bytes: with one sample.
        more_bytes: for each sample more, in a pack.
    """

    first_bytes: int
    more_bytes: int

    @classmethod
    def of_single(
        cls, labels: Sequence[str], version: str, *, shows_probabilities: bool
    ) -> AnswerSize:
        """Returns the size of the answer to a single sample.

        Args:
            labels: of the model, at least one.
            version: of the model.
            shows_probabilities: whether answers carry the probability of every label.
        """
        answer = Prediction(
            id=LONG_TEXT,
            device_id=LONG_TEXT,
            timestamp=LONG_TEXT,
            prediction=_longest(labels),
            confidence=LONG_CONFIDENCE,
            decided_by=LONGEST_DECIDER,
            reason=LONGEST_REASON,
            model=LONG_TEXT,
            model_version=version,
            latency_ms=LONG_LATENCY_MS,
            node=LONG_TEXT,
            probabilities=dict.fromkeys(labels, LONG_PROBABILITY)
            if shows_probabilities
            else msgspec.UNSET,
            supersedes=LONG_TEXT,
        )
        return cls(len(to_json(answer)), 0)

    @classmethod
    def of_pack(
        cls, labels: Sequence[str], version: str, *, shows_probabilities: bool
    ) -> AnswerSize:
        """Returns the size of the answer to a pack; see ``of_single``."""
        one, two = (
            len(to_json(_pack(count, labels, version, shows_probabilities=shows_probabilities)))
            for count in (1, 2)
        )
        return cls(one, two - one)

    def bytes_of(self, samples: int) -> int:
        """Returns the size of an answer to so many samples, at least one."""
        return self.first_bytes + (samples - 1) * self.more_bytes

    def samples_in(self, max_bytes: int) -> int:
        """Returns to how many samples of a pack an answer fits; 0 if not even to one."""
        room = max_bytes - self.first_bytes
        return 0 if room < 0 else 1 + room // self.more_bytes


def _pack(
    count: int, labels: Sequence[str], version: str, *, shows_probabilities: bool
) -> PackPrediction:
    probabilities = [[LONG_PROBABILITY] * len(labels)] * count
    return PackPrediction(
        id=LONG_TEXT,
        device_id=LONG_TEXT,
        timestamp=LONG_TEXT,
        predictions=[_longest(labels)] * count,
        confidences=[LONG_CONFIDENCE] * count,
        decided_by=[LONGEST_DECIDER] * count,
        reasons=[LONGEST_REASON] * count,
        model_versions=[version] * count,
        latency_ms=LONG_LATENCY_MS,
        node=LONG_TEXT,
        probabilities=probabilities if shows_probabilities else msgspec.UNSET,
    )


def _longest(labels: Sequence[str]) -> str:
    return max(labels, key=lambda label: len(msgspec.json.encode(label)))
