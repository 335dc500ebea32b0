"""The labels that a model's file brings with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shared.onnx_graph import Graph

METADATA_KEYS = ("labels", "classes", "class_names", "names", "id2label")
MAX_LABELS = 10_000
MAX_LABEL_CHARACTERS = 256
MAX_TEXT_BYTES = 4 * 2**20
MAX_STEPS = 16

# What skl2onnx puts between a classifier's label and its output; none of it changes the order.
BETWEEN = ("Cast", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten")
CLASS_ATTRIBUTES = ("classlabels_ints", "classlabels_int64s", "classlabels_strings")


def labels_in_metadata(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the labels in the ``metadata_props`` of a model; empty if there are none.

    Args:
        metadata: as ONNX Runtime gives it. A value is a JSON list, an object from index to label
            (also as Python writes it, like Ultralytics' ``names``), or a text with commas.
    """
    for key in METADATA_KEYS:
        labels = _parse(metadata.get(key, ""))
        if labels:
            return labels
    return ()


def labels_in_graph(model: bytes, label_output: str) -> tuple[str, ...]:
    """Returns the labels of a classifier that skl2onnx or onnxmltools made; empty if it is none.

    They are the class labels of the operation that gives the label output (ONNX's ``ai.onnx.ml``
    operators: LinearClassifier, SVMClassifier, TreeEnsembleClassifier), or the constant from which
    an ``ArrayFeatureExtractor`` picks at the ``ArgMax`` of the scores.

    Args:
        model: the bytes of its file.
        label_output: name of the ONNX output that holds the predicted label.

    Raises:
        ArtefactError: it is no ONNX file.
    """
    graph = Graph(model)
    node = graph.producer(label_output)
    for _ in range(MAX_STEPS):
        if node is None or not node.inputs:
            return ()
        labels = node.values(CLASS_ATTRIBUTES)
        if labels:
            return labels
        if node.op_type == "ArrayFeatureExtractor" and len(node.inputs) > 1:
            picker = graph.producer(node.inputs[1])
            picks = picker is not None and picker.op_type == "ArgMax"
            return graph.constant(node.inputs[0]) if picks else ()
        if node.op_type not in BETWEEN:
            return ()
        node = graph.producer(node.inputs[0])
    return ()


def labels_in_text(text: str) -> tuple[str, ...]:
    """Returns the labels of a labels file.

    Args:
        text: one label a line, or a JSON list.

    Raises:
        ValueError: it is neither; says what is wrong.
    """
    if text.lstrip().startswith("["):
        try:
            return tuple(msgspec.json.decode(text, type=list[str]))
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"it is no JSON list of texts: {error}") from error
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise ValueError(f"line {lines.index('') + 1} is empty")
    return tuple(lines)


def problem_with(labels: Sequence[str]) -> str:
    """Returns why these cannot be labels; empty if they can."""
    if not 2 <= len(labels) <= MAX_LABELS:
        return f"a model has 2 to {MAX_LABELS:,} labels, not {len(labels)}"
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL_CHARACTERS:
            return f"a label has 1 to {MAX_LABEL_CHARACTERS} characters, not {len(label)}"
    if len(set(labels)) < len(labels):
        twice = next(label for place, label in enumerate(labels) if label in labels[:place])
        return f"the label {twice} stands twice"
    return ""


def _parse(text: str) -> tuple[str, ...]:
    if not text or len(text) > MAX_TEXT_BYTES:
        return ()
    labels = _in_order(_decoded(text)) if text.lstrip()[:1] in "[{(" else _split(text)
    return () if problem_with(labels) else labels


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in re.split(r"[,\n]", text.strip()))


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _in_order(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        by_index = {str(index): label for index, label in value.items()}
        value = [by_index.get(str(index)) for index in range(len(by_index))]
    if not isinstance(value, list | tuple):
        return ()
    if not all(isinstance(label, str | int) and not isinstance(label, bool) for label in value):
        return ()
    return tuple(map(str, value))
