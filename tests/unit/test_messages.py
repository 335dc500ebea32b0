"""What is on the wire is read back as it was, or refused with a reason."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from shared.errors import PayloadError
from shared.messages import (
    SCHEMA_VERSION,
    Escalation,
    GateCount,
    NodeState,
    Prediction,
    Reply,
    Telemetry,
    TelemetryAck,
    Tensor,
    from_json,
    pack,
    to_json,
    unpack,
)
from tests.builders import escalated, record


@given(
    st.sampled_from(["float32", "uint8", "int64"]).flatmap(
        lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
    )
)
def test_a_tensor_comes_back_equal_whatever_its_shape(
    array: NDArray[np.float32 | np.uint8 | np.int64],
) -> None:
    again = Tensor.of(array).array()
    assert again.shape == array.shape
    assert again.dtype.name == array.dtype.name
    assert_array_equal(again, array)


def test_a_big_endian_or_transposed_array_travels_little_endian_in_c_order() -> None:
    array = np.arange(6, dtype=">i8").reshape(2, 3).T
    tensor = Tensor.of(array)
    assert tensor.data == np.array([[0, 3], [1, 4], [2, 5]], "<i8").tobytes()
    assert_array_equal(tensor.array(), array)


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(Tensor("float64", (1,), bytes(8)), id="unknown-dtype"),
        pytest.param(Tensor("O", (1,), bytes(8)), id="python-objects"),
        pytest.param(Tensor("float32", (2,), bytes(4)), id="too-few-bytes"),
        pytest.param(Tensor("float32", (1,), bytes(8)), id="too-many-bytes"),
        pytest.param(Tensor("float32", (-1, -1), bytes(4)), id="negative-sizes"),
        pytest.param(Tensor("uint8", (1,) * 9, bytes(1)), id="too-many-dimensions"),
        pytest.param(Tensor("uint8", (2**62, 2**62), b""), id="size-beyond-64-bits"),
    ],
)
def test_a_tensor_whose_bytes_do_not_fit_its_words_is_refused(tensor: Tensor) -> None:
    with pytest.raises(PayloadError) as refusal:
        tensor.array()
    assert refusal.value.reason == "bad_tensor"


def test_an_empty_tensor_with_huge_dimensions_is_refused() -> None:
    # numpy refuses what no memory could index, though it holds no element.
    with pytest.raises(PayloadError) as refusal:
        Tensor("uint8", (0, 2**62, 2**62), b"").array()
    assert refusal.value.reason == "bad_tensor"


TENSOR = Tensor.of(np.eye(2, dtype=np.float32))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(
            Escalation(
                1, "tier1-a", "meter", "3", 500.0, 9, 2, (escalated(4), escalated(5)), TENSOR,
                TENSOR,
            ),
            id="escalation",
        ),
        pytest.param(Reply(1, "tier1-a", "meter", "m", "7", (4, 5), TENSOR), id="reply"),
        pytest.param(
            Telemetry(
                1, "tier2-a", "b1", (record(1), record(2, with_input=False)),
                (GateCount("tier1-a", "meter", "3", 9, 2),),
            ),
            id="telemetry",
        ),
        pytest.param(TelemetryAck(1, ("b1", "b2")), id="telemetry-ack"),
    ],
)  # fmt: skip
def test_an_internal_message_survives_the_wire(
    message: Escalation | Reply | Telemetry | TelemetryAck,
) -> None:
    assert unpack(pack(message), type(message)) == message


def test_a_message_of_a_newer_schema_is_refused_as_such() -> None:
    payload = pack(TelemetryAck(SCHEMA_VERSION + 1, ("b1",)))
    with pytest.raises(PayloadError) as refusal:
        unpack(payload, TelemetryAck)
    assert refusal.value.reason == "newer_schema"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_payload_error(payload: bytes) -> None:
    try:
        assert isinstance(unpack(payload, Reply), Reply)
    except PayloadError as error:
        assert error.reason in ("not_reply", "newer_schema")


@given(st.data())
def test_a_truncated_message_is_refused(data: st.DataObject) -> None:
    payload = pack(Reply(1, "tier1-a", "meter", "m", "7", (4, 5), TENSOR))
    kept = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(PayloadError) as refusal:
        unpack(payload[:kept], Reply)
    assert refusal.value.reason == "not_reply"


def test_text_that_is_not_utf8_is_refused() -> None:
    payload = pack(TelemetryAck(1, ("batch-one",))).replace(b"batch-one", b"batch-\xff\xfe\xfd")
    with pytest.raises(PayloadError) as refusal:
        unpack(payload, TelemetryAck)
    assert refusal.value.reason == "not_telemetryack"


def test_deep_nesting_is_a_refusal_not_a_crash() -> None:
    with pytest.raises(PayloadError):
        unpack(b"\x91" * 100_000, Reply)
    with pytest.raises(PayloadError):
        from_json(b"[" * 100_000, NodeState)


def test_a_prediction_in_json_has_the_documented_fields() -> None:
    prediction = Prediction(
        id="a1", device_id="cam-01", timestamp=5.0, prediction="seven", confidence=0.9,
        decided_by="tier1", reason="confident", model="meter-tier1", model_version="3",
        latency_ms=1.5, node="tier1-a",
    )  # fmt: skip
    fields = msgspec.json.decode(to_json(prediction))
    documented = {
        "id", "device_id", "timestamp", "prediction", "confidence", "decided_by", "reason",
        "model", "model_version", "latency_ms",
    }  # fmt: skip
    assert documented <= set(fields)
    assert from_json(to_json(prediction), Prediction) == prediction


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="not-json"),
        pytest.param(b'{"node": "a"}', id="fields-missing"),
        pytest.param(b'{"node": "a", "role": "tier1", "state": "asleep"}', id="unknown-word"),
        pytest.param(b'{"node": "\xff", "role": "r", "state": "online"}', id="not-utf8"),
    ],
)
def test_json_that_is_not_the_message_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError) as refusal:
        from_json(payload, NodeState)
    assert refusal.value.reason == "not_nodestate"


def test_a_field_that_a_newer_peer_added_is_passed_over() -> None:
    payload = b'{"node": "a", "role": "tier1", "state": "online", "mood": "good"}'
    assert from_json(payload, NodeState) == NodeState(node="a", role="tier1", state="online")
