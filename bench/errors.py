"""What can go wrong in a benchmark."""

from __future__ import annotations

from shared.errors import EscalonError


class BenchError(EscalonError):
    """A benchmark cannot be carried out."""


class StalledError(BenchError):
    """A contestant stopped answering."""
