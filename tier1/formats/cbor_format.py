"""Samples in CBOR."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from shared.errors import PayloadError
from shared.inputs import Inputs
from tier1.formats.cbor_reader import CborReader
from tier1.formats.config import CborConfig
from tier1.formats.decoded import Decoded, SizedFormat
from tier1.formats.document import Document, Identity
from tier1.formats.layout import Numbers
from tier1.formats.tensor import MAX_DEPTH, Tensor

_BLOBS = (bytes, np.ndarray)


class CborFormat(SizedFormat):
    """CBOR: a map, or bare numbers, as an array, a typed array (RFC 8746) or bytes.

    Args:
        config: where the fields are.
        inputs: what a row is.
        max_payload_bytes: larger payloads are refused unread.

    Raises:
        FormatConfigError: the format does not fit the inputs, or the library is not installed.
    """

    def __init__(self, config: CborConfig, inputs: Inputs, max_payload_bytes: int) -> None:
        self._document = Document(config, inputs)
        super().__init__(self._document.expected("CBOR"), max_payload_bytes)
        self._reader = CborReader()
        self._tensors = self._document.tensors
        are_single = self._document.are_single
        types = [tensor.types[0] if are_single else Any for tensor in self._tensors]
        fields = self._document.object_type(types)
        self._struct = fields.struct
        self._take = fields.getter(self._document.paths)

    def _decoded(self, payload: bytes) -> Decoded:
        item = self._reader.read(payload)
        try:
            if self._document.takes_bare and isinstance(item, list | bytes | np.ndarray):
                return self._document.decoded([_numbers(self._tensors[0], item)])
            identity, timestamp, ids, *values = self._take(msgspec.convert(item, self._struct))
            are_single = self._document.are_single
            numbers = [values] if are_single else list(map(_numbers, self._tensors, values))
            return self._document.decoded(numbers, identity, timestamp, ids)
        except msgspec.ValidationError as error:
            raise PayloadError("wrong_fields", str(error)) from error

    def _sender_id(self, payload: bytes) -> Identity | None:
        id_type = self._document.id_type
        if id_type is None:
            return None
        try:
            item = msgspec.convert(self._reader.read(payload), id_type.struct)
        except (PayloadError, msgspec.ValidationError):
            return None
        identity: Identity = id_type.value(item)
        return identity


def _numbers(tensor: Tensor, value: Any) -> Numbers:
    """Returns the numbers of a part from what it was decoded to."""
    if isinstance(value, np.ndarray):
        return tensor.from_array(value)
    if isinstance(value, bytes):
        return tensor.from_blob(value)
    if isinstance(value, list) and value and all(isinstance(each, _BLOBS) for each in value):
        return tensor.from_rows(value)
    depth = _nesting(value)
    tensor.check_depth(depth)
    try:
        return tensor.from_lists(msgspec.convert(value, tensor.types[depth]), depth)
    except msgspec.ValidationError as error:
        place = str(error).replace("`$", f"`$.{tensor.part.path}")
        raise PayloadError("wrong_fields", place) from error


def _nesting(value: Any) -> int:
    """Returns how many lists begin before the first number."""
    depth = 0
    while isinstance(value, list) and depth < MAX_DEPTH:
        depth += 1
        value = value[0] if value else None
    return depth
