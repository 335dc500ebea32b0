"""What every sample format offers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Protocol

import msgspec
from numpy.typing import NDArray

from shared.errors import ConfigError, PayloadError
from shared.messages import Timestamp

MAX_ID_CHARACTERS = 128
MAX_TIMESTAMP_CHARACTERS = 128

Rows = list[float] | NDArray[Any]
"""One sample as a flat list of ``size`` floats, or samples as an array [N, *shape]."""


class FormatConfigError(ConfigError):
    """A format that does not fit the pipeline's input, or that cannot be read here.

    Attributes:
        problem: what is wrong.
        fix: what to do about it.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}. Fix: {fix}.")
        self.problem = problem
        self.fix = fix


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """The samples of one message.

    Whether the numbers are finite is not looked at here: a whole batch is, at once.

    Attributes:
        rows: of one sample a flat list of ``size`` floats, or an array [1, *shape]; of a pack an
            array [N, *shape]. Arrays are of the input's dtype, and may be read-only.
        id: the sender's, 1 to 128 characters.
        timestamp: the sender's, seconds since 1970, or text of up to 128 characters as the sender
            wrote it.
        ids: of a pack's samples, where they have ids of their own.
    """

    rows: Rows
    id: str | None = None
    timestamp: Timestamp | None = None
    ids: tuple[str, ...] | None = None


class Format(Protocol):
    """How the messages of a pipeline hold its samples."""

    @property
    def expected(self) -> str:
        """What a sender is told to send."""

    def decode(self, payload: bytes) -> Decoded:
        """Decodes one message.

        Raises:
            PayloadError: it is not what ``expected`` says, which the error carries.
        """

    def sender_id(self, payload: bytes) -> str | None:
        """Returns the id in a refused payload, if it can be read, so that its sender knows it."""


class SizedFormat(ABC):
    """A format whose larger payloads are refused unread.

    Args:
        expected: what a sender is told to send, without the limit.
        max_payload_bytes: the limit.

    Attributes:
        expected: what a sender is told to send.
    """

    def __init__(self, expected: str, max_payload_bytes: int) -> None:
        self.expected = f"{expected}, at most {max_payload_bytes} bytes"
        self._max_payload_bytes = max_payload_bytes

    def decode(self, payload: bytes) -> Decoded:
        """Decodes one message; see ``Format``."""
        try:
            if len(payload) > self._max_payload_bytes:
                problem = f"{len(payload)} bytes, more than {self._max_payload_bytes}"
                raise PayloadError("too_large", problem)
            return self._decoded(payload)
        except PayloadError as error:
            error.expected = self.expected
            raise

    def sender_id(self, payload: bytes) -> str | None:
        """Returns the id in a refused payload; see ``Format``."""
        if len(payload) > self._max_payload_bytes:
            return None
        identity = self._sender_id(payload)
        return str(identity)[:MAX_ID_CHARACTERS] or None if identity is not None else None

    @abstractmethod
    def _decoded(self, payload: bytes) -> Decoded:
        """Decodes a payload that is within the limit, or raises a PayloadError."""

    def _sender_id(self, payload: bytes) -> str | int | None:
        """Returns the id that can be made out in a payload; in most formats there is none."""
        return None


def id_text(given: str | int) -> str:
    """Returns an id as text.

    Raises:
        PayloadError: empty, or of more than 128 characters.
    """
    text = given if type(given) is str else str(given)
    if 0 < len(text) <= MAX_ID_CHARACTERS:
        return text
    problem = f"an id has 1 to {MAX_ID_CHARACTERS} characters, not {len(text)}"
    raise PayloadError("bad_id", problem)


def checked_timestamp(given: Timestamp | None) -> Timestamp | None:
    """Returns a timestamp as it is, to be handed on with every answer.

    Raises:
        PayloadError: text of more than 128 characters, or a number that is not finite.
    """
    if isinstance(given, str):
        if len(given) > MAX_TIMESTAMP_CHARACTERS:
            problem = f"a timestamp has at most {MAX_TIMESTAMP_CHARACTERS} characters"
            raise PayloadError("bad_timestamp", f"{problem}, not {len(given)}")
    elif given is not None and not math.isfinite(given):
        raise PayloadError("not_finite", "the timestamp is not a finite number")
    return given
