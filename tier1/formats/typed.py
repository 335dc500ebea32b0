"""What JSON and MessagePack share: msgspec decodes straight into the types of what is read."""

from __future__ import annotations

from abc import abstractmethod
from itertools import count
from typing import Any, ClassVar

import msgspec

from shared.errors import PayloadError
from shared.inputs import Inputs
from shared.messages import UNREADABLE
from tier1.formats.config import DocumentConfig
from tier1.formats.decoded import Decoded, SizedFormat
from tier1.formats.document import Document, Identity
from tier1.formats.layout import Numbers
from tier1.formats.tensor import Tensor


class TypedFormat(SizedFormat):
    """A format that msgspec decodes.

    Numbers that may come in one way only are decoded with their object. For others the object
    keeps their bytes as they are, which then tell by which type to decode them.

    Args:
        config: where the fields are.
        inputs: what a row is.
        max_payload_bytes: larger payloads are refused unread.

    Raises:
        FormatConfigError: the format does not fit the inputs.
    """

    name: ClassVar[str]
    reason: ClassVar[str]
    decoder: ClassVar[Any]

    def __init__(self, config: DocumentConfig, inputs: Inputs, max_payload_bytes: int) -> None:
        self._document = Document(config, inputs)
        super().__init__(self._document.expected(self.name), max_payload_bytes)
        self._tensors = self._document.tensors
        self._takes_bare = self._document.takes_bare
        self._are_single = self._document.are_single
        types = [self._part_type(tensor) for tensor in self._tensors]
        fields = self._document.object_type(types)
        self._decode_object = self.decoder(fields.struct).decode
        self._decode_bare = self.decoder(types[0]).decode
        self._take = fields.getter(self._document.paths)
        self._list_decoders = [
            {depth: self.decoder(kind) for depth, kind in tensor.types.items()}
            for tensor in self._tensors
        ]

    def _decoded(self, payload: bytes) -> Decoded:
        try:
            if self._takes_bare and self._is_bare(payload):
                return self._document.decoded([self._numbers(0, self._decode_bare(payload))])
            identity, timestamp, ids, *values = self._take(self._decode_object(payload))
            numbers = [values] if self._are_single else list(map(self._numbers, count(), values))
            return self._document.decoded(numbers, identity, timestamp, ids)
        except msgspec.ValidationError as error:
            raise PayloadError("wrong_fields", str(error)) from error
        except UNREADABLE as error:
            raise PayloadError(self.reason, self._unreadable(payload, error)) from error

    def _lists(self, index: int, raw: msgspec.Raw, depth: int) -> Numbers:
        """Returns the numbers of the lists of part ``index``."""
        tensor = self._tensors[index]
        tensor.check_depth(depth)
        try:
            return tensor.from_lists(self._list_decoders[index][depth].decode(raw), depth)
        except msgspec.ValidationError as error:
            place = str(error).replace("`$", f"`$.{tensor.part.path}")
            raise PayloadError("wrong_fields", place) from error

    def _unreadable(self, payload: bytes, error: Exception) -> str:
        """Returns in words why the bytes are not of this format at all."""
        return f"not {self.name}: {error}" if payload else "the message is empty"

    def _sender_id(self, payload: bytes) -> Identity | None:
        id_type = self._document.id_type
        if id_type is None:
            return None
        try:
            identity: Identity = id_type.value(self.decoder(id_type.struct).decode(payload))
        except UNREADABLE:
            return None
        return identity

    @abstractmethod
    def _part_type(self, tensor: Tensor) -> Any:
        """Returns the type by which a part is decoded with its object."""

    @abstractmethod
    def _is_bare(self, payload: bytes) -> bool:
        """Whether a payload is the numbers alone."""

    @abstractmethod
    def _numbers(self, index: int, value: Any) -> Numbers:
        """Returns the numbers of part ``index`` from what it was decoded to."""
