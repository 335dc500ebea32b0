"""What a command line can have wrong beyond what argparse sees."""

from __future__ import annotations

from shared.errors import EscalonError


class UsageError(EscalonError):
    """The command line does not say enough, contradicts itself or names what there is not."""
