"""A route turns the predictions that it waits for into messages, and no other."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from pydantic import ValidationError

from shared.messages import DecidedBy, PackPrediction, Prediction
from tier1.routes import Action, Routes
from tier1.routes_config import RouteConfig, check_routes
from tier1.templates import NAMES

STOP = {"topic": "plant/stop", "payload": "stop"}


def config(**keys: Any) -> RouteConfig:
    """Returns a route from what its YAML says."""
    return RouteConfig.model_validate_json(json.dumps({**STOP, **keys}))


def routes(*configs: RouteConfig) -> Routes:
    return Routes("quality", configs, Counter("drops", "", ["reason"], registry=None))


def prediction(**changes: Any) -> Prediction:
    values: dict[str, Any] = {
        "id": "a1",
        "device_id": "cam-01",
        "timestamp": 1763900000.125,
        "prediction": "bent",
        "confidence": 0.97,
        "decided_by": "tier1",
        "reason": "confident",
        "model": "press",
        "model_version": "7",
        "latency_ms": 0.875,
        "node": "press-3",
    }
    return Prediction(**{**values, **changes})


def pack(*labels: str, **changes: Any) -> PackPrediction:
    count = len(labels)
    values: dict[str, Any] = {
        "id": "p1",
        "device_id": "cam-01",
        "timestamp": 1763900000.125,
        "predictions": list(labels),
        "confidences": [0.97] * count,
        "decided_by": ["tier1"] * count,
        "reasons": ["confident"] * count,
        "model_versions": ["7"] * count,
        "latency_ms": 0.875,
        "node": "press-3",
    }
    return PackPrediction(**{**values, **changes})


def refusal(**keys: Any) -> tuple[str, str]:
    """Returns what is refused in a route and what to do about it."""
    with pytest.raises(ValidationError) as caught:
        config(**keys)
    error = caught.value.errors()[0]
    return error["msg"], str(error.get("ctx", {}).get("fix", ""))


def test_a_prediction_sets_off_what_its_route_says() -> None:
    [action] = routes(config(qos=0, retain=True)).actions(prediction())
    assert action == Action("plant/stop", b"stop", 0, True)


def test_a_message_is_acknowledged_and_not_retained_unless_said_otherwise() -> None:
    [action] = routes(config()).actions(prediction())
    assert (action.qos, action.retain) == (1, False)


@pytest.mark.parametrize(
    ("when", "fits", "does_not"),
    [
        pytest.param({"label": ["bent", "torn"]}, {}, {"prediction": "good"}, id="label"),
        pytest.param(
            {"min_confidence": 0.9}, {"confidence": 0.9}, {"confidence": 0.89}, id="at-least"
        ),
        pytest.param(
            {"max_confidence": 0.9}, {"confidence": 0.9}, {"confidence": 0.91}, id="at-most"
        ),
        pytest.param(
            {"min_confidence": 0.1},
            {"confidence": 1.0000001},
            {"confidence": float("nan")},
            id="nan",
        ),
        pytest.param(
            {"decided_by": ["tier2", "fallback"]},
            {"decided_by": "fallback"},
            {"decided_by": "tier1"},
            id="decided-by",
        ),
        pytest.param({"sensor": ["cam-01"]}, {}, {"device_id": "cam-02"}, id="sensor"),
        pytest.param(
            {"label": ["bent"], "sensor": ["cam-01"], "min_confidence": 0.5},
            {},
            {"device_id": "cam-02"},
            id="all-must-hold",
        ),
    ],
)
def test_only_what_fits_the_condition_sets_it_off(
    when: dict[str, Any], fits: dict[str, Any], does_not: dict[str, Any]
) -> None:
    under_test = routes(config(when=when))
    assert len(under_test.actions(prediction(**fits))) == 1
    assert len(under_test.actions(prediction(**does_not))) == 0


def test_without_a_condition_even_a_confidence_that_is_no_number_fits() -> None:
    assert routes(config()).actions(prediction(confidence=float("nan")))


def test_a_pipeline_without_routes_does_nothing() -> None:
    assert routes().actions(prediction()) == ()
    assert routes().pack_actions(pack("bent")) == ()


def test_actions_come_in_the_order_of_the_file() -> None:
    under_test = routes(
        config(topic="1"),
        config(topic="2", when={"label": ["bent"]}),
        config(topic="3", when={"label": ["good"]}),
        config(topic="4"),
    )
    assert [action.topic for action in under_test.actions(prediction())] == ["1", "2", "4"]


def test_a_correction_sets_off_only_what_asks_for_corrections() -> None:
    under_test = routes(config(topic="first"), config(topic="each", corrections=True))
    corrected = prediction(supersedes="a1")
    assert [action.topic for action in under_test.actions(corrected)] == ["each"]
    assert [action.topic for action in under_test.actions(prediction())] == ["first", "each"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param("$label ${confidence} $$5", b"bent 0.97 $5", id="text"),
        pytest.param("", b"", id="empty"),
        pytest.param(
            {"stop": True, "n": 1, "none": None}, b'{"stop":true,"n":1,"none":null}', id="json"
        ),
        pytest.param({"c": "$confidence"}, b'{"c":0.97}', id="keeps-number"),
        pytest.param({"c": "${timestamp}"}, b'{"c":1763900000.125}', id="braces-keep-number"),
        pytest.param({"c": "$confidence!"}, b'{"c":"0.97!"}', id="within-text"),
        pytest.param({"$id": ["$id", ["$pipeline"]]}, b'{"$id":["a1",["quality"]]}', id="nested"),
        pytest.param({"c": "$$id"}, b'{"c":"$id"}', id="escaped"),
        pytest.param(12, b"12", id="number"),
    ],
)
def test_values_are_put_into_the_payload(payload: object, expected: bytes) -> None:
    [action] = routes(config(payload=payload)).actions(prediction())
    assert action.payload == expected


def test_a_value_cannot_break_out_of_its_json_text() -> None:
    [action] = routes(config(payload={"id": "$id"})).actions(prediction(id='","stop":true,"x":"'))
    assert json.loads(action.payload) == {"id": '","stop":true,"x":"'}


def test_a_long_number_is_cut_to_six_decimals_in_a_text() -> None:
    [action] = routes(config(payload="$confidence")).actions(prediction(confidence=1 / 3))
    assert action.payload == b"0.333333"


def test_every_name_stands_for_its_value() -> None:
    under_test = routes(config(payload={name: f"${name}" for name in NAMES}))
    one = prediction()
    [action] = under_test.actions(one)
    assert json.loads(action.payload) == {
        "id": one.id,
        "sensor": one.device_id,
        "label": one.prediction,
        "confidence": one.confidence,
        "decided_by": one.decided_by,
        "reason": one.reason,
        "model": one.model,
        "model_version": one.model_version,
        "timestamp": one.timestamp,
        "latency_ms": one.latency_ms,
        "node": one.node,
        "pipeline": "quality",
    }


@pytest.mark.parametrize(
    "value",
    ["", "a/b", "+", "#", "a\0b", "a\nb", "\x7f", "\ufffe", "x" * 257, "é" * 200],
    ids=[
        "empty",
        "levels",
        "plus",
        "hash",
        "nul",
        "newline",
        "control",
        "no-character",
        "long",
        "bytes",
    ],
)
def test_a_value_that_is_no_single_level_sets_off_nothing_and_is_counted(value: str) -> None:
    drops = Counter("drops", "", ["reason"], registry=CollectorRegistry())
    under_test = Routes("quality", [config(topic="a/$id/b"), config()], drops)
    assert [action.topic for action in under_test.actions(prediction(id=value))] == ["plant/stop"]
    assert drops.labels(reason="bad_route_topic")._value.get() == 1


def test_no_value_can_make_a_topic_of_the_brokers_own() -> None:
    under_test = routes(config(topic="$label/broker"))
    assert len(under_test.actions(prediction(prediction="$SYS"))) == 0
    assert [action.topic for action in under_test.actions(prediction())] == ["bent/broker"]


texts = st.text() | st.text("/+#$\0 ab\n", max_size=9)


@given(
    identity=texts,
    label=texts,
    version=texts,
    timestamp=texts | st.floats(),
    confidence=st.floats(),
    decided_by=st.sampled_from(get_args(DecidedBy)),
)
def test_whatever_a_prediction_holds_only_topics_to_publish_on_come_out(
    *,
    identity: str,
    label: str,
    version: str,
    timestamp: str | float,
    confidence: float,
    decided_by: DecidedBy,
) -> None:
    payload = {"all": [f"${name}" for name in NAMES]}
    under_test = routes(config(topic="$label/${model_version}x$id/$timestamp", payload=payload))
    actions = under_test.actions(
        prediction(
            id=identity,
            prediction=label,
            model_version=version,
            timestamp=timestamp,
            confidence=confidence,
            decided_by=decided_by,
        )
    )
    for action in actions:
        assert action.topic.count("/") == 2
        assert not set("+#\0") & set(action.topic)
        assert not action.topic.startswith("$")
        json.loads(action.payload)


def test_a_pack_is_looked_at_sample_by_sample() -> None:
    under_test = routes(
        config(
            when={"label": ["bent"], "min_confidence": 0.9},
            payload="$id $label $confidence $reason",
        )
    )
    actions = under_test.pack_actions(
        pack("good", "bent", "bent", confidences=[0.99, 0.95, 0.4], ids=["x", "y", "z"])
    )
    assert [action.payload for action in actions] == [b"y bent 0.95 confident"]


def test_a_sample_of_a_pack_without_ids_is_named_by_its_number() -> None:
    actions = routes(config(payload="$id by $decided_by")).pack_actions(
        pack("good", "bent", decided_by=["tier1", "tier2"])
    )
    assert [action.payload for action in actions] == [b"p1/0 by tier1", b"p1/1 by tier2"]


def test_a_pack_that_no_route_waits_for_sets_off_nothing() -> None:
    assert routes(config(when={"label": ["bent"]})).pack_actions(pack("good", "good")) == ()


def test_every_name_stands_for_a_value_of_a_pack_too() -> None:
    under_test = routes(config(payload=[f"${name}" for name in NAMES]))
    [action] = under_test.pack_actions(pack("bent"))
    assert json.loads(action.payload) == [
        "p1/0", "cam-01", "bent", 0.97, "tier1", "confident", "", "7", 1763900000.125, 0.875,
        "press-3", "quality",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "problem", "fix"),
    [
        ({"payload": "$lable"}, "$lable is no name", "did you mean `$label`?"),
        ({"payload": {"a": ["$Sensor"]}}, "$Sensor is no name", "did you mean `$sensor`?"),
        ({"payload": "$zzz"}, "$zzz is no name", "write one of $id, $sensor"),
        ({"payload": "5 $"}, "followed by no name", "write $$"),
        ({"payload": None}, "nothing here", "''"),
        ({"payload": [float("nan")]}, "cannot be written as JSON", "quotes"),
        ({"payload": [2**70]}, "cannot be written as JSON", "quotes"),
        ({"payload": "x" * 20_000}, "more than 16384 bytes", "no more"),
        ({"topic": "plant/$lable"}, "$lable is no name", "did you mean `$label`?"),
        ({"topic": "plant/+/stop"}, "no topic to publish on", "leave out"),
        ({"topic": "plant/#"}, "no topic to publish on", "leave out"),
        ({"topic": "a\0b"}, "no topic to publish on", "leave out"),
        ({"topic": "$$SYS/broker"}, "the broker's own", "another sign"),
        ({"when": {"min_confidence": 0.9, "max_confidence": 0.1}}, "no confidence", "smaller"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_a_route_that_cannot_work_is_refused_with_the_fix(
    keys: dict[str, Any], problem: str, fix: str
) -> None:
    said, to_do = refusal(**keys)
    assert problem in said
    assert fix in to_do


@pytest.mark.parametrize(
    "keys",
    [
        {"topic": ""},
        {"topic": "x" * 257},
        {"qos": 2},
        {"when": {"label": []}},
        {"when": {"decided_by": ["cloud"]}},
        {"when": {"min_confidence": 1.1}},
        {"when": {"sensor": ["cam/01"]}},
        {"when": {"confidence": 0.5}},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused(keys: dict[str, Any]) -> None:
    refusal(**keys)


def test_a_route_for_a_label_that_the_model_does_not_have_is_refused() -> None:
    route = config(when={"label": ["good", "bend"]})
    with pytest.raises(ValueError, match="the label bend") as caught:
        check_routes([route], labels=("good", "bent"), sensors=None)
    assert caught.value.context["fix"] == "did you mean `bent`?"  # type: ignore[attr-defined]


def test_a_route_for_a_sensor_that_is_not_answered_here_is_refused() -> None:
    with pytest.raises(ValueError, match="the sensor cam-02"):
        check_routes([config(when={"sensor": ["cam-02"]})], labels=None, sensors=("cam-01",))


def test_what_is_not_known_before_the_model_is_loaded_is_not_checked() -> None:
    when = {"label": ["bend"], "sensor": ["cam-02"]}
    check_routes([config(when=when), config()], labels=None, sensors=None)
    check_routes([config()], labels=("good",), sensors=("cam-01",))
