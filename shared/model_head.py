"""How a model answers: which of its ONNX outputs holds the scores, and in which form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from shared.errors import ArtefactError
from shared.model_feed import Port
from shared.scores import Floats, ScoreKind

FLOAT_TENSORS = ("tensor(float)", "tensor(double)", "tensor(float16)")
LABEL_TENSORS = ("tensor(int64)", "tensor(string)")


class Head(Protocol):
    """Reads scores from one output."""

    name: str
    """Of the ONNX output."""

    def rows(self, output: Any) -> Floats:
        """Returns an output as float32 [N, labels].

        Raises:
            ArtefactError: it has another form.
        """

    def labels(self, output: Any) -> tuple[str, ...]:
        """Returns the labels in an output; empty where an output has none."""


class TensorHead:
    """Reads scores from a tensor.

    A model that gives one number a sample is binary: its probability p of the second label stands
    for (1 - p, p), its logit z for the logits (0, z), whose softmax is the sigmoid of z.

    Args:
        name: of the ONNX output.
        kind: what it holds.
    """

    def __init__(self, name: str, kind: ScoreKind) -> None:
        self.name = name
        self._kind = kind

    def rows(self, output: Any) -> Floats:
        """Returns an output as float32 [N, labels].

        Args:
            output: float [N, labels], [N], or more dimensions of which one beside N is above 1.

        Raises:
            ArtefactError: it has another form.
        """
        array: Floats = output
        if array.dtype != np.float32:
            with np.errstate(over="ignore", invalid="ignore"):
                array = array.astype(np.float32)
        if array.ndim == 2 and array.shape[1] > 1:
            return array
        if array.ndim == 0 or sum(size > 1 for size in array.shape[1:]) > 1:
            raise ArtefactError(f"its output `{self.name}` has shape {array.shape}: no [N, labels]")
        flat: Floats = array.reshape(len(array), -1)
        return _two_columns(flat, self._kind) if flat.shape[1] == 1 else flat

    def labels(self, output: Any) -> tuple[str, ...]:
        """Returns nothing: numbers carry no labels."""
        return ()


class MapHead:
    """Reads scores from a list of maps, as skl2onnx writes them with ``zipmap``.

    Args:
        name: of the ONNX output.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def rows(self, output: Any) -> Floats:
        """Returns an output as float32 [N, labels], the labels in the order of the maps."""
        return np.array([list(row.values()) for row in output], np.float32)

    def labels(self, output: Any) -> tuple[str, ...]:
        """Returns the labels, which are the keys of the first map."""
        return tuple(map(str, output[0])) if output else ()


def choose_head(ports: Sequence[Port], wanted: str | None, kind: ScoreKind, labels: int) -> Head:
    """Returns the output that holds the scores.

    Args:
        ports: the model's outputs.
        wanted: name of the one to take; None to find it.
        kind: what it holds.
        labels: how many scores it has; 0 where that is not known yet.

    Raises:
        ArtefactError: there is none, or several could be meant; says what the model has.
    """
    named = [port for port in ports if port.name == wanted]
    if wanted is not None and not named:
        raise ArtefactError(f"it has no output `{wanted}`, but {_listed(ports)}")
    found = named or _candidates(ports, labels)
    if len(found) != 1:
        how_many = "none" if not found else "more than one"
        raise ArtefactError(
            f"{how_many} of its outputs may hold the scores: {_listed(ports)}. "
            "Fix: name one with `output:`, of floats [N, labels]"
        )
    port = found[0]
    if _is_map(port):
        return MapHead(port.name)
    if port.type not in FLOAT_TENSORS:
        raise ArtefactError(f"its output {port} holds no scores. Fix: name another with `output:`")
    return TensorHead(port.name, kind)


def label_output(ports: Sequence[Port]) -> str | None:
    """Returns the output that holds the predicted label, as classifiers of skl2onnx have one."""
    names = [port.name for port in ports if port.type in LABEL_TENSORS]
    return names[0] if len(names) == 1 else None


def _candidates(ports: Sequence[Port], labels: int) -> list[Port]:
    tensors = [port for port in ports if port.type in FLOAT_TENSORS]
    if len(tensors) > 1:
        fitting = [port for port in tensors if port.shape[1:] == (labels,)]
        return fitting or tensors
    return tensors or [port for port in ports if _is_map(port)]


def _is_map(port: Port) -> bool:
    return port.type.startswith("seq(map(")


def _two_columns(column: Floats, kind: ScoreKind) -> Floats:
    other = 1 - column if kind == "probabilities" else np.zeros_like(column)
    return np.concatenate([other, column], axis=1)


def _listed(ports: Sequence[Port]) -> str:
    return "; ".join(map(str, ports))
