"""A model's file is looked at before the runtime sees it, wherever in it the harm may lie."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from shared.errors import ArtefactError
from shared.onnx_messages import ITEM_BITS, KINDS, LARGEST_ITEM_BITS
from shared.releases.structure import DOMAINS, LIMITS, StructureLimits, check_structure
from tests.builders import diagonal_onnx
from tests.hostile_models import adding, external_tensor, importing, nested, with_operator
from tests.onnx_models import FLOAT

GOOD = diagonal_onnx(1.0)
FOREIGN = re.escape("domain 'evil', and only '', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft' may")


def refused(model: onnx.ModelProto | bytes, reason: str, limits: StructureLimits = LIMITS) -> None:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(ArtefactError, match=reason):
        check_structure(data, limits)


# What passes


def test_a_sound_model_says_what_it_holds() -> None:
    found = check_structure(GOOD)
    assert (found.nodes, found.initializers, dict(found.opsets)) == (1, 2, {"": 17})


def test_a_forest_with_all_its_numbers_passes() -> None:
    rows = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    forest = RandomForestClassifier(5, random_state=1).fit(rows, rows[:, 0] > 0)
    model = to_onnx(forest, rows[:1], options={"zipmap": False}).SerializeToString()
    assert check_structure(model, StructureLimits(fields=5000)).opsets.keys() <= set(DOMAINS)


def test_an_operator_of_quantized_models_passes() -> None:
    assert check_structure(with_operator("QGemm", "com.microsoft")).nodes == 1


def test_operations_within_branches_are_counted() -> None:
    assert check_structure(nested(3)).nodes == 4


# What is no model


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "it holds no graph", id="empty"),
        pytest.param(b"no model", "not an ONNX file", id="text"),
        pytest.param(GOOD[:-30], "or a part of one: it ends within a field", id="truncated"),
        pytest.param(GOOD + GOOD, "field 7 stands twice in one model", id="two-graphs"),
        pytest.param(b"\x08\x00\x00\x00ORTM" + bytes(9), "Runtime's own format", id="ort-format"),
        pytest.param(b"\x38\x01", "a number where a message", id="a-number-for-the-graph"),
    ],
)
def test_what_is_no_onnx_file_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    refused(data, reason)


# Numbers in another file


def node_with(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Any", ["x"], ["y"], **attributes)


def graph_with(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(nodes, "g", [], [])


def model_with(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return helper.make_model(graph_with(*nodes))


def in_function(node: onnx.NodeProto) -> onnx.ModelProto:
    model = model_with()
    model.functions.append(
        helper.make_function("", "f", ["x"], ["y"], [node], [helper.make_opsetid("", 17)])
    )
    return model


def as_default_of_function(tensor: onnx.TensorProto) -> onnx.ModelProto:
    model = in_function(node_with())
    model.functions[0].attribute_proto.append(helper.make_attribute("a", tensor))
    return model


def in_training(tensor: onnx.TensorProto, graph: str) -> onnx.ModelProto:
    model = model_with()
    training = model.training_info.add()
    getattr(training, graph).initializer.append(tensor)
    return model


def sparse(tensor: onnx.TensorProto, place: str = "values") -> onnx.SparseTensorProto:
    found = onnx.SparseTensorProto(dims=[3])
    getattr(found, place).CopyFrom(tensor)
    return found


def sparse_initializer(tensor: onnx.TensorProto, place: str) -> onnx.ModelProto:
    model = model_with()
    model.graph.sparse_initializer.append(sparse(tensor, place))
    return model


Place = Callable[[onnx.TensorProto], onnx.ModelProto]

PLACES: dict[str, Place] = {
    "initializer": adding,
    "sparse-values": lambda tensor: sparse_initializer(tensor, "values"),
    "sparse-indices": lambda tensor: sparse_initializer(tensor, "indices"),
    "attribute": lambda tensor: model_with(node_with(a=tensor)),
    "attribute-of-several": lambda tensor: model_with(node_with(a=[tensor])),
    "sparse-attribute": lambda tensor: model_with(node_with(a=sparse(tensor))),
    "sparse-attribute-of-several": lambda tensor: model_with(node_with(a=[sparse(tensor)])),
    "subgraph": lambda tensor: model_with(node_with(a=adding(tensor).graph)),
    "subgraph-of-several": lambda tensor: model_with(node_with(a=[adding(tensor).graph])),
    "attribute-in-a-subgraph": lambda tensor: model_with(
        node_with(a=graph_with(node_with(a=tensor)))
    ),
    "function": lambda tensor: in_function(node_with(a=tensor)),
    "default-of-a-function": as_default_of_function,
    "training": lambda tensor: in_training(tensor, "algorithm"),
    "initialization-of-training": lambda tensor: in_training(tensor, "initialization"),
}
each_place = pytest.mark.parametrize(
    "place", [pytest.param(place, id=name) for name, place in PLACES.items()]
)


@each_place
def test_a_tensor_whose_numbers_lie_in_another_file_is_refused_anywhere(place: Place) -> None:
    refused(place(external_tensor()), "numbers lie in another file. Fix: save the model as one")


@each_place
def test_a_tensor_that_says_where_without_saying_that_is_refused_anywhere(place: Place) -> None:
    tensor = external_tensor()
    tensor.ClearField("data_location")
    refused(place(tensor), "numbers lie in another file")


@each_place
def test_a_tensor_larger_than_the_cap_is_refused_anywhere(place: Place) -> None:
    tensor = onnx.TensorProto(name="w", data_type=FLOAT, dims=[2**20, 2**20])
    refused(place(tensor), re.escape("holds 4,398,046,511,104 bytes in a tensor, more than 1,073"))


def in_field(number: int, data: bytes) -> bytes:
    """Returns a field that holds a message, as it stands in a file."""
    size = len(data)
    length = bytes([size & 127 | 128, size >> 7]) if size > 127 else bytes([size])
    return bytes([number << 3 | 2]) + length + data


def test_a_location_with_bits_that_the_runtime_drops_is_refused() -> None:
    location = b"\x70\x81\x80\x80\x80\x10"  # data_location: 2^32 + 1, an int32 of 1
    model = in_field(7, in_field(5, b"\x08\x03\x10\x01" + location))
    assert onnx.ModelProto.FromString(model).graph.initializer[0].data_location == 1
    refused(model, "numbers lie in another file")


# Operators of others


FOREIGN_OPERATOR = helper.make_node("Frob", ["x"], ["y"], domain="evil")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(with_operator("Frob", "evil"), id="node"),
        pytest.param(model_with(node_with(a=graph_with(FOREIGN_OPERATOR))), id="subgraph"),
        pytest.param(in_function(FOREIGN_OPERATOR), id="function"),
    ],
)
def test_an_operator_of_a_foreign_domain_is_refused_by_name(model: onnx.ModelProto) -> None:
    refused(model, f"operator 'Frob' is of {FOREIGN}")


def test_an_import_of_foreign_operators_is_refused_even_without_use() -> None:
    refused(importing("evil"), f"it imports operators of {FOREIGN}")
    assert check_structure(importing("ai.onnx.ml")).opsets["ai.onnx.ml"] == 1


def test_an_import_of_foreign_operators_by_a_function_is_refused() -> None:
    model = in_function(node_with())
    model.functions[0].opset_import.append(helper.make_opsetid("evil", 1))
    refused(model, f"it imports operators of {FOREIGN}")


def test_a_function_of_a_foreign_domain_is_refused_with_the_fix() -> None:
    model = in_function(node_with())
    model.functions[0].domain = "evil"
    refused(model, f"a function 'f' of {FOREIGN}.*inline_local_functions")


def test_a_domain_that_is_set_twice_hides_nothing() -> None:
    node = FOREIGN_OPERATOR.SerializeToString() + b"\x3a\x00"
    assert onnx.ModelProto.FromString(in_field(7, in_field(1, node))).graph.node[0].domain == ""
    refused(in_field(7, in_field(1, node)), "field 7 stands twice in one node")


def test_a_tensor_in_two_halves_that_the_runtime_would_join_is_refused() -> None:
    half = onnx.TensorProto(data_type=FLOAT, dims=[2**20]).SerializeToString()
    attribute = in_field(5, half) * 2
    refused(
        in_field(7, in_field(1, in_field(5, attribute))), "field 5 stands twice in one attribute"
    )


# Caps


def declared(shape: list[int], element_type: int = FLOAT) -> onnx.ModelProto:
    model = model_with()
    model.graph.input.append(helper.make_tensor_value_info("x", element_type, shape))
    return model


@pytest.mark.parametrize(
    ("model", "limits", "reason"),
    [
        pytest.param(GOOD, replace(LIMITS, file_bytes=99), r"bytes are more than 99", id="bytes"),
        pytest.param(GOOD, replace(LIMITS, fields=9), "more than 9 fields", id="fields"),
        pytest.param(nested(3), replace(LIMITS, nodes=3), "holds 4 operations", id="nodes"),
        pytest.param(GOOD, replace(LIMITS, initializers=1), "holds 2 constants", id="constants"),
        pytest.param(nested(17), LIMITS, "17 levels of subgraphs, more than 16", id="subgraphs"),
        pytest.param(declared([1] * 17), LIMITS, "17 dimensions in a tensor", id="dimensions"),
        pytest.param(
            declared([2**40]), LIMITS, "1,099,511,627,776 numbers along a dimension", id="dimension"
        ),
        pytest.param(declared([0, 2**40]), LIMITS, "numbers along a dim", id="behind-a-zero"),
        pytest.param(
            declared([2**15, 2**15]), LIMITS, "4,294,967,296 bytes in a tensor", id="tensor-bytes"
        ),
        pytest.param(
            declared([2**15, 2**15], 99), LIMITS, "17,179,869,184 bytes", id="unknown-type"
        ),
        pytest.param(
            adding(onnx.TensorProto(name="w", data_type=FLOAT, dims=[-1])),
            LIMITS,
            "dimension of -1",
            id="negative",
        ),
        pytest.param(
            adding(onnx.TensorProto(name="w", dims=[1] * 17)), LIMITS, "17 dimensions", id="rank"
        ),
    ],
)
def test_a_model_over_a_cap_is_refused_with_the_figures(
    model: onnx.ModelProto | bytes, limits: StructureLimits, reason: str
) -> None:
    refused(model, reason, limits)


def test_a_declared_dimension_that_is_free_or_unknown_costs_nothing() -> None:
    model = declared([-1, 3])
    model.graph.input.append(helper.make_tensor_value_info("z", FLOAT, ["N", 3]))
    assert check_structure(model.SerializeToString()).nodes == 0


@pytest.mark.parametrize("levels", [30, 300])
def test_types_that_lie_deep_in_one_another_are_refused_from_some_depth_on(levels: int) -> None:
    data = b""
    for _ in range(levels):
        data = in_field(4, in_field(1, data))
    model = in_field(7, in_field(11, in_field(2, data)))
    if levels == 30:
        assert check_structure(model).nodes == 0
    else:
        refused(model, "81 levels of messages, more than 80")


def test_half_a_byte_counts_as_half_a_byte() -> None:
    limits = replace(LIMITS, tensor_bytes=8)
    assert check_structure(declared([16], TensorProto.INT4).SerializeToString(), limits)
    refused(declared([18], TensorProto.INT4), "9 bytes in a tensor", limits)


# Nothing is overlooked

CARRIERS = {"TensorProto", "Tensor", "SparseTensor", "NodeProto", "OperatorSetIdProto"}
LEAVES = ("opset", "tensor", "tensor type")


def carries(message: Any, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a message may hold, at any depth, something that must be looked at."""
    if message.name in CARRIERS:
        return True
    within = [field.message_type for field in message.fields if field.message_type]
    return any(carries(each, seen | {message.name}) for each in within if each.name not in seen)


def test_every_field_of_the_format_that_may_hide_something_is_gone_into() -> None:
    unseen, seen = [("model", onnx.ModelProto.DESCRIPTOR)], set()
    while unseen:
        name, message = unseen.pop()
        if name in seen:
            continue
        seen.add(name)
        kind = KINDS[name]
        carrying = [
            each for each in message.fields if each.message_type and carries(each.message_type)
        ]
        if name not in LEAVES:
            assert {each.number for each in carrying} == kind.within.keys(), name
            once = {each.number for each in carrying if not each.is_repeated}
            assert once == kind.within.keys() - kind.repeated, name
            unseen += [(kind.within[each.number], each.message_type) for each in carrying]
    assert seen == KINDS.keys()


BITS = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8, "STRING": 8, "UNDEFINED": 0}


@pytest.mark.parametrize(
    ("name", "number"), [pytest.param(*each, id=each[0]) for each in TensorProto.DataType.items()]
)
def test_no_element_type_is_taken_for_a_smaller_one(name: str, number: int) -> None:
    digits = re.search(r"\d+", name)
    bits = BITS[name] if digits is None else int(digits[0])
    assert ITEM_BITS.get(number, LARGEST_ITEM_BITS) in (bits, LARGEST_ITEM_BITS)


# Any bytes at all


def looked_at(data: bytes) -> bool:
    """Returns whether a file passes; raises nothing but what it may."""
    try:
        check_structure(data)
    except ArtefactError:
        return False
    return True


@given(st.binary(max_size=400))
def test_any_bytes_pass_or_are_refused(data: bytes) -> None:
    looked_at(data)


SEEDS = [
    GOOD,
    nested(2),
    with_operator("Frob", "evil"),
    importing("evil"),
    *(place(external_tensor()).SerializeToString() for place in PLACES.values()),
]


def harmful(model: onnx.ModelProto) -> bool:
    """Whether ONNX's own reader finds a foreign domain or another file in a model."""
    text = str(model)
    imported = {each.domain for each in model.opset_import}
    signs = ("external_data {", "data_location: EXTERNAL", 'domain: "evil"')
    return any(sign in text for sign in signs) or not imported <= set(DOMAINS)


@given(st.data())
def test_a_damaged_model_that_passes_is_harmless_to_a_foreign_reader_too(
    data: st.DataObject,
) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        if data.draw(st.booleans()):
            damaged[place] = data.draw(st.integers(0, 255))
        else:
            damaged[place:place] = data.draw(st.binary(max_size=4))
    if looked_at(bytes(damaged)):
        try:
            model = onnx.ModelProto.FromString(bytes(damaged))
        except Exception:  # what the foreign reader refuses, nobody runs
            return
        assert not harmful(model)


def test_a_numpy_constant_of_each_size_passes() -> None:
    for dtype in (np.float32, np.int8, np.int64, np.bool_, np.float16):
        tensor = numpy_helper.from_array(np.zeros(3, dtype), "w")
        assert check_structure(adding(tensor).SerializeToString()).initializers == 1
