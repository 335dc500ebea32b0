"""Sample formats: how a sensor's bytes become rows of numbers."""

from __future__ import annotations

from tier1.formats.config import FormatConfig
from tier1.formats.decoded import (
    MAX_ID_CHARACTERS,
    MAX_TIMESTAMP_CHARACTERS,
    Decoded,
    Format,
    FormatConfigError,
    Rows,
)
from tier1.formats.opening import open_format

__all__ = [
    "MAX_ID_CHARACTERS",
    "MAX_TIMESTAMP_CHARACTERS",
    "Decoded",
    "Format",
    "FormatConfig",
    "FormatConfigError",
    "Rows",
    "open_format",
]
