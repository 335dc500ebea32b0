"""From a sensor's bytes to a sample."""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import dataclass

import msgspec
import numpy as np

from shared.errors import PayloadError
from shared.messages import UNREADABLE, Sample, Timestamp
from shared.scores import Floats

MAX_ID_CHARACTERS = 128
NOT_A_NUMBER = re.compile(rb"\b(NaN|Infinity)\b")
ID_SOMEWHERE = re.compile(rb'"id"\s*:\s*"([ !#-\[\]-~]{1,128})"')

_OBJECT = msgspec.json.Decoder(Sample)
_ARRAY = msgspec.json.Decoder(list[float])


@dataclass(frozen=True, slots=True)
class DecodedSample:
    """A sample that the model can take.

    Attributes:
        id: the sensor's, or one made here.
        timestamp: the sensor's, or when it was received, seconds since 1970.
        features: float32, of the pipeline's input shape.
    """

    id: str
    timestamp: Timestamp
    features: Floats


class SampleDecoder:
    """Decodes the samples of one pipeline.

    Args:
        shape: of one sample.
        max_payload_bytes: larger payloads are refused unread.
    """

    def __init__(self, shape: tuple[int, ...], max_payload_bytes: int) -> None:
        self._shape = shape
        self._size = math.prod(shape)
        self._max_payload_bytes = max_payload_bytes

    @property
    def expected(self) -> str:
        """What a sender is told to send."""
        return (
            f'JSON {{"id": text, "timestamp": seconds, "features": [{self._size} numbers]}} or a '
            f"bare array of {self._size} numbers, at most {self._max_payload_bytes} bytes"
        )

    def decode(self, payload: bytes, received_unix_s: float) -> DecodedSample:
        """Decodes one sample.

        Args:
            payload: JSON, an object or a bare array.
            received_unix_s: when it came, seconds since 1970.

        Raises:
            PayloadError: it is not what ``expected`` says.
        """
        if len(payload) > self._max_payload_bytes:
            problem = f"{len(payload)} bytes, more than {self._max_payload_bytes}"
            raise self._refusal("too_large", problem)
        if not payload:
            raise self._refusal("not_json", "the message is empty")
        sample = self._parse(payload)
        return DecodedSample(
            self._id(sample.id),
            received_unix_s if sample.timestamp is None else sample.timestamp,
            self._features(sample.features),
        )

    def _parse(self, payload: bytes) -> Sample:
        try:
            if payload.lstrip()[:1] == b"[":
                return Sample(features=_ARRAY.decode(payload))
            return _OBJECT.decode(payload)
        except msgspec.ValidationError as error:
            raise self._refusal("wrong_fields", str(error)) from error
        except UNREADABLE as error:
            hint = "; JSON has no NaN or Infinity" if NOT_A_NUMBER.search(payload) else ""
            raise self._refusal("not_json", f"not JSON: {error}{hint}") from error

    def _id(self, given: str | int | None) -> str:
        if given is None:
            return uuid.uuid4().hex
        text = str(given)
        if not 0 < len(text) <= MAX_ID_CHARACTERS:
            problem = f"an id has 1 to {MAX_ID_CHARACTERS} characters, not {len(text)}"
            raise self._refusal("bad_id", problem)
        return text

    def _features(self, numbers: list[float]) -> Floats:
        if len(numbers) != self._size:
            raise self._refusal("wrong_length", f"{len(numbers)} features, not {self._size}")
        with np.errstate(over="ignore"):
            features = np.array(numbers, np.float32)
        if not np.isfinite(features).all():
            index = int(np.flatnonzero(~np.isfinite(features))[0])
            raise self._refusal("not_finite", f"features[{index}] is not a finite float32")
        return features.reshape(self._shape)

    def _refusal(self, reason: str, message: str) -> PayloadError:
        return PayloadError(reason, message, self.expected)


def sender_id(payload: bytes, max_payload_bytes: int) -> str | None:
    """Returns the id in a refused payload, if it can be read, so that its sender knows it."""
    if len(payload) > max_payload_bytes:
        return None
    try:
        fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        return str(msgspec.json.decode(fields["id"], type=str | int))[:MAX_ID_CHARACTERS]
    except (KeyError, *UNREADABLE):
        # What is no JSON may still say whose it is.
        found = ID_SOMEWHERE.search(payload)
        return found[1].decode() if found else None
