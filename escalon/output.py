"""What commands print for programs."""

from __future__ import annotations

import msgspec


def as_json(value: object) -> str:
    """Returns a value as indented JSON, without an end of line."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
