"""What one sample is, and how it comes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shared.config_section import Section
from shared.inputs import InputDtype, Inputs, InputSpec, channel_axis

MAX_NUMBERS = 2**24
LARGEST = 1e30
SMALLEST_SCALE = 1e-30


def _as_tuple(value: Any) -> Any:
    """Lets a bare number stand for a list of one."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, int | float) else value


_NUMBERS = (
    BeforeValidator(_as_tuple),
    Field(min_length=1, max_length=MAX_NUMBERS),
    WithJsonSchema({"type": "array", "items": {"type": "number"}}),
)
Means = Annotated[
    tuple[Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)], ...], *_NUMBERS
]
Scales = Annotated[
    tuple[Annotated[float, Field(ge=SMALLEST_SCALE, le=LARGEST, allow_inf_nan=False)], ...],
    *_NUMBERS,
]


class ShapeConfig(Section):
    """How many numbers a sample has, and in which shape."""

    shape: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field(min_length=1, max_length=7)
    """Shape of the model's input without the batch; a sample brings its numbers in C order."""

    @field_validator("shape")
    @classmethod
    def _not_too_many(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if math.prod(shape) > MAX_NUMBERS:
            raise PydanticCustomError(
                "too_many_numbers",
                "a sample of {size} numbers is larger than any message",
                {"size": math.prod(shape), "fix": f"stay within {MAX_NUMBERS:,} numbers"},
            )
        return shape

    @property
    def size(self) -> int:
        """How many numbers a sample has."""
        return math.prod(self.shape)


class InputConfig(ShapeConfig):
    """One input of the model: what a sample brings for it, and how the model is fed."""

    dtype: InputDtype = "float32"
    """The numbers as the sensor sends them; uint8 for the bytes of an image."""
    mean: Means | None = None
    """Is subtracted from each number; 0 where it is left out. One number for all, a list of one
    for each channel (the first dimension, else the last), or of one for each number."""
    scale: Scales | None = None
    """Divides what is left, above 0; as many numbers as ``mean`` may have. 1 where it is left out;
    255 brings an image to 0 to 1. ``mean`` and ``scale`` are those of scikit-learn's
    ``StandardScaler``."""

    @model_validator(mode="after")
    def _fits_the_shape(self) -> Self:
        for key, numbers in (("mean", self.mean), ("scale", self.scale)):
            count = len(numbers or (0,))
            if count not in (1, self.size) and channel_axis(self.shape, count) is None:
                raise PydanticCustomError(
                    "normalisation_length",
                    "{key} has {count} numbers, which fit nothing in shape {shape}",
                    {
                        "key": key,
                        "count": count,
                        "shape": list(self.shape),
                        "fix": f"write one number for all, one for each channel ({self.shape[0]}, "
                        f"or {self.shape[-1]} where it comes last), or {self.size}",
                    },
                )
        return self

    def spec(self, name: str | None) -> InputSpec:
        """Returns it as the input of that name."""
        return InputSpec(self.shape, name, self.dtype, self.mean or (), self.scale or ())


def layout_of(single: InputConfig | None, several: Mapping[str, InputConfig] | None) -> Inputs:
    """Returns the layout of a pipeline's rows from ``input:`` or ``inputs:``, one of which is."""
    if single is not None:
        return Inputs([single.spec(None)])
    return Inputs([config.spec(name) for name, config in (several or {}).items()])
