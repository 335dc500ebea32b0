"""What one sample is, and how it comes."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from shared.config_section import Section


class InputConfig(Section):
    """What one sample is."""

    shape: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field(min_length=1, max_length=7)
    """Shape of the model's input without the batch; a sample brings its numbers in C order."""

    @property
    def size(self) -> int:
        """How many numbers a sample has."""
        return math.prod(self.shape)
