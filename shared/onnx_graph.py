"""Just enough of ONNX's file format to find the labels of a scikit-learn classifier.

ONNX Runtime does not show a model's graph, and a tier node has no ``onnx`` package. What is read
here: names of nodes, inputs and outputs, integers and texts. Numbers of the weights are skipped.

Sources: ``onnx/onnx.proto`` for the field numbers; Protocol Buffers, "Encoding", for the format.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.errors import ArtefactError

MAX_VARINT_BYTES = 10
MAX_CONSTANT_BYTES = 4 * 2**20
Value = int | memoryview

FIXED_BYTES = {1: 8, 5: 4}  # wire types of fixed length
VARINT, LENGTH_DELIMITED = 0, 2

GRAPH = 7  # of ModelProto
NODE, INITIALIZER = 1, 5  # of GraphProto
NODE_INPUT, NODE_OUTPUT, OP_TYPE, ATTRIBUTE = 1, 2, 4, 5  # of NodeProto
ATTRIBUTE_NAME, ATTRIBUTE_INTS, ATTRIBUTE_STRINGS = 1, 8, 9  # of AttributeProto
DATA_TYPE, INT32_DATA, STRING_DATA, INT64_DATA, TENSOR_NAME, RAW_DATA = 2, 5, 6, 7, 8, 9
RAW_INTEGER_BYTES: dict[Value, int] = {
    6: 4,
    7: 8,
}  # TensorProto.DataType INT32 and INT64, little-endian

Fields = Mapping[int, list[Value]]


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
                texts = tuple(map(_text, attribute[ATTRIBUTE_STRINGS]))
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
            self._read(fields(_message(graph)))

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
        texts = tuple(map(_text, found[STRING_DATA]))
        return texts or _integers(found[INT32_DATA] + found[INT64_DATA]) or _raw_integers(found)

    def _read(self, graph: Fields) -> None:
        for message in graph[NODE]:
            node = _node(fields(_message(message)))
            self._producers.update((output, node) for output in node.outputs)
        for message in graph[INITIALIZER]:
            tensor = _message(message)
            self._constants[_name(fields(tensor)[TENSOR_NAME])] = tensor


def fields(message: memoryview) -> Fields:
    """Returns the fields of a message by their number: integers, or the bytes in them.

    Raises:
        ArtefactError: it is damaged.
    """
    found: defaultdict[int, list[Value]] = defaultdict(list)
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            value, place = _varint(message, place)
            found[number].append(value)
            continue
        if wire_type == LENGTH_DELIMITED:
            size, place = _varint(message, place)
        elif wire_type in FIXED_BYTES:
            size = FIXED_BYTES[wire_type]
        else:
            raise ArtefactError(f"not an ONNX file: wire type {wire_type}")
        if size > len(message) - place:
            raise ArtefactError("not an ONNX file, or a part of one: it ends within a field")
        if wire_type == LENGTH_DELIMITED:
            found[number].append(message[place : place + size])
        place += size
    return found


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Returns an integer and the place after it."""
    value = 0
    for position, byte in enumerate(message[place : place + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return value, place + position + 1
    raise ArtefactError("not an ONNX file: an integer does not end")


def _node(message: Fields) -> Node:
    return Node(
        _name(message[OP_TYPE]),
        tuple(map(_text, message[NODE_INPUT])),
        tuple(map(_text, message[NODE_OUTPUT])),
        tuple(map(_message, message[ATTRIBUTE])),
    )


def _raw_integers(tensor: Fields) -> tuple[str, ...]:
    width = max((RAW_INTEGER_BYTES.get(kind, 0) for kind in tensor[DATA_TYPE]), default=0)
    if not width:
        return ()
    return tuple(
        str(int.from_bytes(raw[start : start + width], "little", signed=True))
        for raw in map(_message, tensor[RAW_DATA])
        for start in range(0, len(raw) // width * width, width)
    )


def _integers(values: Iterable[Value]) -> tuple[str, ...]:
    """Returns signed integers as text; they come one by one, or many in one field."""
    numbers: list[int] = []
    for value in values:
        if isinstance(value, int):
            numbers.append(value)
            continue
        place = 0
        while place < len(value):
            number, place = _varint(value, place)
            numbers.append(number)
    return tuple(str(number - 2**64 if number >= 2**63 else number) for number in numbers)


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ArtefactError("not an ONNX file: a number where a message should be")
    return value


def _text(value: Value) -> str:
    return bytes(_message(value)).decode(errors="replace")


def _name(values: list[Value]) -> str:
    return _text(values[-1]) if values else ""
