"""Resolving the records of a SenML pack (RFC 8428, section 4). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from shared.errors import PayloadError

VERSION = 10
MAX_NAME_CHARACTERS = 512
MAX_SHOWN = 64
"""So many characters of a name that somebody sent are told."""
ABSOLUTE_S = 2.0**28
"""From here on a time is seconds since 1970, below relative to now (section 4.5.3)."""

CBOR_LABELS = {
    -1: "bver",
    -2: "bn",
    -3: "bt",
    -4: "bu",
    -5: "bv",
    -6: "bs",
    0: "n",
    1: "u",
    2: "v",
    3: "vs",
    4: "vb",
    5: "s",
    6: "t",
    7: "ut",
    8: "vd",
}
"""Section 6."""

Fields = dict[Any, Any]


class Record(msgspec.Struct, frozen=True):
    """The fields of a record that matter here (sections 4.1 and 4.2)."""

    bver: int = VERSION
    bn: str | UnsetType = UNSET
    bt: float | UnsetType = UNSET
    bv: float | UnsetType = UNSET
    n: str = ""
    t: float = 0.0
    v: float | UnsetType = UNSET
    vs: str | UnsetType = UNSET
    vb: bool | UnsetType = UNSET
    vd: Any = UNSET
    s: float | UnsetType = UNSET


class Measurement(NamedTuple):
    """A resolved record.

    Attributes:
        name: with the base name.
        own_name: without it.
        time_s: since 1970, or relative to now below ``ABSOLUTE_S``.
        number: the value with the base value; None where it is none.
        other: the value that is text or a truth value; None where it is none.
    """

    name: str
    own_name: str
    time_s: float
    number: float | None
    other: str | bool | None


class _Base(NamedTuple):
    """The base fields in force: they hold for their record and all after it (section 4.1)."""

    name: str = ""
    time_s: float = 0.0
    value: float | UnsetType = UNSET

    def after(self, record: Record) -> _Base:
        return _Base(
            self.name if record.bn is UNSET else record.bn,
            self.time_s if record.bt is UNSET else record.bt,
            self.value if record.bv is UNSET else record.bv,
        )


def measurements(pack: Sequence[Fields]) -> Iterator[Measurement]:
    """Yields the records of a pack resolved.

    Args:
        pack: records, by the labels of JSON.

    Raises:
        PayloadError: a record is none, or asks for what is not understood here.
    """
    base = _Base()
    for index, record in enumerate(_records(pack)):
        if record.bver > VERSION:
            raise PayloadError("newer_schema", f"SenML version {record.bver}, above {VERSION}")
        base = base.after(record)
        if len(base.name) + len(record.n) > MAX_NAME_CHARACTERS:
            # One long base name and many short records would fill the memory.
            problem = f"record {index} has a name of more than {MAX_NAME_CHARACTERS} characters"
            raise PayloadError("wrong_fields", problem)
        number, other = _value(record, base, index)
        yield Measurement(base.name + record.n, record.n, base.time_s + record.t, number, other)


def _records(pack: Sequence[Fields]) -> list[Record]:
    for fields in pack:
        odd = next((each for each in fields if isinstance(each, str) and each[-1:] == "_"), None)
        if odd is not None:
            # Such a field changes what the record means (section 4.4).
            raise PayloadError(
                "wrong_fields", f"the field {odd:.{MAX_SHOWN}} is not understood here"
            )
    try:
        return msgspec.convert(pack, list[Record])
    except msgspec.ValidationError as error:
        raise PayloadError("wrong_fields", str(error)) from error


def _value(record: Record, base: _Base, index: int) -> tuple[float | None, str | bool | None]:
    """Returns a record's number, or else its text or truth value (sections 4.2 and 4.5.4)."""
    values = [each for each in (record.v, record.vs, record.vb, record.vd) if each is not UNSET]
    if len(values) > 1:
        raise PayloadError("wrong_fields", f"record {index} has {len(values)} values")
    if record.vs is not UNSET:
        return None, record.vs
    if record.vb is not UNSET:
        return None, record.vb
    if record.v is not UNSET:
        return record.v + (0.0 if base.value is UNSET else base.value), None
    # The missing one of value and base value is zero, but a sum needs no value.
    has_none = bool(values) or record.s is not UNSET or base.value is UNSET
    return (None if has_none else base.value), None  # type: ignore[return-value]
