"""A person's label is read, goes by tier-2's disk, and is acknowledged only when it is there."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from shared.errors import PayloadError, StorageError
from shared.labels import check_class, read_label
from shared.messages import (
    SCHEMA_VERSION,
    GateCount,
    SampleError,
    SampleLabel,
    Telemetry,
    TelemetryAck,
    TelemetryRecord,
    from_json,
    pack,
    unpack,
)
from shared.metrics import NodeMetrics
from shared.presence import Presence
from shared.spool import Spool
from tests.builders import LABELS, SHAPE, echo_onnx
from tests.fakes import FakeBroker, FakeLink
from tier2.collector import Collector
from tier2.config import TelemetryConfig, Tier2Config
from tier2.node import Tier2Node

TOPIC = "escalon/plant/meter/labels/cam-01"
ERRORS = "escalon/plant/meter/errors/cam-01"
TELEMETRY = "escalon/plant/telemetry/full-1"
NOW_S = 1_764_072_000.0


def read(payload: str) -> SampleLabel:
    return read_label(payload.encode(), "meter", "cam-01", NOW_S)


@pytest.mark.parametrize(
    ("payload", "sample_id", "label", "by", "labelled_s"),
    [
        ('{"id": "a-1", "label": "ok"}', "a-1", "ok", "", NOW_S),
        ('{"id": 17, "label": 3}', "17", "3", "", NOW_S),
        ('{"id": "a", "label": "ok", "by": " ada ", "timestamp": 5.5}', "a", "ok", "ada", 5.5),
        ('{"id": "a", "label": "ok", "timestamp": "1970-01-02T00:00:00Z"}', "a", "ok", "", 86400.0),
        ('{"id": "a", "label": "ok", "timestamp": "1970-01-02"}', "a", "ok", "", 86400.0),
        ('{"id": "a", "label": "ok", "note": "x"}', "a", "ok", "", NOW_S),
    ],
)
def test_a_label_is_read(
    payload: str, sample_id: str, label: str, by: str, labelled_s: float
) -> None:
    assert read(payload) == SampleLabel("meter", "cam-01", sample_id, label, by, labelled_s)


@pytest.mark.parametrize(
    ("payload", "reason", "problem"),
    [
        ("nothing", "not_label", "not a Label"),
        ('{"label": "ok"}', "not_label", "id"),
        ('{"id": "", "label": "ok"}', "bad_label", "id has 0 characters; 1 to 134 are due"),
        ('{"id": "a", "label": ""}', "bad_label", "label has 0 characters"),
        (f'{{"id": "{"i" * 135}", "label": "ok"}}', "bad_label", "id has 135 characters"),
        (f'{{"id": "a", "label": "ok", "by": "{"b" * 65}"}}', "bad_label", "by has 65 characters"),
        ('{"id": "a\\u0000", "label": "ok"}', "bad_label", "no NUL"),
        ('{"id": "a", "label": "ok", "timestamp": "noon"}', "bad_timestamp", "'noon' is neither"),
        ('{"id": "a", "label": "ok", "timestamp": 1e999}', "not_label", ""),
        (
            '{"id": "a", "label": "ok", "timestamp": 1764072000000}',
            "bad_timestamp",
            "timestamp 1764072000000.0 lies beyond the year 9999. Fix: seconds since 1970 are due, "
            "not milliseconds",
        ),
    ],
)
def test_what_is_no_label_is_refused_with_what_is_due(
    payload: str, reason: str, problem: str
) -> None:
    with pytest.raises(PayloadError) as raised:
        read(payload)
    assert raised.value.reason == reason
    assert problem in str(raised.value)
    assert '"label": "ok"' in raised.value.expected


def test_an_unknown_class_is_refused_with_those_there_are() -> None:
    check_class("ok", ("ok", "bad"))
    with pytest.raises(PayloadError, match="label 'OK' is none of ok, bad"):
        check_class("OK", ("ok", "bad"))
    with pytest.raises(PayloadError, match=r"is none of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\."):
        check_class("OK", tuple(map(str, range(1000))))


class Rig:
    """A tier-2 node with its link for labels."""

    def __init__(self, folder: Path) -> None:
        (folder / "echo.onnx").write_bytes(echo_onnx())
        model = {"path": folder / "echo.onnx", "labels": LABELS}
        whole: dict[str, Any] = {
            "role": "tier2", "node": "full-1", "site": "plant",
            "broker": {"url": "mqtt://site"}, "state_dir": folder / "state",
            "pipelines": {"meter": {"input": {"shape": SHAPE}, "model": model}},
            "telemetry": {"max_delay_s": 1000.0},
        }  # fmt: skip
        config = Tier2Config.model_validate(whole, strict=False)
        self.metrics = NodeMetrics(CollectorRegistry())
        self.broker = FakeBroker()
        self.site = FakeLink(self.broker)
        self.labels = FakeLink(self.broker, persistent=True, client_id="labels")
        self.node = Tier2Node(
            config, {config.broker: self.site}, self.metrics, Presence(config, "tier2", None),
            rng=random.Random(1), wake=lambda: None, labels_link=self.labels,
        )  # fmt: skip
        self.node.start()
        self.now_s = 100.0

    def turn(self) -> None:
        self.now_s += 1
        for link in self.node.links:
            assert isinstance(link, FakeLink)
            for message in link.receive():
                self.node.on_message(link, message, self.now_s)
        self.node.turn(self.now_s)

    def say(self, payload: str, topic: str = TOPIC) -> None:
        self.broker.publish(topic, payload.encode())

    @property
    def sent(self) -> list[Telemetry]:
        return [unpack(each, Telemetry) for each in self.broker.payloads(TELEMETRY)]

    def drops(self, reason: str) -> float:
        registry = self.metrics.registry
        return registry.get_sample_value("edge_drops_total", {"reason": reason}) or 0.0


def test_a_label_goes_to_the_cloud_at_once_by_the_disk(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.say('{"id": "a-1", "label": "one", "by": "ada", "timestamp": 5}')
    rig.turn()
    assert [each.topic for each in rig.labels.acknowledged] == [TOPIC]
    (message,) = rig.sent
    assert message.labels == (SampleLabel("meter", "cam-01", "a-1", "one", "ada", 5.0),)
    assert not rig.node.idle
    rig.broker.publish(f"{TELEMETRY.replace('telemetry', 'telemetry-acks')}",
                       pack(TelemetryAck(1, (message.batch,))))  # fmt: skip
    rig.turn()
    assert rig.node.idle


def test_a_label_is_not_acknowledged_before_the_disk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)

    def full(*arguments: object) -> int:
        raise StorageError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add_all", full)
        rig.say('{"id": "a-1", "label": "one"}')
        rig.turn()
        assert rig.labels.acknowledged == []
        rig.labels.cut()  # the connection goes: the broker brings it again
        rig.labels.connect()
        rig.turn()
        assert rig.labels.acknowledged == []
    rig.now_s += 2000
    rig.turn()
    assert rig.labels.unacknowledged == 0
    assert [label.id for message in rig.sent for label in message.labels] == ["a-1"]


def test_a_label_that_came_while_the_node_was_away_is_not_lost(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.labels.disconnect()
    rig.say('{"id": "a-1", "label": "one"}')
    rig.turn()
    assert rig.sent == []
    rig.labels.connect()
    rig.turn()
    assert [label.id for label in rig.sent[0].labels] == ["a-1"]


@pytest.mark.parametrize(
    ("payload", "reason", "error"),
    [
        ('{"id": "a-1", "label": "three"}', "unknown_label",
         "label 'three' is none of zero, one, two"),
        ("nothing", "not_label", "not a Label"),
    ],
)  # fmt: skip
def test_a_wrong_label_is_refused_and_its_sender_told(
    tmp_path: Path, payload: str, reason: str, error: str
) -> None:
    rig = Rig(tmp_path)
    rig.say(payload)
    rig.turn()
    (told,) = [from_json(each, SampleError) for each in rig.broker.payloads(ERRORS)]
    assert error in told.error
    assert told.device_id == "cam-01"
    assert rig.drops(reason) == 1
    assert rig.sent == []
    assert len(rig.labels.acknowledged) == 1


def test_a_label_on_a_strange_topic_is_counted(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.labels.subscribe("escalon/plant/+/labels/+")
    rig.say('{"id": "a", "label": "one"}', "escalon/plant/pump/labels/cam-01")
    rig.say('{"id": "a", "label": "one"}', "escalon/plant/meter/labels/$cam")
    rig.turn()
    assert rig.drops("bad_topic") == 2
    assert rig.sent == []


# Older and newer software


class TelemetryBefore(msgspec.Struct, frozen=True, array_like=True):
    """Telemetry as a cloud without labels knows it."""

    newest_schema: ClassVar[int] = SCHEMA_VERSION

    schema_version: int
    sender: str
    batch: str
    records: tuple[TelemetryRecord, ...]
    counts: tuple[GateCount, ...]


def collector() -> Collector:
    return Collector("full-1", TelemetryConfig(), NodeMetrics(CollectorRegistry()))


def test_a_cloud_that_knows_no_labels_takes_all_but_the_messages_of_labels() -> None:
    """It would confirm what it cannot keep; refused, they wait on the site's disk."""
    from tests.builders import record
    from tier2.answering import Record

    made = collector()
    made.add([Record(record(1))])
    made.add_label(SampleLabel("meter", "cam-01", "a-1", "one", "", 5.0))
    labels = made.message()
    made.remove(labels)
    others = made.message()
    made.remove(others)
    assert len(made) == 0
    assert (len(labels.labels), len(labels.records)) == (1, 0)
    assert (len(others.labels), len(others.records)) == (0, 1)
    with pytest.raises(PayloadError, match="newer schema"):
        unpack(pack(labels), TelemetryBefore)  # type: ignore[type-var]
    before = unpack(pack(others), TelemetryBefore)  # type: ignore[type-var]
    assert before.schema_version == 1


def test_a_cloud_takes_what_a_site_without_labels_sends() -> None:
    payload = msgspec.msgpack.encode(TelemetryBefore(1, "full-1", "b", (), ()))
    assert unpack(payload, Telemetry).labels == ()


def test_labels_are_cut_into_messages_that_fit() -> None:
    small = TelemetryConfig(max_message_bytes=2**14)
    made = Collector("full-1", small, NodeMetrics(CollectorRegistry()))
    wide = "é" * 134
    for number in range(40):
        made.add_label(SampleLabel("meter", f"cam-{number}", wide, "l" * 256, "b" * 64, 5.0))
    sizes = []
    while made:
        message = made.message()
        sizes.append(len(message.labels))
        assert len(pack(message)) < 2**14
        made.remove(message)
    assert sum(sizes) == 40
    assert min(sizes) >= 1
