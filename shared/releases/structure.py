"""Looks at a model's file before ONNX Runtime does. Pure: it knows bytes, no disk and no runtime.

A model may name other files to read, operations of libraries that nobody vouches for, and tensors
larger than all memory. None of that comes near the runtime.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from shared.errors import ArtefactError
from shared.onnx_messages import (
    DATA_LOCATION,
    DATA_TYPE,
    DIM,
    DIM_VALUE,
    DIMS,
    ELEM_TYPE,
    EXTERNAL_DATA,
    FUNCTION_DOMAIN,
    FUNCTION_NAME,
    ITEM_BITS,
    KINDS,
    LARGEST_ITEM_BITS,
    NODE_DOMAIN,
    OP_TYPE,
    OPSET_DOMAIN,
    OPSET_VERSION,
    SHAPE,
    SPARSE_DIMS,
)
from shared.protobuf import Fields, Reader, Value, message_in, signed, text_in, varints

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Of operations that ONNX Runtime brings itself; the last one is that of quantized models."""

MAX_NAME_BYTES = 80
ORT_FORMAT = b"ORTM"


@dataclass(frozen=True, slots=True)
class StructureLimits:
    """What a model may hold at most.

    Attributes:
        file_bytes: of the whole file.
        fields: of the file's format; a run of numbers of one attribute counts once.
        nodes: operations, those of all subgraphs and functions included.
        subgraphs: how deep graphs may lie in one another.
        messages: how deep messages of the file's format may.
        dimensions: of one tensor.
        largest_dimension: of a tensor, as far as the file says.
        tensor_bytes: that a tensor's declared shape takes.
        initializers: constants, those of all subgraphs and attributes included.
    """

    file_bytes: int = 512 * 2**20
    fields: int = 2_000_000
    nodes: int = 100_000
    subgraphs: int = 16
    messages: int = 80
    dimensions: int = 16
    largest_dimension: int = 2**28
    tensor_bytes: int = 2**30
    initializers: int = 100_000


LIMITS = StructureLimits()


@dataclass(frozen=True, slots=True)
class Structure:
    """What a model holds.

    Attributes:
        nodes: operations, those of all subgraphs and functions included.
        initializers: constants, those of all subgraphs and attributes included.
        opsets: the version of each operator domain that it asks for.
    """

    nodes: int
    initializers: int
    opsets: Mapping[str, int]


def check_structure(model: bytes | memoryview, limits: StructureLimits = LIMITS) -> Structure:
    """Returns what a model holds, if nothing in it is forbidden.

    Args:
        model: the bytes of an ONNX file.
        limits: what it may hold at most.

    Raises:
        ArtefactError: not an ONNX file, or one that must not be loaded; the reason says which.
    """
    if len(model) > limits.file_bytes:
        raise ArtefactError(f"its {len(model):,} bytes are more than {limits.file_bytes:,}")
    if bytes(model[4:8]) == ORT_FORMAT:
        raise ArtefactError("it is in ONNX Runtime's own format. Fix: publish the .onnx file")
    walk = _Walk(limits)
    walk.enter("model", memoryview(model))
    if not walk.graphs:
        raise ArtefactError("not an ONNX file: it holds no graph")
    return Structure(walk.nodes, walk.initializers, MappingProxyType(walk.opsets))


class _Walk:
    """Goes through a model once. It raises at the first thing that is forbidden."""

    def __init__(self, limits: StructureLimits) -> None:
        self.graphs = self.nodes = self.initializers = 0
        self.opsets: dict[str, int] = {}
        self._limits = limits
        self._reader = Reader(limits.fields)
        self._checks: Mapping[str, Callable[[Fields], None]] = {
            "graph": self._graph,
            "node": self._node,
            "opset": self._opset,
            "function": self._function,
            "tensor": self._tensor,
            "sparse": self._sparse,
            "tensor type": self._tensor_type,
        }

    def enter(self, name: str, message: memoryview, depth: int = 0, subgraphs: int = 0) -> None:
        """Looks at a message and at all messages in it.

        Args:
            name: its kind.
            message: its bytes.
            depth: in how many messages it lies.
            subgraphs: in how many graphs.
        """
        self._bound(depth, self._limits.messages, "levels of messages")
        self._bound(subgraphs, self._limits.subgraphs, "levels of subgraphs")
        kind = KINDS[name]
        found: defaultdict[int, list[Value]] = defaultdict(list)
        for number, value in self._reader.fields(message, kind.values | kind.within.keys()):
            if number in found and number not in kind.repeated:
                # The runtime would join two messages into one, and take the last of two numbers:
                # what is looked at here would not be what it runs.
                raise ArtefactError(f"not an ONNX file: field {number} stands twice in one {name}")
            within = kind.within.get(number)
            if within is None:
                found[number].append(value)
                continue
            found[number] = []
            deeper = subgraphs + (name == "attribute" and within == "graph")
            self.enter(within, message_in(value), depth + 1, deeper)
        check = self._checks.get(name)
        if check is not None:
            check(found)

    def _graph(self, found: Fields) -> None:
        self.graphs += 1

    def _node(self, found: Fields) -> None:
        self.nodes += 1
        self._bound(self.nodes, self._limits.nodes, "operations")
        for domain in map(_name, found[NODE_DOMAIN]):
            if domain not in DOMAINS:
                operator = "".join(map(_name, found[OP_TYPE][-1:]))
                raise ArtefactError(f"operator {operator!r} is of domain {_foreign(domain)}")

    def _opset(self, found: Fields) -> None:
        domains = [_name(domain) for domain in found[OPSET_DOMAIN]] or [""]
        for domain in domains:
            if domain not in DOMAINS:
                raise ArtefactError(f"it imports operators of domain {_foreign(domain)}")
            self.opsets[domain] = max(map(_integer, found[OPSET_VERSION]), default=0)

    def _function(self, found: Fields) -> None:
        for domain in map(_name, found[FUNCTION_DOMAIN]):
            if domain not in DOMAINS:
                name = "".join(map(_name, found[FUNCTION_NAME][-1:]))
                raise ArtefactError(
                    f"it defines a function {name!r} of domain {_foreign(domain)}. "
                    "Fix: onnx.inliner.inline_local_functions"
                )

    def _tensor(self, found: Fields) -> None:
        self.initializers += 1
        self._bound(self.initializers, self._limits.initializers, "constants")
        if found[EXTERNAL_DATA] or any(map(_integer, found[DATA_LOCATION])):
            raise ArtefactError(
                "a tensor's numbers lie in another file. "
                "Fix: save the model as one file (onnx.save without save_as_external_data)"
            )
        sizes = map(signed, itertools.chain.from_iterable(map(varints, found[DIMS])))
        self._shape(sizes, found[DATA_TYPE])

    def _sparse(self, found: Fields) -> None:
        sizes = map(signed, itertools.chain.from_iterable(map(varints, found[SPARSE_DIMS])))
        self._shape(sizes, ())

    def _tensor_type(self, found: Fields) -> None:
        for shape in map(message_in, found[SHAPE]):
            dimensions = (message_in(value) for _, value in self._reader.fields(shape, {DIM}))
            self._shape(map(self._declared, dimensions), found[ELEM_TYPE])

    def _declared(self, dimension: memoryview) -> int:
        """Returns a dimension's size; one that is free or unknown (some write -1) is 1."""
        values = [_integer(value) for _, value in self._reader.fields(dimension, {DIM_VALUE})]
        return max(1, *values) if values else 1

    def _shape(self, sizes: Iterable[int], data_types: Sequence[Value]) -> None:
        """Holds a shape against the limits, size by size: a long one is never collected."""
        limits = self._limits
        data_type = _integer(data_types[0]) if data_types else 0
        bits = ITEM_BITS.get(data_type, LARGEST_ITEM_BITS)
        for count, size in enumerate(sizes, 1):
            self._bound(count, limits.dimensions, "dimensions in a tensor")
            if size < 0:
                raise ArtefactError(f"a tensor has a dimension of {size}")
            self._bound(size, limits.largest_dimension, "numbers along a dimension")
            bits *= max(1, size)
            self._bound(bits // 8, limits.tensor_bytes, "bytes in a tensor")

    def _bound(self, found: int, most: int, what: str) -> None:
        if found > most:
            raise ArtefactError(f"it holds {found:,} {what}, more than {most:,}")


def _integer(value: Value) -> int:
    if not isinstance(value, int):
        raise ArtefactError("not an ONNX file: a message where a number should be")
    return signed(value)


def _name(value: Value) -> str:
    """Returns a name, cut where it is longer than any that is allowed."""
    return text_in(message_in(value)[:MAX_NAME_BYTES])


def _foreign(domain: str) -> str:
    allowed = ", ".join(repr(each) for each in DOMAINS)
    return f"{domain!r}, and only {allowed} may be used"
