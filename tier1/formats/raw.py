"""Samples as their bare numbers."""

from __future__ import annotations

import numpy as np

from shared.errors import PayloadError
from shared.inputs import Inputs
from tier1.formats.arrays import cast, wire_dtype
from tier1.formats.config import RawConfig
from tier1.formats.decoded import Decoded, SizedFormat


class RawFormat(SizedFormat):
    """The bare numbers of one sample or of several, little-endian, in C order.

    Args:
        config: the type of the numbers, and whether a message is a pack.
        inputs: what a row is.
        max_payload_bytes: larger payloads are refused unread.

    Raises:
        FormatConfigError: the type cannot stand for the input's.
    """

    def __init__(self, config: RawConfig, inputs: Inputs, max_payload_bytes: int) -> None:
        self._dtype = inputs.dtype
        self._shape = inputs.shape
        self._wire_dtype = wire_dtype(config.dtype, inputs.dtype)
        self._sample_bytes = inputs.size * self._wire_dtype.itemsize
        self._max_samples = config.pack.max_samples if config.pack else 1
        numbers = f"{inputs.size} little-endian {self._wire_dtype.name} numbers"
        pack = f" for each of 1 to {self._max_samples} samples" if config.pack else ""
        super().__init__(f"{numbers} ({self._sample_bytes} bytes){pack}", max_payload_bytes)

    def _decoded(self, payload: bytes) -> Decoded:
        samples, rest = divmod(len(payload), self._sample_bytes)
        if rest or not 1 <= samples <= self._max_samples:
            upto = f" to {self._max_samples} times" if self._max_samples > 1 else ""
            problem = f"{len(payload)} bytes, not 1{upto} {self._sample_bytes}"
            raise PayloadError("wrong_length", problem)
        numbers = np.frombuffer(payload, self._wire_dtype)
        return Decoded(cast(numbers, self._dtype).reshape(samples, *self._shape))
