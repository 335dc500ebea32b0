"""The messages of an ONNX file, as far as they may hold what a node must look at.

Source: ``onnx/onnx.proto`` of ONNX 1.23 for the numbers of the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of message.

    Attributes:
        within: the kind of the message in each field that is gone into.
        values: other fields that are looked at.
        repeated: those of all these that may stand more than once.
    """

    within: Mapping[int, str] = field(default_factory=dict)
    values: frozenset[int] = frozenset()
    repeated: frozenset[int] = frozenset()


DIMS, DATA_TYPE, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 13, 14  # of TensorProto
SPARSE_DIMS = 3  # of SparseTensorProto
OP_TYPE, NODE_DOMAIN = 4, 7  # of NodeProto
OPSET_DOMAIN, OPSET_VERSION = 1, 2  # of OperatorSetIdProto
FUNCTION_NAME, FUNCTION_DOMAIN = 1, 10  # of FunctionProto
ELEM_TYPE, SHAPE = 1, 2  # of TypeProto.Tensor
DIM, DIM_VALUE = 1, 1  # of TensorShapeProto and its Dimension

KINDS: Mapping[str, Kind] = {
    "model": Kind(
        {7: "graph", 8: "opset", 20: "training", 25: "function"}, repeated=frozenset({8, 20, 25})
    ),
    "graph": Kind(
        {1: "node", 5: "tensor", 15: "sparse", 11: "value", 12: "value", 13: "value"},
        repeated=frozenset({1, 5, 15, 11, 12, 13}),
    ),
    "node": Kind({5: "attribute"}, frozenset({OP_TYPE, NODE_DOMAIN}), frozenset({5})),
    "attribute": Kind(
        {
            **{5: "tensor", 6: "graph", 14: "type", 22: "sparse"},
            **{10: "tensor", 11: "graph", 15: "type", 23: "sparse"},
        },
        repeated=frozenset({10, 11, 15, 23}),
    ),
    "tensor": Kind(
        values=frozenset({DIMS, DATA_TYPE, EXTERNAL_DATA, DATA_LOCATION}),
        repeated=frozenset({DIMS, EXTERNAL_DATA}),
    ),
    "sparse": Kind({1: "tensor", 2: "tensor"}, frozenset({SPARSE_DIMS}), frozenset({SPARSE_DIMS})),
    "opset": Kind(values=frozenset({OPSET_DOMAIN, OPSET_VERSION})),
    "function": Kind(
        {7: "node", 9: "opset", 11: "attribute", 12: "value"},
        frozenset({FUNCTION_NAME, FUNCTION_DOMAIN}),
        frozenset({7, 9, 11, 12}),
    ),
    "training": Kind({1: "graph", 2: "graph"}),
    "value": Kind({2: "type"}),
    "type": Kind({1: "tensor type", 8: "tensor type", 4: "sequence", 9: "sequence", 5: "map"}),
    "tensor type": Kind(values=frozenset({ELEM_TYPE, SHAPE})),
    "sequence": Kind({1: "type"}),
    "map": Kind({2: "type"}),
}

ITEM_BITS = MappingProxyType(
    {
        **dict.fromkeys((21, 22, 23), 4),
        **dict.fromkeys((25, 26), 2),
        **dict.fromkeys((2, 3, 8, 9, 17, 18, 19, 20, 24), 8),
        **dict.fromkeys((4, 5, 10, 16), 16),
        **dict.fromkeys((1, 6, 12), 32),
        **dict.fromkeys((7, 11, 13, 14), 64),
    }
)
"""By TensorProto.DataType; of a text (8) the least that it takes."""
LARGEST_ITEM_BITS = 128
