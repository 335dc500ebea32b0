"""A model of the user's own, from a file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.config_section import ExistingFile, Section


class ModelConfig(Section):
    """A model that is there before the first release, from a file of yours."""

    path: ExistingFile
    """The ONNX file."""
    version: str = Field(default="local", min_length=1, max_length=64)
    """The version that predictions carry."""
    labels: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    """One label for each of the model's outputs, in their order."""
    scores: Literal["logits", "probabilities"] = "probabilities"
    """What the model's output holds."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """The logits are divided by it before the softmax."""
    threshold: float = Field(default=0.9, ge=0, le=1)
    """Tier-1 answers itself from this confidence on. A release brings a certified one with it."""
