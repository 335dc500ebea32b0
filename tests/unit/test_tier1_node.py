"""The node carries samples, answers and questions between the link and its pipelines."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from shared.messages import Escalation, Reply, Tensor, pack, unpack
from shared.metrics import NodeMetrics
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.releases.trust import found_trust
from tests.builders import LABELS, SHAPE, echo_onnx
from tests.fakes import FakeBroker, FakeLink
from tier1.config import Tier1Config
from tier1.node import Tier1Node

SAMPLES = "escalon/plant/meter/samples/cam-01"
PREDICTIONS = "escalon/plant/meter/predictions/cam-01"
ERRORS = "escalon/plant/meter/errors/cam-01"
ESCALATIONS = "escalon/plant/meter/escalations/tier1-a"
REPLIES = "escalon/plant/meter/replies/tier1-a"
SURE = [0.05, 0.9, 0.05]
UNSURE = [0.4, 0.3, 0.3]


class Rig:
    """A node on a fake link."""

    def __init__(
        self, folder: Path, others: dict[str, dict[str, Any]] | None = None, **pipeline: Any
    ) -> None:
        (folder / "echo.onnx").write_bytes(echo_onnx())
        model = {"path": folder / "echo.onnx", "labels": LABELS, "threshold": 0.8}
        common = {
            "input": {"shape": SHAPE},
            "model": model,
            "escalation": {"audit_share": 0.0, "deadline_ms": 60_000.0},
        }
        config = Tier1Config.model_validate(
            {
                "role": "tier1",
                "node": "tier1-a",
                "site": "plant",
                "broker": {"url": "mqtt://127.0.0.1"},
                "state_dir": folder / "state",
                "pipelines": {
                    "meter": common | pipeline,
                    **{name: common | other for name, other in (others or {}).items()},
                },
            },
            strict=False,
        )
        self.metrics = NodeMetrics(CollectorRegistry())
        self.broker = FakeBroker()
        self.link = FakeLink(self.broker)
        presence = Presence(config, "tier1", None)
        rng = random.Random(1)
        self.node = Tier1Node(config, self.link, self.metrics, presence, rng=rng, wake=lambda: None)
        self.node.start()
        self.node.on_connected(self.link)
        self._mid = 0

    def send(
        self, features: Any, identity: str | None = None, *, topic: str = SAMPLES, **how: Any
    ) -> Message:
        """Delivers a sample at QoS 1."""
        self._mid += 1
        sample = {"features": features} | ({} if identity is None else {"id": identity})
        how = {"mid": self._mid, "session": self.link.session, **how}
        message = Message(topic, json.dumps(sample).encode(), 1, **how)
        self.node.on_message(self.link, message, 0.0)
        return message

    def turn(self) -> None:
        """One turn; the broker has acknowledged what the one before sent."""
        self.node.turn(0.0)
        self.link.receive()

    @property
    def predictions(self) -> list[dict[str, Any]]:
        return [json.loads(each) for each in self.broker.payloads(PREDICTIONS)]

    @property
    def ids(self) -> list[str]:
        return [prediction["id"] for prediction in self.predictions]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [json.loads(each) for each in self.broker.payloads(ERRORS)]

    @property
    def acknowledged(self) -> list[int]:
        return [message.mid for message in self.link.acknowledged]

    def drops(self, reason: str) -> float:
        return self.value("edge_drops_total", reason=reason)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_sample_is_acknowledged_once_its_prediction_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.link.holds_acks = True
    rig.send(SURE, "a")
    rig.turn()
    assert rig.ids == ["a"]
    assert rig.acknowledged == []
    rig.link.holds_acks = False
    rig.turn()
    assert rig.acknowledged == [1]


def test_what_comes_again_is_answered_once_and_acknowledged_as_it_came_last(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path)
    rig.send(SURE, "a", mid=7)
    rig.send(SURE, "a", mid=7, session=2, dup=True)
    rig.turn()
    assert rig.ids == ["a"]
    assert [(each.mid, each.session) for each in rig.link.acknowledged] == [(7, 2)]
    rig.send(SURE, "a", mid=7, session=3, dup=True)
    rig.turn()
    assert rig.ids == ["a"]
    assert rig.acknowledged == [7, 7]


def test_a_repetition_to_the_next_life_of_the_node_gets_the_same_made_id(tmp_path: Path) -> None:
    lives = [Rig(tmp_path), Rig(tmp_path)]
    for rig, dup in zip(lives, (False, True), strict=True):
        rig.send(SURE, mid=3, dup=dup)
        rig.turn()
    assert lives[0].ids == lives[1].ids != []


def test_what_the_link_does_not_take_goes_out_later_in_its_order(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for name in "abc":
        rig.send(SURE, name)
    rig.link.full = True
    rig.turn()
    rig.turn()
    assert rig.ids == []
    rig.link.full = False
    rig.turn()
    assert rig.ids == ["a", "b", "c"]
    assert rig.acknowledged == [1, 2, 3]


def test_what_is_decided_while_the_broker_is_away_goes_out_when_it_is_back(
    tmp_path: Path,
) -> None:
    # The broker may have forgotten the sample: nobody else can answer it.
    rig = Rig(tmp_path)
    rig.send(SURE, "a")
    rig.link.disconnect()
    rig.turn()
    assert rig.value("edge_ready") == 0
    rig.link.connect()
    rig.turn()
    assert rig.ids == ["a"]
    assert rig.value("edge_ready") == 1


def test_a_full_queue_refuses_the_newest_and_tells_its_sender(tmp_path: Path) -> None:
    rig = Rig(tmp_path, batching={"queue_size": 1})
    for name in "ab":
        rig.send(SURE, name)
    rig.turn()
    assert rig.ids == ["a"]
    assert [error["id"] for error in rig.errors] == ["b"]
    assert rig.drops("queue_full") == 1
    assert sorted(rig.acknowledged) == [1, 2]


def test_a_full_queue_can_drop_the_oldest(tmp_path: Path) -> None:
    rig = Rig(tmp_path, batching={"queue_size": 2, "overflow": "drop_oldest"})
    for name in "abc":
        rig.send(SURE, name)
    rig.turn()
    assert rig.ids == ["b", "c"]
    assert [error["id"] for error in rig.errors] == ["a"]
    assert rig.drops("dropped_oldest") == 1


def test_a_full_queue_can_leave_the_rest_to_the_broker_which_brings_it_again(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, batching={"queue_size": 1, "overflow": "block"})
    messages = [rig.send(SURE, name) for name in "abc"]
    rig.turn()
    assert rig.ids == ["a"]
    assert rig.acknowledged == [1]
    assert rig.value("edge_deferrals_total") == 2
    assert rig.link.session == 1
    # There is room now, and this one would overtake those that were left to the broker.
    messages.append(rig.send(SURE, "d"))
    assert rig.value("edge_deferrals_total") == 3
    # The answer is acknowledged: it connects anew, and in the new session they come again.
    rig.turn()
    assert rig.link.session == 2
    rig.node.on_connected(rig.link)
    for message in messages[1:]:
        rig.send(SURE, "bcd"[message.mid - 2], mid=message.mid, dup=True)
        rig.turn()
    assert rig.ids == ["a", "b", "c", "d"]
    assert rig.drops("queue_full") == 0


def test_a_sample_that_cannot_be_read_is_told_and_put_away(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.send([1, 2], "short")
    (error,) = rig.errors
    assert error["id"] == "short"
    assert "3" in error["expected"]
    assert rig.acknowledged == [1]


def test_who_sends_more_than_a_packet_may_be_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.broker.publish(SAMPLES, bytes(rig.link.max_packet_bytes))
    rig.turn()
    rig.turn()
    (error,) = rig.errors
    assert error["id"] is None
    assert str(rig.link.max_packet_bytes) in error["error"]
    assert "262144 bytes" in error["expected"]


@pytest.mark.parametrize(
    ("topic", "retain"),
    [
        (SAMPLES, True),
        (SAMPLES.replace("cam-01", "cam-02"), False),
        (REPLIES, False),
    ],
    ids=["at every connect", "another's sensor", "no sensor"],
)
def test_who_else_sends_more_than_a_packet_may_be_is_told_nothing(
    tmp_path: Path, topic: str, retain: bool
) -> None:
    rig = Rig(tmp_path, sensors=["cam-01"])
    size = rig.link.max_packet_bytes
    rig.link.deliver(topic, bytes(size), 0, dup=False, retain=retain)
    rig.turn()
    assert [each.topic for each in rig.broker.published if "/errors/" in each.topic] == []


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("escalon/plant/meter/samples/$x", "bad_topic"),
        ("escalon/plant/other/samples/cam-01", "bad_topic"),
        ("escalon/plant/meter/samples/cam-02", "not_our_sensor"),
    ],
)
def test_what_is_not_for_this_node_is_put_away_and_counted(
    tmp_path: Path, topic: str, reason: str
) -> None:
    rig = Rig(tmp_path, sensors=["cam-01"])
    rig.send(SURE, topic=topic)
    rig.turn()
    assert rig.drops(reason) == 1
    assert rig.acknowledged == [1]


def test_a_retained_sample_is_not_answered_at_every_connect(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.send(SURE, retain=True)
    rig.turn()
    assert rig.ids == []
    assert rig.drops("retained") == 1


def test_an_unsure_sample_goes_to_tier2_and_its_answer_to_the_sensor(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.send(UNSURE, "a")
    rig.turn()
    assert rig.ids == []
    (payload,) = rig.broker.payloads(ESCALATIONS)
    (sample,) = unpack(payload, Escalation).samples
    scores = Tensor.of(np.array([[0.0, 0.25, 0.75]], np.float32))
    reply = Reply(1, "tier1-a", "meter", "full", "7", (sample.correlation,), scores)
    rig.node.on_message(rig.link, Message(REPLIES, pack(reply), 0, 0, 1), 0.0)
    (prediction,) = rig.predictions
    assert (prediction["id"], prediction["decided_by"]) == ("a", "tier2")


def test_a_question_that_the_link_does_not_take_is_answered_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.send(UNSURE, "a")
    rig.link.full = True
    rig.turn()
    rig.link.full = False
    rig.turn()
    (prediction,) = rig.predictions
    assert (prediction["decided_by"], prediction["reason"]) == ("fallback", "unreachable")


def test_sensors_may_publish_where_they_always_did(tmp_path: Path) -> None:
    rig = Rig(tmp_path, topic="plant/line-1/{sensor}/vibration")
    assert rig.link.subscriptions["plant/line-1/+/vibration"] == 1
    rig.send(SURE, "a", topic="plant/line-1/cam-01/vibration")
    rig.turn()
    assert rig.ids == ["a"]


def test_a_route_fires_before_the_prediction(tmp_path: Path) -> None:
    route = {"when": {"label": ["one"]}, "topic": "press/stop", "payload": {"why": "$id"}}
    rig = Rig(tmp_path, routes=[route])
    rig.send(SURE, "a")
    rig.turn()
    assert [json.loads(each) for each in rig.broker.payloads("press/stop")] == [{"why": "a"}]
    topics = [message.topic for message in rig.broker.published]
    assert topics.index("press/stop") < topics.index(PREDICTIONS)


def test_at_most_once_neither_waits_nor_asks_for_an_acknowledgement(tmp_path: Path) -> None:
    rig = Rig(tmp_path, delivery="at_most_once")
    assert rig.link.subscriptions["escalon/plant/meter/samples/+"] == 0
    rig.link.receive()  # birth and info are acknowledged
    rig.link.holds_acks = True
    rig.send(SURE, "a")
    rig.turn()
    assert rig.ids == ["a"]
    assert rig.link.settled


def test_answers_are_counted_by_who_and_why(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for name in "ab":
        rig.send(SURE, name)
    rig.turn()
    by = {"decided_by": "tier1", "reason": "confident"}
    assert rig.value("edge_predictions_total", **by) == 2
    assert rig.value("edge_inference_latency_seconds_count") == 2


def test_an_action_leaves_once_however_often_its_prediction_is_refused(tmp_path: Path) -> None:
    routes = [
        {"topic": "press/lamp", "payload": "on", "qos": 0},
        {"topic": "press/stop", "payload": "now", "qos": 1},
    ]
    rig = Rig(tmp_path, routes=routes)
    rig.send(SURE, "a")
    rig.link.full = True
    for _ in range(5):
        rig.turn()
    assert len(rig.broker.payloads("press/lamp")) == 1
    assert rig.broker.payloads("press/stop") == []
    rig.link.full = False
    rig.turn()
    assert len(rig.broker.payloads("press/lamp")) == len(rig.broker.payloads("press/stop")) == 1
    assert rig.ids == ["a"]


def test_an_action_that_can_never_be_sent_does_not_take_the_prediction_with_it(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, routes=[{"topic": "press/stop", "payload": "x" * 5000}])
    rig.link.max_packet_bytes = 2000
    rig.send(SURE, "a")
    rig.turn()
    assert rig.ids == ["a"]
    assert rig.drops("action_too_large") == 1


def test_an_answer_that_can_never_be_sent_is_told_to_its_sender(tmp_path: Path) -> None:
    packs = {"kind": "raw", "dtype": "float32", "pack": {"max_samples": 100}}
    rig = Rig(tmp_path, format=packs)
    rig.link.max_packet_bytes = 2000
    payload = np.array([SURE] * 100, np.float32).tobytes()
    rig.node.on_message(rig.link, Message(SAMPLES, payload, 1, 1, rig.link.session), 0.0)
    rig.turn()
    assert rig.predictions == []
    (error,) = rig.errors
    assert "the answer is" in error["error"]
    assert rig.drops("prediction_too_large") == 1
    assert rig.acknowledged == [1]


def test_pipelines_on_one_topic_divide_its_sensors(tmp_path: Path) -> None:
    topic = "plant/{sensor}"
    other = {"topic": topic, "sensors": ["cam-02"]}
    rig = Rig(tmp_path, {"other": other}, topic=topic, sensors=["cam-01"])
    for sensor in ("cam-01", "cam-02", "cam-03"):
        rig.send(SURE, sensor, topic=f"plant/{sensor}")
    rig.turn()
    assert rig.ids == ["cam-01"]
    predicted = rig.broker.payloads("escalon/plant/other/predictions/cam-02")
    assert [json.loads(each)["id"] for each in predicted] == ["cam-02"]
    assert rig.drops("not_our_sensor") == 1


def test_a_pipeline_without_a_model_does_not_hold_up_the_others(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "trust.signed").write_bytes(found_trust([key], [key], 0.0))
    releases = {"channel": "other", "trust": tmp_path / "trust.signed"}
    rig = Rig(tmp_path, {"other": {"model": None, "releases": releases}})
    rig.send(SURE, "early", topic="escalon/plant/other/samples/cam-01")
    rig.send(SURE, "a")
    rig.turn()
    assert rig.ids == ["a"]
    assert rig.acknowledged == [1, 2]
    (error,) = rig.broker.payloads("escalon/plant/other/errors/cam-01")
    assert json.loads(error)["id"] == "early"
    assert rig.drops("no_model") == 1


def test_a_pipeline_that_queues_does_not_keep_back_what_another_left_to_the_broker(
    tmp_path: Path,
) -> None:
    slow = {"batching": {"max_delay_ms": 10_000.0}}
    rig = Rig(tmp_path, {"slow": slow}, batching={"queue_size": 1, "overflow": "block"})
    for _ in range(2):  # the second waits for company
        rig.send(SURE, topic="escalon/plant/slow/samples/cam-01")
        rig.turn()
    for name in "ab":
        rig.send(SURE, name)
    for _ in range(2):
        rig.turn()
    assert rig.ids == ["a"]
    assert rig.link.restarts == 1


def test_questions_that_are_too_large_for_the_broker_go_in_halves(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.link.max_packet_bytes = 700
    for number in range(8):
        rig.send(UNSURE, f"{number}" * 60)
    rig.turn()
    messages = [unpack(each, Escalation) for each in rig.broker.payloads(ESCALATIONS)]
    assert len(messages) > 1
    asked = [sample.id for message in messages for sample in message.samples]
    assert asked == [f"{number}" * 60 for number in range(8)]
    assert sum(message.seen for message in messages) == 8
    assert rig.predictions == []
