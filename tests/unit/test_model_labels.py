"""Labels are read from where people and tools put them, and only if they can be labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from shared.errors import ArtefactError
from shared.model_labels import (
    MAX_LABEL_CHARACTERS,
    labels_in_graph,
    labels_in_metadata,
    labels_in_text,
    problem_with,
)
from tests.onnx_models import FLOAT, INT64, onnx_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('["a", "b"]', ("a", "b"), id="json-list"),
        pytest.param("[0, 1, 2]", ("0", "1", "2"), id="json-numbers"),
        pytest.param('{"1": "b", "0": "a"}', ("a", "b"), id="json-object-by-index"),
        pytest.param("{0: 'person', 1: 'bicycle'}", ("person", "bicycle"), id="ultralytics"),
        pytest.param("['a', 'b']", ("a", "b"), id="python-list"),
        pytest.param("a, b ,c", ("a", "b", "c"), id="commas"),
        pytest.param("a\nb\n", ("a", "b"), id="lines"),
        pytest.param("", (), id="empty"),
        pytest.param("detector", (), id="one-word"),
        pytest.param("a,,b", (), id="an-empty-label"),
        pytest.param("a,b,a", (), id="a-label-twice"),
        pytest.param('{"a": 0, "b": 1}', (), id="index-by-label"),
        pytest.param('{"0": "a", "2": "b"}', (), id="a-gap"),
        pytest.param('{"0": ["a"], "1": "b"}', (), id="a-list-for-a-label"),
        pytest.param("[true, false]", (), id="booleans"),
        pytest.param("[1.5, 2.5]", (), id="fractions"),
        pytest.param("[" * 100_000, (), id="too-deep"),
        pytest.param("{0: open('x')}", (), id="code"),
    ],
)
def test_metadata_holds_labels_or_none(text: str, expected: tuple[str, ...]) -> None:
    assert labels_in_metadata({"author": "a,b", "names": text}) == expected


@given(st.text(max_size=60) | st.text("[]{}()'\"0123:, ab", max_size=40))
def test_any_metadata_is_read_without_an_error(text: str) -> None:
    labels = labels_in_metadata({"labels": text})
    assert labels == () or problem_with(labels) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a\nb\n", ("a", "b"), id="lines"),
        pytest.param("a\r\n b \r\n\r\n", ("a", "b"), id="windows-lines"),
        pytest.param("one, two\nthree", ("one, two", "three"), id="commas-belong-to-a-label"),
        pytest.param(' ["a", "b"] ', ("a", "b"), id="json"),
    ],
)
def test_a_labels_file_is_read(text: str, expected: tuple[str, ...]) -> None:
    assert labels_in_text(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("a\n\nb", "line 2 is empty", id="empty-line"),
        pytest.param("[1, 2]", "no JSON list of texts", id="numbers"),
        pytest.param('["a"', "no JSON list of texts", id="truncated"),
    ],
)
def test_a_file_that_holds_no_labels_says_why(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        labels_in_text(text)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        pytest.param(["a", "b"], "", id="two"),
        pytest.param(["a"], "a model has 2 to 10,000 labels, not 1", id="one"),
        pytest.param(["a"] * 10_001, "not 10001", id="too-many"),
        pytest.param(["a", ""], "a label has 1 to 256 characters, not 0", id="empty"),
        pytest.param(["a", "b" * (MAX_LABEL_CHARACTERS + 1)], "not 257", id="too-long"),
        pytest.param(["a", "b", "a"], "the label a stands twice", id="twice"),
    ],
)
def test_what_cannot_be_labels_is_told(labels: list[str], problem: str) -> None:
    found = problem_with(labels)
    assert problem in found
    assert bool(found) == bool(problem)


def graph_of(picker: str, between: str, *, classes_are_constant: bool = True) -> bytes:
    """A classifier as skl2onnx writes one without an operator of its own."""
    nodes = [
        helper.make_node(picker, ["x"], ["index"]),
        helper.make_node("ArrayFeatureExtractor", ["classes", "index"], ["picked"]),
        helper.make_node(between, ["picked"], ["label"]),
    ]
    constants = {"classes": np.array(["a", "b", "c"], object)} if classes_are_constant else {}
    return onnx_file(nodes, [("x", FLOAT, ["N", 3])], [("label", INT64, ["N"])], constants)


def test_classes_that_the_arg_max_picks_from_are_the_labels() -> None:
    assert labels_in_graph(graph_of("ArgMax", "Cast"), "label") == ("a", "b", "c")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(graph_of("ArgMin", "Cast"), id="picked-otherwise"),
        pytest.param(graph_of("ArgMax", "Sort"), id="changed-afterwards"),
        pytest.param(graph_of("ArgMax", "Cast", classes_are_constant=False), id="computed"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_graph_of_another_kind_has_no_labels(model: bytes) -> None:
    assert labels_in_graph(model, "label") == ()


def test_a_graph_that_runs_in_a_circle_has_no_labels() -> None:
    nodes = [
        helper.make_node("Cast", ["b"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"]),
    ]
    model = onnx_file(nodes, [("x", FLOAT, ["N", 3])], [("a", INT64, ["N"])])
    assert labels_in_graph(model, "a") == ()


def test_a_damaged_file_is_refused() -> None:
    with pytest.raises(ArtefactError):
        labels_in_graph(graph_of("ArgMax", "Cast")[:-30], "label")
