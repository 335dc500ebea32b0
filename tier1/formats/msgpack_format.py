"""Samples in MessagePack."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.errors import PayloadError
from tier1.formats.layout import Numbers
from tier1.formats.tensor import MAX_DEPTH, Tensor
from tier1.formats.typed import TypedFormat

_BYTES = frozenset((0xC4, 0xC5, 0xC6))
_ARRAY_HEADER_BYTES = {0xDC: 3, 0xDD: 5, **dict.fromkeys(range(0x90, 0xA0), 1)}

_BLOB = msgspec.msgpack.Decoder(bytes)
_BLOBS = msgspec.msgpack.Decoder(list[bytes])


class MsgpackFormat(TypedFormat):
    """MessagePack: a map, or bare numbers, as an array or as bytes."""

    name = "MessagePack"
    reason = "not_msgpack"
    decoder = msgspec.msgpack.Decoder

    def _part_type(self, tensor: Tensor) -> Any:
        return msgspec.Raw if tensor.part.shape or tensor.is_pack else tensor.types[0]

    def _is_bare(self, payload: bytes) -> bool:
        return payload[:1] != b"" and (payload[0] in _ARRAY_HEADER_BYTES or payload[0] in _BYTES)

    def _numbers(self, index: int, value: Any) -> Numbers:
        tensor = self._tensors[index]
        if type(value) is not msgspec.Raw:
            return tensor.from_lists(value, 0)
        depth, in_bytes = nesting(value)
        if not in_bytes:
            return self._lists(index, value, depth)
        if depth == 0:
            return tensor.from_blob(_BLOB.decode(value))
        if depth == 1:
            return tensor.from_rows(_BLOBS.decode(value))
        raise PayloadError("wrong_fields", f"{tensor.part.path} has bytes {depth} lists deep")


def nesting(raw: msgspec.Raw) -> tuple[int, bool]:
    """Returns how many arrays begin before the first number, and whether it comes in bytes.

    The first bytes are those of the MessagePack specification, chapter "Formats".
    """
    view, position, depth = memoryview(raw), 0, 0
    while position < len(view) and depth < MAX_DEPTH:
        header_bytes = _ARRAY_HEADER_BYTES.get(view[position])
        if header_bytes is None:
            return depth, view[position] in _BYTES
        position += header_bytes
        depth += 1
    return depth, False
