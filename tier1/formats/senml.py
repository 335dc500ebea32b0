"""Samples in SenML (RFC 8428)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from shared.errors import PayloadError
from shared.inputs import Inputs
from shared.messages import UNREADABLE
from tier1.formats.arrays import LARGEST_BYTE
from tier1.formats.cbor_reader import CborReader
from tier1.formats.config import SenmlConfig
from tier1.formats.decoded import Decoded, FormatConfigError, SizedFormat, id_text
from tier1.formats.layout import Layout
from tier1.formats.senml_records import (
    ABSOLUTE_S,
    CBOR_LABELS,
    MAX_SHOWN,
    Fields,
    Measurement,
    measurements,
)

MAX_SHOWN_NAMES = 8

_RECORDS = list[dict[Any, Any]]
_JSON = msgspec.json.Decoder(list[dict[str, Any]])


class SenmlFormat(SizedFormat):
    """SenML: the records of a message are the features of one sample.

    The timestamp is that of the latest record among them. A base name is the same in all messages
    of a sensor, so it is no id of a sample.

    Args:
        config: which records, and how they are written.
        inputs: what a row is.
        max_payload_bytes: larger payloads are refused unread.
        clock: seconds since 1970, for times relative to now.

    Raises:
        FormatConfigError: the names do not fit the inputs, or a library is not installed.
    """

    def __init__(
        self,
        config: SenmlConfig,
        inputs: Inputs,
        max_payload_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        if config.names is not None and len(config.names) != inputs.size:
            raise FormatConfigError(
                f"{len(config.names)} names, but the input takes {inputs.size} numbers",
                "write the name of one record for each number",
            )
        self._config = config
        self._layout = Layout("features", inputs)
        self._clock = clock
        self._reader = CborReader() if config.encoding == "cbor" else None
        super().__init__(_expected(config, inputs), max_payload_bytes)

    def _decoded(self, payload: bytes) -> Decoded:
        records = list(measurements(self._pack(payload)))
        named = Named(records)
        of_id = None if self._config.id is None else named.record(self._config.id)
        if self._config.names is not None:
            used = [named.record(name) for name in self._config.names]
        else:
            used = [each for each in records if each.number is not None and each is not of_id]
        size = self._layout.inputs.size
        if len(used) != size:
            raise PayloadError("wrong_length", f"{len(used)} records with a number, not {size}")
        numbers = [_number(each) for each in used]
        rows = self._layout.sample([_bytes(numbers) if self._layout.is_bytes else numbers])
        return Decoded(rows, None if of_id is None else _identity(of_id), self._timestamp(used))

    def _pack(self, payload: bytes) -> Sequence[Fields]:
        """Returns the records, by the labels of JSON."""
        try:
            if self._reader is None:
                return _JSON.decode(payload)
            records = msgspec.convert(self._reader.read(payload), _RECORDS)
        except msgspec.ValidationError as error:
            raise PayloadError("wrong_fields", str(error)) from error
        except UNREADABLE as error:
            problem = f"not JSON: {error}" if payload else "the message is empty"
            raise PayloadError("not_json", problem) from error
        return [dict(_labelled(fields)) for fields in records]

    def _timestamp(self, used: Sequence[Measurement]) -> float | None:
        """Returns when the sample was complete; None for now."""
        if not all(math.isfinite(each.time_s) for each in used):
            raise PayloadError("not_finite", "a time is not a finite number")
        latest_s = max(each.time_s for each in used)
        if latest_s == 0.0:
            return None
        return latest_s if latest_s >= ABSOLUTE_S else self._clock() + latest_s


class Named:
    """The records of a message by their names, resolved and without the base name.

    Args:
        records: the records.
    """

    def __init__(self, records: Sequence[Measurement]) -> None:
        self._records: dict[str, Measurement] = {}
        self._twice: set[str] = set()
        for record in records:
            for name in {record.name, record.own_name}:
                if name in self._records:
                    self._twice.add(name)
                self._records[name] = record

    def record(self, name: str) -> Measurement:
        """Returns the one record of a name.

        Raises:
            PayloadError: there is none, or more than one.
        """
        if name in self._twice:
            raise PayloadError("wrong_fields", f"there is more than one record {name}")
        record = self._records.get(name)
        if record is None:
            raise PayloadError("wrong_fields", f"there is no record {name}")
        return record


def _labelled(fields: Fields) -> Iterator[tuple[str, Any]]:
    """Yields a CBOR record's fields by the labels of JSON; what has none is passed over."""
    for label, value in fields.items():
        known = label if isinstance(label, str) else CBOR_LABELS.get(label)
        if known is not None:
            yield known, value


def _number(record: Measurement) -> float:
    """Returns a record's number; true and false are 1 and 0."""
    if record.number is not None:
        return record.number
    if isinstance(record.other, bool):
        return float(record.other)
    raise PayloadError("wrong_fields", f"the record {record.name:.{MAX_SHOWN}} has no number")


def _bytes(numbers: Sequence[float]) -> list[float]:
    for index, number in enumerate(numbers):
        if not (0 <= number <= LARGEST_BYTE and number.is_integer()):
            problem = f"features[{index}] is no whole number 0 to {LARGEST_BYTE}"
            raise PayloadError("out_of_range", problem)
    return list(map(int, numbers))


def _identity(record: Measurement) -> str:
    if isinstance(record.other, str):
        return id_text(record.other)
    if record.number is not None and record.number.is_integer():
        return id_text(int(record.number))
    problem = f"the record {record.name:.{MAX_SHOWN}} is no text and no whole number"
    raise PayloadError("bad_id", problem)


def _expected(config: SenmlConfig, inputs: Inputs) -> str:
    if config.names is None:
        records = f"{inputs.size} records with a number"
    else:
        shown = ", ".join(config.names[:MAX_SHOWN_NAMES])
        more = len(config.names) - MAX_SHOWN_NAMES
        records = f"the records {shown}" + (f" and {more} more" if more > 0 else "")
    identity = f" and the record {config.id} with the id" if config.id else ""
    return f"SenML in {config.encoding.upper()} with {records}{identity}"
