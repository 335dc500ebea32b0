"""Configuration of the key ``format:`` of a tier-1 pipeline: how a message holds a sample."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.config_section import Section

MAX_PATH_CHARACTERS = 256
MAX_PACK_SAMPLES = 65_536

WireDtype = Literal[
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
"""Element types of binary samples, always little-endian."""

# What msgspec does not take in the name of a field.
_NOT_IN_A_KEY = re.compile(r'["\\\x00-\x1f]')


def _path(path: str) -> str:
    if not all(path.split(".")) or _NOT_IN_A_KEY.search(path) or len(path) > MAX_PATH_CHARACTERS:
        raise PydanticCustomError(
            "field_path",
            "not a path of fields",
            {
                "fix": "write a field's name, or names joined by dots such as `motor.rpm`, without "
                f"quotes and backslashes, of at most {MAX_PATH_CHARACTERS} characters"
            },
        )
    return path


FieldPath = Annotated[str, AfterValidator(_path)]
"""A field's name, or the names of the objects above it and its own, joined by dots."""


def _features(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Says once what is accepted, instead of once for each way of writing it."""
    try:
        return handler(value)
    except ValidationError as error:
        raise PydanticCustomError(
            "features",
            "not a place of features in a message",
            {
                "fix": "write one path such as `data.values`, a list of paths of single numbers "
                "such as `[temp, motor.rpm]`, or for several inputs one of both for each of them"
            },
        ) from error


# A validator before a type's own turns JSON to Python's lists, which a strict tuple does not take.
PartPaths = FieldPath | Annotated[tuple[FieldPath, ...], Field(min_length=1, strict=False)]
FeaturePaths = Annotated[
    PartPaths | Annotated[dict[str, PartPaths], Field(min_length=1)], WrapValidator(_features)
]


class PackConfig(Section):
    """A message is a pack of samples, answered by one message."""

    max_samples: int = Field(ge=1, le=MAX_PACK_SAMPLES)
    """A message with more samples is refused."""


class DocumentPackConfig(PackConfig):
    """A message is a pack of samples, with ids of their own where they have them."""

    ids: FieldPath | None = "ids"
    """Path to a list of the samples' ids. Written down, every message must have it; left out,
    ``ids`` where a message has it; ``null`` for none."""


class DocumentConfig(Section):
    """Where an object with named fields has its sample."""

    id: FieldPath | None = "id"
    """Path to the id, text or a whole number. Written down, every message must have it; left out,
    ``id`` where a message has it; ``null`` where no field is an id of the sample."""
    timestamp: FieldPath | None = "timestamp"
    """Path to the timestamp: seconds since 1970, or text. As for ``id``."""
    features: FeaturePaths = "features"
    """Path to the numbers, flat or nested as the input's shape; or a list of paths of single
    numbers; or for several inputs, by the input's name, one of both. A bare array of numbers stands
    for the whole object where this is a single path."""
    pack: DocumentPackConfig | None = None
    """Left out, a message is one sample."""

    @model_validator(mode="after")
    def _no_place_twice(self) -> Self:
        # Sorted, a path stands right before those that go on from it.
        paths = sorted(path.split(".") for path in self._paths())
        for one, other in pairwise(paths):
            if other[: len(one)] == one:
                raise PydanticCustomError(
                    "path_twice",
                    "{one} and {other} cannot both be read",
                    {
                        "one": ".".join(one),
                        "other": ".".join(other),
                        "fix": "give each its own path, and `null` to an id or timestamp "
                        "that messages do not have",
                    },
                )
        return self

    def _paths(self) -> Iterator[str]:
        ids = self.pack.ids if self.pack else None
        yield from (path for path in (self.id, self.timestamp, ids) if path is not None)
        by_input = self.features.values() if isinstance(self.features, dict) else [self.features]
        for paths in by_input:
            yield from [paths] if isinstance(paths, str) else paths


class JsonConfig(DocumentConfig):
    """JSON: an object, or a bare array of numbers."""

    kind: Literal["json"] = "json"
    """This format."""


class BinaryDocumentConfig(DocumentConfig):
    """As JSON, with the numbers as bytes where the sender likes."""

    dtype: WireDtype | None = None
    """What features that come as bytes hold, little-endian; left out, the input's own dtype."""


class CborConfig(BinaryDocumentConfig):
    """CBOR (RFC 8949), with typed arrays (RFC 8746). Needs the extra ``cbor``."""

    kind: Literal["cbor"]
    """This format."""


class MsgpackConfig(BinaryDocumentConfig):
    """MessagePack."""

    kind: Literal["msgpack"]
    """This format."""


class NpyConfig(Section):
    """NumPy's .npy file; never pickle."""

    kind: Literal["npy"]
    """This format."""
    pack: PackConfig | None = None
    """Left out, a message is one sample; else the first dimension counts the samples."""


class RawConfig(Section):
    """The bare numbers, little-endian, in C order."""

    kind: Literal["raw"]
    """This format."""
    dtype: WireDtype | None = None
    """Type of the numbers; left out, the input's own dtype."""
    pack: PackConfig | None = None
    """Left out, a message is one sample; else its length says how many they are."""


class SenmlConfig(Section):
    """SenML (RFC 8428): a message is one sample, its records are the features."""

    kind: Literal["senml"]
    """This format."""
    encoding: Literal["json", "cbor"] = "json"
    """How the records are written; ``cbor`` needs the extra ``cbor``."""
    names: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        default=None, min_length=1, strict=False
    )
    """Names of the records in the order of the features, resolved or without the base name; left
    out, every record with a number, in their order."""
    id: Annotated[str, Field(min_length=1)] | None = None
    """Name of the record whose text or whole number is the sample's id; left out, it has none."""
    pack: None = None
    """A SenML pack is one sample."""

    @field_validator("pack", mode="before")
    @classmethod
    def _is_one_sample(cls, pack: Any) -> Any:
        if pack is not None:
            raise PydanticCustomError(
                "senml_pack",
                "a SenML message is one sample",
                {"fix": "remove `pack:`, or send packs by another format such as cbor"},
            )
        return pack


def _json_by_default(value: Any) -> Any:
    return {"kind": "json", **value} if isinstance(value, dict) else value


FormatConfig = Annotated[
    Annotated[
        JsonConfig | CborConfig | MsgpackConfig | NpyConfig | RawConfig | SenmlConfig,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_json_by_default),
]
"""How a message holds a sample; ``kind`` says which of the sections it is, ``json`` if left out."""
