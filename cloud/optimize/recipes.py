"""The ways in which a float32 model is made smaller: what each candidate is. Pure.

docs/adr/0019-recipes.md says why these, with figures.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.releases.artefact import Precision

Kind = Literal["source", "weights", "static", "dynamic"]
Bits = Literal["u8", "s8"]
Ranges = Literal["minmax", "percentile", "entropy"]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How one candidate is made.

    Attributes:
        name: short, unique.
        kind: ``weights`` stores int8 and calculates in float32; ``static`` has ranges from
            calibration inputs; ``dynamic`` takes them from each batch; ``source`` changes nothing.
        activations: their type; unsigned for ``dynamic``, as the operators have it.
        weights: their type.
        per_channel: a scale for each output of a layer, not one for all.
        reduce_range: weights of 7 bits, so that sums of U8S8 do not saturate without VNNI.
        ranges: how the range of an activation is taken from the calibration inputs.
        float_head: a convolution that reads the input stays float32, with its pooling.
        float_tail: the last layer stays float32.
    """

    name: str
    kind: Kind
    activations: Bits = "u8"
    weights: Bits = "s8"
    per_channel: bool = False
    reduce_range: bool = False
    ranges: Ranges = "minmax"
    float_head: bool = False
    float_tail: bool = False

    @property
    def precision(self) -> Precision:
        """What it calculates in, as a release says it."""
        return "int8" if self.kind in ("static", "dynamic") else "fp32"


SOURCE = Recipe(name="fp32", kind="source")
"""The model as it came. It is a candidate like the others."""


def _static(name: str, **options: object) -> Recipe:
    return msgspec.convert({"name": f"static-{name}", "kind": "static", **options}, Recipe)


RECIPES = (
    _static("u8s8"),
    Recipe(name="weights", kind="weights"),
    _static("u8s8-head", float_head=True),
    _static("u8s8-channel", per_channel=True),
    Recipe(name="weights-channel", kind="weights", per_channel=True),
    _static("u8s8-channel-head", per_channel=True, float_head=True),
    _static("u8s8-tail", float_tail=True),
    _static("u8s8-percentile", ranges="percentile"),
    _static("s8s8", activations="s8"),
    _static("s8s8-channel", activations="s8", per_channel=True),
    _static("u8s7", reduce_range=True),
    _static("u8s7-channel", reduce_range=True, per_channel=True),
    _static("u8u8", weights="u8"),
    _static("u8u8-channel", weights="u8", per_channel=True),
    _static("u8s8-entropy", ranges="entropy"),
    Recipe(name="dynamic-u8", kind="dynamic", weights="u8"),
    Recipe(name="dynamic-s8", kind="dynamic"),
)
"""In the order in which they are made: where the time is up, what comes last is left out."""
