"""What people say that samples are: read, and checked. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from shared.cascade.sizes import MAX_ID_CHARACTERS
from shared.errors import PayloadError
from shared.messages import MAX_LABEL_CHARACTERS, Label, SampleLabel, Timestamp, from_json
from shared.topics import MAX_NAME

EXPECTED = 'JSON such as {"id": "17", "label": "ok", "by": "ada", "timestamp": 1764061440.5}'
SHOWN = 10
LATEST_S = 253_402_300_800.0
"""The end of the year 9999. Milliseconds since 1970, as JavaScript's ``Date.now()`` counts them,
lie beyond it."""


def read_label(payload: bytes, pipeline: str, sensor: str, now_s: float) -> SampleLabel:
    """Reads a label as a person publishes it.

    Args:
        payload: JSON of a ``Label``.
        pipeline: whose samples it is about.
        sensor: who sent the sample.
        now_s: seconds since 1970; when it was said, where the label does not say.

    Raises:
        PayloadError: it is none.
    """
    try:
        label = from_json(payload, Label)
    except PayloadError as error:
        raise PayloadError(error.reason, str(error), EXPECTED) from error
    return make_label(label, pipeline, sensor, now_s)


def make_label(label: Label, pipeline: str, sensor: str, now_s: float) -> SampleLabel:
    """Returns a label as it goes to the cloud; the arguments are those of ``read_label``.

    Raises:
        PayloadError: a text is empty or too long, or the timestamp is none.
    """
    sample_id, name, by = str(label.id), str(label.label), label.by.strip()
    limits = {
        "id": (sample_id, 1, MAX_ID_CHARACTERS),
        "label": (name, 1, MAX_LABEL_CHARACTERS),
        "by": (by, 0, MAX_NAME),
    }
    for what, (text, shortest, longest) in limits.items():
        if not shortest <= len(text) <= longest or "\0" in text:
            problem = f"{what} has {len(text)} characters; {shortest} to {longest} are due, no NUL"
            raise PayloadError("bad_label", problem, EXPECTED)
    return SampleLabel(pipeline, sensor, sample_id, name, by, _seconds(label.timestamp, now_s))


def check_class(label: str, labels: Sequence[str]) -> None:
    """Refuses a label that no sample of the pipeline can have.

    Args:
        label: what a person said.
        labels: the pipeline's.

    Raises:
        PayloadError: it is none of them.
    """
    if label not in labels:
        shown = ", ".join(labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else "")
        raise PayloadError("unknown_label", f"label {label!r} is none of {shown}", shown)


def _seconds(timestamp: Timestamp | None, now_s: float) -> float:
    if timestamp is None:
        return now_s
    try:
        if isinstance(timestamp, str):
            read = datetime.fromisoformat(timestamp)
            seconds = read.replace(tzinfo=read.tzinfo or UTC).timestamp()
        else:
            seconds = float(timestamp)
    except (ValueError, OverflowError) as error:
        raise _no_time(timestamp) from error
    if not math.isfinite(seconds):
        raise _no_time(timestamp)
    if seconds >= LATEST_S:
        problem = (
            f"timestamp {timestamp!r} lies beyond the year 9999. Fix: seconds since 1970 are due, "
            "not milliseconds"
        )
        raise PayloadError("bad_timestamp", problem, EXPECTED)
    return seconds


def _no_time(timestamp: Timestamp) -> PayloadError:
    problem = f"timestamp {timestamp!r} is neither seconds since 1970 nor RFC 3339"
    return PayloadError("bad_timestamp", problem, EXPECTED)
