"""Formats of objects with named fields: which fields are read, and how they become samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.errors import PayloadError
from shared.inputs import Inputs
from shared.messages import Timestamp
from tier1.formats.arrays import wire_dtype
from tier1.formats.config import BinaryDocumentConfig, DocumentConfig
from tier1.formats.decoded import Decoded, checked_timestamp, id_text
from tier1.formats.layout import Layout, Numbers
from tier1.formats.paths import Leaf, ObjectType, words_of
from tier1.formats.tensor import Tensor

MAX_SHOWN_PARTS = 8

Identity = str | int


class Document:
    """What is read from the messages of a pipeline whose format has named fields.

    Args:
        config: where the fields are.
        inputs: what a row is.

    Attributes:
        layout: how the numbers make a row.
        tensors: the numbers, part for part.
        paths: of id, timestamp, ids and each part; None for what messages do not have.
        takes_bare: whether the numbers alone may stand for the whole object.
        id_path: where the id is; None where messages have none.
        id_type: the type of an object of which the id alone is read; None where there is none.
        are_single: whether every part is a single number of a single sample.

    Raises:
        FormatConfigError: the format does not fit the inputs.
    """

    def __init__(self, config: DocumentConfig, inputs: Inputs) -> None:
        pack = config.pack
        self.layout = Layout(config.features, inputs)
        self._takes_bytes = isinstance(config, BinaryDocumentConfig)
        named = config.dtype if isinstance(config, BinaryDocumentConfig) else None
        self._wire_dtype = wire_dtype(named, inputs.dtype)
        self.tensors = [
            Tensor(part, inputs.dtype, self._wire_dtype, pack.max_samples if pack else None)
            for part in self.layout.parts
        ]
        ids = pack.ids if pack else None
        # What a user wrote down must be there, else a misspelt path would never be noticed.
        written = config.model_fields_set | (pack.model_fields_set if pack else set())
        self._leaves = [
            Leaf(path, kind, name in written)
            for name, path, kind in (
                ("id", config.id, Identity),
                ("timestamp", config.timestamp, Timestamp),
                ("ids", ids, list[Identity]),
            )
            if path is not None
        ]
        self.id_path = config.id
        self.id_type = None if config.id is None else ObjectType([Leaf(config.id, Identity)])
        parts = (part.path for part in self.layout.parts)
        self.paths = (config.id, config.timestamp, ids, *parts)
        self.are_single = pack is None and not any(part.shape for part in self.layout.parts)
        self.takes_bare = isinstance(config.features, str) and not any(
            leaf.is_required for leaf in self._leaves
        )

    def object_type(self, part_types: Sequence[Any]) -> ObjectType:
        """Returns the type of an object with all that is read.

        Args:
            part_types: msgspec's type for each part.
        """
        parts = zip(self.layout.parts, part_types, strict=True)
        return ObjectType([*self._leaves, *(Leaf(part.path, kind) for part, kind in parts)])

    def decoded(
        self,
        numbers: Sequence[Numbers],
        identity: Identity | None = None,
        timestamp: Timestamp | None = None,
        ids: Sequence[Identity] | None = None,
    ) -> Decoded:
        """Puts a message together.

        Args:
            numbers: of each part.
            identity: the sender's.
            timestamp: the sender's.
            ids: of a pack's samples.

        Raises:
            PayloadError: an id or the timestamp is none, or ids or parts are not as many as there
                are samples.
        """
        text = None if identity is None else id_text(identity)
        timestamp = checked_timestamp(timestamp)
        if not self.tensors[0].is_pack:
            return Decoded(self.layout.sample(numbers), text, timestamp)
        rows = self.layout.pack(numbers)
        if ids is None:
            return Decoded(rows, text, timestamp)
        if len(ids) != len(rows):
            raise PayloadError("wrong_length", f"{len(ids)} ids for {len(rows)} samples")
        return Decoded(rows, text, timestamp, tuple(map(id_text, ids)))

    def expected(self, name: str) -> str:
        """Returns what a sender is told to send, in a format of that name."""
        words = ["text", "seconds", "[text for each]", *(each.expected for each in self.tensors)]
        shown = len(words) - len(self.tensors) + MAX_SHOWN_PARTS
        more = len(words) - shown
        text = f"{name} {words_of(list(zip(self.paths, words, strict=True))[:shown])}"
        if more > 0:
            text += f" and {more} more of the kind"
        if self.takes_bare:
            text += f" or a bare array of {words[-1][1:-1]}"
        if self._takes_bytes:
            text += f", numbers also as little-endian {self._wire_dtype.name} bytes"
        return text
