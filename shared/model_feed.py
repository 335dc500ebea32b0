"""How a model takes a batch: its ONNX inputs, their types and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import ArtefactError
from shared.inputs import Inputs, InputSpec

ELEMENT_TYPES: dict[str, np.dtype[Any]] = {
    f"tensor({onnx})": np.dtype(numpy)
    for onnx, numpy in {
        "float": "float32",
        "double": "float64",
        "float16": "float16",
        "uint8": "uint8",
        "int32": "int32",
        "int64": "int64",
    }.items()
}


class Port(NamedTuple):
    """One input or output of an ONNX model.

    Attributes:
        name: its name.
        type: as ONNX Runtime writes it: ``tensor(float)``.
        shape: the batch first; a name or None where a dimension is free. Empty where it is unknown.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        dimensions = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"`{self.name}`: {self.type} [{dimensions}]"


class Feed:
    """Brings rows to the inputs of a model.

    Args:
        ports: the model's inputs.
        inputs: the pipeline's.

    Attributes:
        batch_size: the only one that the model takes; None where any does.

    Raises:
        ArtefactError: they do not fit; says what the model has and what to write.
    """

    def __init__(self, ports: Sequence[Port], inputs: Inputs) -> None:
        self._inputs = inputs
        self._targets = [
            (port.name, _element_type(port, spec))
            for port, spec in zip(_ordered(ports, inputs), inputs.specs, strict=True)
        ]
        for port, spec in zip(_ordered(ports, inputs), inputs.specs, strict=True):
            _check_shape(port, spec)
        fixed = {size for port in ports for size in port.shape[:1] if isinstance(size, int)}
        if len(fixed) > 1 or 0 in fixed:
            raise ArtefactError(f"its inputs have no batch size in common: {_listed(ports)}")
        self.batch_size = max(fixed, default=None)
        (name, dtype), *others = self._targets
        as_it_is = inputs.as_they_are and inputs.dtype == dtype and not others
        self._as_it_is = name if as_it_is else None

    def __call__(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Returns what ONNX Runtime is fed.

        Args:
            rows: of the pipeline's dtype, [N, *shape].
        """
        if self._as_it_is is not None:
            return {self._as_it_is: rows}
        with np.errstate(invalid="ignore", over="ignore"):
            return {
                name: part.astype(dtype, copy=False)
                for (name, dtype), part in zip(self._targets, self._inputs.parts(rows), strict=True)
            }


def _ordered(ports: Sequence[Port], inputs: Inputs) -> list[Port]:
    """Returns the model's inputs in the order of the pipeline's."""
    if len(inputs.specs) == 1 and inputs.names[0] is None:
        if len(ports) != 1:
            raise ArtefactError(
                f"it has {len(ports)} inputs: {_listed(ports)}. Fix: write `inputs:` with a "
                "section for each of them instead of `input:`"
            )
        return list(ports)
    by_name = {port.name: port for port in ports}
    if set(by_name) != set(inputs.names):
        raise ArtefactError(
            f"its inputs are {_listed(ports)}, those of the pipeline "
            f"{', '.join(map(str, inputs.names))}. Fix: name the model's inputs in `inputs:`"
        )
    return [by_name[str(name)] for name in inputs.names]


def _element_type(port: Port, spec: InputSpec) -> np.dtype[Any]:
    dtype = ELEMENT_TYPES.get(port.type)
    if dtype is None:
        known = ", ".join(ELEMENT_TYPES)
        raise ArtefactError(f"its input {port} is none of {known}. Fix: export it with one of them")
    if dtype == np.uint8 and spec.dtype != "uint8":
        raise ArtefactError(f"its input {port} takes bytes. Fix: write `dtype: uint8` for it")
    if dtype.kind != "f" and spec.normalised:
        raise ArtefactError(
            f"its input {port} takes whole numbers. Fix: leave out `mean` and `scale` for it"
        )
    return dtype


def _check_shape(port: Port, spec: InputSpec) -> None:
    wanted = port.shape[1:]
    fits = len(wanted) == len(spec.shape) and all(
        want == size or not isinstance(want, int)
        for want, size in zip(wanted, spec.shape, strict=True)
    )
    if port.shape and not fits:
        dimensions = ", ".join("?" if size is None else str(size) for size in wanted)
        raise ArtefactError(
            f"its input {port} does not take samples of shape {list(spec.shape)}. "
            f"Fix: write `shape: [{dimensions}]`"
        )


def _listed(ports: Sequence[Port]) -> str:
    return "; ".join(map(str, ports)) or "none"
