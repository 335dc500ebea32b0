"""Just enough of ONNX's file format to find the labels of a scikit-learn classifier.

ONNX Runtime does not show a model's graph, and a tier node has no ``onnx`` package. What is read
here: names of nodes, inputs and outputs, integers and texts. Numbers of the weights are skipped.

Source: ``onnx/onnx.proto`` for the field numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.protobuf import Fields, Value, fields, message_in, signed, text_in, varints

MAX_CONSTANT_BYTES = 4 * 2**20

GRAPH = 7  # of ModelProto
NODE, INITIALIZER = 1, 5  # of GraphProto
NODE_INPUT, NODE_OUTPUT, OP_TYPE, ATTRIBUTE = 1, 2, 4, 5  # of NodeProto
ATTRIBUTE_NAME, ATTRIBUTE_INTS, ATTRIBUTE_STRINGS = 1, 8, 9  # of AttributeProto
DATA_TYPE, INT32_DATA, STRING_DATA, INT64_DATA, TENSOR_NAME, RAW_DATA = 2, 5, 6, 7, 8, 9
RAW_INTEGER_BYTES: dict[Value, int] = {
    6: 4,
    7: 8,
}  # TensorProto.DataType INT32 and INT64, little-endian


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a graph.

    Attributes:
        op_type: what it does.
        inputs: names of what it takes.
        outputs: names of what it gives.
        attributes: its settings, unread.
    """

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[memoryview, ...]

    def values(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Returns as text the integers or texts of the first of these attributes that has any.

        Raises:
            ArtefactError: it is damaged.
        """
        for attribute in map(fields, self.attributes):
            if _name(attribute[ATTRIBUTE_NAME]) in names:
                texts = tuple(map(text_in, attribute[ATTRIBUTE_STRINGS]))
                values = texts or _integers(attribute[ATTRIBUTE_INTS])
                if values:
                    return values
        return ()


class Graph:
    """The operations of a model.

    Args:
        model: the bytes of an ONNX file.

    Raises:
        ArtefactError: not an ONNX file.
    """

    def __init__(self, model: bytes) -> None:
        self._producers: dict[str, Node] = {}
        self._constants: dict[str, memoryview] = {}
        for graph in fields(memoryview(model))[GRAPH]:
            self._read(fields(message_in(graph)))

    def producer(self, name: str) -> Node | None:
        """Returns the operation that gives what has this name."""
        return self._producers.get(name)

    def constant(self, name: str) -> tuple[str, ...]:
        """Returns as text the integers or texts of a constant; empty if it is none of these.

        Raises:
            ArtefactError: it is damaged.
        """
        tensor = self._constants.get(name, b"")
        if len(tensor) > MAX_CONSTANT_BYTES:
            return ()
        found = fields(memoryview(tensor))
        texts = tuple(map(text_in, found[STRING_DATA]))
        return texts or _integers(found[INT32_DATA] + found[INT64_DATA]) or _raw_integers(found)

    def _read(self, graph: Fields) -> None:
        for message in graph[NODE]:
            node = _node(fields(message_in(message)))
            self._producers.update((output, node) for output in node.outputs)
        for message in graph[INITIALIZER]:
            tensor = message_in(message)
            self._constants[_name(fields(tensor)[TENSOR_NAME])] = tensor


def _node(message: Fields) -> Node:
    return Node(
        _name(message[OP_TYPE]),
        tuple(map(text_in, message[NODE_INPUT])),
        tuple(map(text_in, message[NODE_OUTPUT])),
        tuple(map(message_in, message[ATTRIBUTE])),
    )


def _raw_integers(tensor: Fields) -> tuple[str, ...]:
    width = max((RAW_INTEGER_BYTES.get(kind, 0) for kind in tensor[DATA_TYPE]), default=0)
    if not width:
        return ()
    return tuple(
        str(int.from_bytes(raw[start : start + width], "little", signed=True))
        for raw in map(message_in, tensor[RAW_DATA])
        for start in range(0, len(raw) // width * width, width)
    )


def _integers(values: Iterable[Value]) -> tuple[str, ...]:
    """Returns signed integers as text."""
    return tuple(str(signed(number)) for value in values for number in varints(value))


def _name(values: list[Value]) -> str:
    return text_in(values[-1]) if values else ""
