"""The node carries questions, answers and records between its brokers and its pipelines."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from shared.errors import StorageError
from shared.messages import Escalation, Reply, Telemetry, Tensor, pack, unpack
from shared.metrics import NodeMetrics
from shared.mqtt.message import Message
from shared.presence import Presence
from shared.spool import Spool
from shared.workers.worker import ALONE, Worker
from tests.builders import LABELS, SHAPE, echo_onnx, escalated
from tests.fakes import FakeBroker, FakeLink
from tier2.config import Tier2Config
from tier2.node import Tier2Node

ESCALATIONS = "escalon/plant/meter/escalations/tier1-a"
REPLIES = "escalon/plant/meter/replies/tier1-a"
TELEMETRY = "escalon/plant/telemetry/full-1"
ABOVE = "escalon/region/meter/escalations/plant.full-1"
FROM_ABOVE = "escalon/region/meter/replies/plant.full-1"
SURE = [0.05, 0.9, 0.05]
UNSURE = [0.5, 0.3, 0.2]
MAX_BATCH_SIZE = 32


class Rig:
    """A node on fake links: the site's, and the region's where there is one."""

    def __init__(self, folder: Path, *, region: bool = False, worker: Worker | None = None) -> None:
        (folder / "echo.onnx").write_bytes(echo_onnx())
        model = {"path": folder / "echo.onnx", "labels": LABELS, "threshold": 0.8}
        pipeline: dict[str, Any] = {
            "input": {"shape": SHAPE},
            "model": model,
            "batching": {"max_batch_size": MAX_BATCH_SIZE},
        }
        if region:
            pipeline["upstream"] = {"site": "region", "broker": {"url": "mqtt://region"}}
            pipeline["escalation"] = {"audit_share": 0.0, "deadline_ms": 60_000.0}
        config = Tier2Config.model_validate(
            {
                "role": "tier2",
                "node": "full-1",
                "site": "plant",
                "broker": {"url": "mqtt://site"},
                "state_dir": folder / "state",
                "pipelines": {"meter": pipeline},
                "telemetry": {"max_delay_s": 1000.0},
            },
            strict=False,
        )
        # The node looks at the clock between two batches.
        self.start_s = time.monotonic()
        self.metrics = NodeMetrics(CollectorRegistry())
        self.broker, self.region_broker = FakeBroker(), FakeBroker()
        self.site, self.region = FakeLink(self.broker), FakeLink(self.region_broker)
        links = {config.broker: self.site}
        upstream = config.pipelines["meter"].upstream
        if upstream is not None:
            links[config.upstream_broker(upstream)] = self.region
        self.node = Tier2Node(
            config,
            links,
            self.metrics,
            Presence(config, "tier2", None),
            rng=random.Random(1),
            wake=lambda: None,
            worker=worker or ALONE,
        )
        self.node.start()
        self.node.on_connected(self.site)

    def ask(self, *rows: list[float], first: int = 0, **changes: Any) -> None:
        """Delivers a message of questions."""
        samples = tuple(escalated(first + place) for place in range(len(rows)))
        array = Tensor.of(np.array(rows, np.float32).reshape(len(rows), 3))
        message = Escalation(1, "tier1-a", "meter", "3", 60_000.0, 0, 0, samples, array, array)
        self.send(ESCALATIONS, pack(msgspec.structs.replace(message, **changes)))

    def send(self, topic: str, payload: bytes, link: FakeLink | None = None) -> Message:
        message = Message(topic, payload, 1, 1, self.site.session)
        self.node.on_message(link or self.site, message, self.start_s)
        return message

    def turn(self, after_s: float = 0.0) -> None:
        self.node.turn(self.start_s + after_s)

    @property
    def replies(self) -> list[tuple[tuple[int, ...], str]]:
        """What was replied to, and by which model's version."""
        found = [unpack(each, Reply) for each in self.broker.payloads(REPLIES)]
        return [(reply.correlations, reply.model_version) for reply in found]

    @property
    def recorded(self) -> list[int]:
        """What is on its way to the cloud."""
        found = [unpack(each, Telemetry) for each in self.broker.payloads(TELEMETRY)]
        return [record.sample.correlation for message in found for record in message.records]

    def drops(self, reason: str) -> float:
        registry = self.metrics.registry
        return registry.get_sample_value("edge_drops_total", {"reason": reason}) or 0.0


def test_questions_are_replied_to_in_the_turn_in_which_they_came(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.ask(SURE, UNSURE)
    rig.turn()
    assert rig.replies == [((0, 1), "local")]
    assert rig.site.acknowledged[-1].topic == ESCALATIONS
    rig.turn(2000.0)
    assert rig.recorded == [0, 1]


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        pytest.param(ESCALATIONS, b"\xc1 nothing", "not_escalation", id="bytes"),
        pytest.param(ESCALATIONS, b"", "not_escalation", id="empty"),
        pytest.param("escalon/plant/meter/escalations/other", None, "bad_topic", id="other-node"),
        pytest.param("escalon/plant/nothing", b"x", "bad_topic", id="no-topic-of-ours"),
    ],
)
def test_what_cannot_be_read_is_counted_and_acknowledged(
    tmp_path: Path, topic: str, payload: bytes | None, reason: str
) -> None:
    rig = Rig(tmp_path)
    if payload is None:
        array = Tensor.of(np.array([SURE], np.float32))
        payload = pack(
            Escalation(1, "tier1-a", "meter", "3", 1.0, 0, 0, (escalated(1),), array, array)
        )
    message = rig.send(topic, payload)
    assert rig.drops(reason) == 1
    assert rig.site.acknowledged == [message]
    rig.ask(SURE)
    rig.turn()
    assert rig.replies == [((0,), "local")]


def test_a_worker_of_the_asking_node_is_answered_on_its_own_topic(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    array = Tensor.of(np.array([SURE], np.float32))
    message = Escalation(
        1, "tier1-a", "meter", "3", 60_000.0, 0, 0, (escalated(1),), array, array,
        reply_to="tier1-a.w1",
    )  # fmt: skip
    rig.send(ESCALATIONS, pack(message))
    rig.turn()
    assert len(rig.broker.payloads("escalon/plant/meter/replies/tier1-a.w1")) == 1


@pytest.mark.parametrize(
    ("node", "address"),
    [
        ("tier1-a", "tier1-b"),
        ("tier1-a", "tier1-ab"),
        ("tier1-a", "tier1-a.b"),
        ("tier1-a", "tier1-a.w1.w1"),
        ("tier1-a", "tier1-a.w01"),
        ("tier1-a", "tier1-a.w999"),
        ("tier1-b", ""),
        ("tier1-b", "tier1-a"),
    ],
)
def test_no_node_asks_in_anothers_name_or_has_anothers_replies(
    tmp_path: Path, node: str, address: str
) -> None:
    rig = Rig(tmp_path)
    rig.ask(SURE, node=node, reply_to=address)
    rig.turn()
    assert rig.drops("bad_topic") == 1
    assert not [each for each in rig.broker.published if "/replies/" in each.topic]


def test_a_backlog_is_confirmed_only_once_its_records_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise StorageError("disk full")

    rig = Rig(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add_all", broken)
        rig.ask(SURE, UNSURE, first=-2, backlog=True)
        rig.turn()
        rig.turn(0.1)
    assert rig.replies == []
    rig.turn(2000.0)
    assert rig.replies == [((-2, -1), "")]
    assert rig.recorded == [-2, -1]


def test_what_a_broken_disk_made_it_throw_away_is_not_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise StorageError("disk full")

    monkeypatch.setattr("tier2.collector.MAX_WAITING_RECORDS", 3)
    rig = Rig(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add_all", broken)
        rig.ask(SURE, SURE, SURE, first=-5, backlog=True)
        rig.turn()
        rig.ask(SURE, SURE, first=100)
        rig.turn(1500.0)
        rig.turn(2600.0)
    assert rig.drops("spool_broken") == 2
    rig.turn(5000.0)
    assert rig.recorded == [-3, 100, 101]
    assert [numbers for numbers, _ in rig.replies] == [(100, 101)]
    rig.ask(SURE, SURE, SURE, first=-5, backlog=True)  # its node sends it again
    rig.turn(5001.0)
    rig.turn(9000.0)
    # Telemetry that is not confirmed is sent again.
    assert list(dict.fromkeys(rig.recorded)) == [-3, 100, 101, -5, -4]
    assert [numbers for numbers, _ in rig.replies] == [(100, 101), (-5, -4, -3)]


def test_live_questions_are_answered_before_a_backlog_in_the_same_turn(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.ask(SURE, first=-1, backlog=True)
    rig.ask(SURE, first=5)
    rig.turn()
    assert [numbers for numbers, _ in rig.replies] == [(5,), (-1,)]


def test_with_a_backlog_in_hand_the_loop_does_not_wait(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    count = MAX_BATCH_SIZE + 1
    rig.ask(*[SURE] * count, first=-count, backlog=True)
    rig.turn()
    assert rig.node.next_wake_s(rig.start_s) <= 0
    rig.turn()
    rig.turn()
    assert [len(numbers) for numbers, _ in rig.replies] == [count]


def test_what_it_is_not_sure_of_goes_to_the_region_and_comes_back(tmp_path: Path) -> None:
    rig = Rig(tmp_path, region=True)
    rig.ask(SURE, UNSURE)
    rig.turn()
    assert rig.replies == [((0,), "local")]
    (payload,) = rig.region_broker.payloads(ABOVE)
    question = unpack(payload, Escalation)
    assert question.recorded
    number = question.samples[0].correlation
    row = Tensor.of(np.array([SURE], np.float32))
    rig.send(
        FROM_ABOVE,
        pack(Reply(1, "plant.full-1", "meter", "region", "9", (number,), row)),
        rig.region,
    )
    assert rig.replies[1:] == [((1,), "9")]


def test_an_answer_on_another_brokers_topic_is_none(tmp_path: Path) -> None:
    rig = Rig(tmp_path, region=True)
    rig.ask(UNSURE)
    rig.turn()
    rig.send(FROM_ABOVE, b"", rig.site)
    rig.send(ESCALATIONS, b"", rig.region)
    assert rig.drops("bad_topic") == 2


def test_without_the_region_it_answers_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, region=True)
    rig.region.disconnect()
    rig.ask(UNSURE)
    rig.turn()
    assert rig.replies == [((0,), "local")]


def test_a_question_that_the_regions_link_does_not_take_is_answered_at_once(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, region=True)
    rig.region.full = True
    rig.ask(UNSURE)
    rig.turn()
    assert rig.replies == [((0,), "local")]


def test_a_question_too_large_for_the_regions_broker_is_answered_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, region=True)
    rig.region.max_packet_bytes = 100
    rig.ask(UNSURE)
    rig.turn()
    assert rig.replies == [((0,), "local")]
    assert rig.drops("too_large") == 1


def test_questions_too_large_for_the_regions_broker_go_in_parts(tmp_path: Path) -> None:
    rig = Rig(tmp_path, region=True)
    rig.region.max_packet_bytes = 700
    rig.ask(*[UNSURE] * 9)
    rig.turn()
    asked = [unpack(each, Escalation) for each in rig.region_broker.payloads(ABOVE)]
    assert len(asked) > 1
    assert sum(len(each.samples) for each in asked) == 9
    assert rig.replies == []
    assert rig.drops("too_large") == 0


def test_telemetry_too_large_for_the_clouds_broker_makes_way(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.ask(*[SURE] * 20)
    rig.turn()
    rig.site.max_packet_bytes = 500
    rig.turn(2000.0)
    assert rig.recorded == []
    assert rig.drops("too_large") == 1
    assert rig.node.idle
    rig.site.max_packet_bytes = 2**20
    rig.ask(SURE, first=50)
    rig.turn(2001.0)
    assert rig.recorded == [50]


def test_a_reply_that_does_not_leave_is_counted(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.ask(SURE)
    rig.site.full = True
    rig.turn()
    assert rig.drops("reply_not_sent") == 1


def test_a_second_worker_reports_under_a_name_and_on_a_disk_of_its_own(tmp_path: Path) -> None:
    rig = Rig(tmp_path, worker=Worker(1, 2))
    rig.ask(SURE, node="tier1-a")
    rig.turn()
    rig.turn(2000.0)
    taken = Worker(1, 2).takes("tier1-a")
    assert bool(rig.broker.payloads("escalon/plant/telemetry/full-1.w1")) == taken
    assert (tmp_path / "state" / "telemetry-w1.sqlite").exists()
    rig.node.close()


def test_it_is_ready_once_it_is_connected_and_has_its_models(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.turn()
    assert rig.metrics.registry.get_sample_value("edge_ready") == 1
    rig.site.disconnect()
    rig.turn()
    assert rig.metrics.registry.get_sample_value("edge_ready") == 0
