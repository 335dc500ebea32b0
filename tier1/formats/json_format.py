"""Samples in JSON."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from shared.inputs import Inputs
from shared.messages import UNREADABLE
from tier1.formats.config import JsonConfig
from tier1.formats.decoded import MAX_ID_CHARACTERS, Decoded, checked_timestamp, id_text
from tier1.formats.document import Identity
from tier1.formats.layout import Numbers
from tier1.formats.tensor import MAX_DEPTH, Tensor
from tier1.formats.typed import TypedFormat

MAX_BLANKS = 4096
"""Lists whose first number comes later are refused."""

_NOT_A_NUMBER = re.compile(rb"\b(NaN|Infinity)\b")


class JsonFormat(TypedFormat):
    """JSON: an object, or a bare array of numbers.

    Args:
        config: where the fields are.
        inputs: what a row is.
        max_payload_bytes: larger payloads are refused unread.

    Raises:
        FormatConfigError: the format does not fit the inputs.
    """

    name = "JSON"
    reason = "not_json"
    decoder = msgspec.json.Decoder

    def __init__(self, config: JsonConfig, inputs: Inputs, max_payload_bytes: int) -> None:
        super().__init__(config, inputs, max_payload_bytes)
        self._depths = [next(iter(tensor.types)) for tensor in self._tensors]
        first = self._tensors[0]
        self._flat_size = first.part.size if first.is_flat and len(self._tensors) == 1 else None
        key = (self._document.id_path or "").rpartition(".")[2]
        characters = rb'"([ !#-\[\]-~]{1,%d})"' % MAX_ID_CHARACTERS
        self._id_somewhere = re.compile(rb'"%s"\s*:\s*%s' % (re.escape(key.encode()), characters))

    def _decoded(self, payload: bytes) -> Decoded:
        if self._flat_size is not None and payload[:1] == b"{":
            try:
                identity, timestamp, _, numbers = self._take(self._decode_object(payload))
            except UNREADABLE:
                return super()._decoded(payload)  # which says what is wrong
            if len(numbers) == self._flat_size:
                text = None if identity is None else id_text(identity)
                return Decoded(numbers, text, checked_timestamp(timestamp))
        return super()._decoded(payload)

    def _part_type(self, tensor: Tensor) -> Any:
        return next(iter(tensor.types.values())) if len(tensor.types) == 1 else msgspec.Raw

    def _is_bare(self, payload: bytes) -> bool:
        return payload.lstrip()[:1] == b"["

    def _numbers(self, index: int, value: Any) -> Numbers:
        if type(value) is msgspec.Raw:
            return self._lists(index, value, nesting(value))
        return self._tensors[index].from_lists(value, self._depths[index])

    def _unreadable(self, payload: bytes, error: Exception) -> str:
        hint = "; JSON has no NaN or Infinity" if _NOT_A_NUMBER.search(payload) else ""
        return super()._unreadable(payload, error) + hint

    def _sender_id(self, payload: bytes) -> Identity | None:
        identity = super()._sender_id(payload)
        if identity is not None or self._document.id_type is None:
            return identity
        # What is no JSON may still say whose it is.
        found = self._id_somewhere.search(payload)
        return found[1].decode() if found else None


def nesting(raw: msgspec.Raw) -> int:
    """Returns how many lists begin before the first number."""
    depth = 0
    for byte in memoryview(raw)[: MAX_DEPTH + MAX_BLANKS]:
        if byte == ord("["):
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth
