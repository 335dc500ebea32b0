"""A tier-1 node needs no disk to answer: one that fails costs the backlog and nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.mqtt.message import Message
from shared.presence import Presence
from tests.builders import LABELS, SHAPE, echo_onnx
from tests.fakes import FakeBroker, FakeLink
from tier1.config import Tier1Config
from tier1.node import Tier1Node

UNSURE = json.dumps({"features": [0.4, 0.3, 0.3]}).encode()


class Rig:
    """A node that may ask one sample a minute, and keeps the others on its disk."""

    def __init__(self, folder: Path, state_dir: Path, **backlog: Any) -> None:
        (folder / "echo.onnx").write_bytes(echo_onnx())
        pipeline = {
            "input": {"shape": SHAPE},
            "model": {"path": folder / "echo.onnx", "labels": LABELS, "threshold": 0.8},
            "escalation": {
                "audit_share": 0.0, "budget": {"samples_per_minute": 1}, "backlog": backlog,
            },
        }  # fmt: skip
        config = Tier1Config.model_validate(
            {
                "role": "tier1",
                "node": "node-1",
                "site": "plant",
                "broker": {"url": "mqtt://127.0.0.1"},
                "state_dir": state_dir,
                "pipelines": {"meter": pipeline},
            },
            strict=False,
        )
        self.metrics = NodeMetrics(CollectorRegistry())
        self.broker = FakeBroker()
        self.link = FakeLink(self.broker)
        self.node = Tier1Node(
            config, self.link, self.metrics, Presence(config, "tier1", None),
            rng=random.Random(1), wake=lambda: None,
        )  # fmt: skip
        self.node.start()
        self._count = 0

    def send(self, count: int, now_s: float) -> None:
        for _ in range(count):
            self._count += 1
            topic = "escalon/plant/meter/samples/cam-01"
            self.node.on_message(self.link, Message(topic, UNSURE, 1, self._count, 1), now_s)
        self.node.turn(now_s)
        self.link.receive()
        self.node.turn(now_s)

    @property
    def answered(self) -> int:
        return len(self.broker.payloads("escalon/plant/meter/predictions/cam-01"))

    def drops(self, reason: str) -> float:
        registry = self.metrics.registry
        return registry.get_sample_value("edge_drops_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize("max_bytes", [2**26, 0], ids=["backlog", "none"])
def test_a_node_whose_folder_cannot_be_written_starts_and_answers(
    tmp_path: Path, max_bytes: int
) -> None:
    (tmp_path / "taken").write_bytes(b"no folder")
    rig = Rig(tmp_path, tmp_path / "taken", max_bytes=max_bytes)
    rig.send(5, 0.0)
    rig.send(5, 5.0)
    assert rig.answered == 9  # one is asked
    assert (rig.drops("backlog_broken") > 0) == (max_bytes > 0)
    rig.node.close()


def test_a_node_without_a_backlog_writes_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tmp_path / "state", max_bytes=0)
    rig.send(5, 0.0)
    rig.node.close()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["subscriptions.json"]


def test_a_backlog_that_is_damaged_under_a_node_does_not_end_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tmp_path / "state")
    for second in range(0, 40, 2):
        rig.send(100, float(second))
    path = tmp_path / "state" / "backlog" / "meter.sqlite"
    spool = rig.node._lanes["meter"].backlog._spool
    with spool._database_file.use("write") as database:
        database.execute("PRAGMA cache_size=1")
    spool._database_file._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    before = rig.answered
    for second in range(50, 200, 2):
        rig.send(10, float(second))
    assert rig.answered >= before + 75 * 9
    assert rig.drops("backlog_broken") > 0
    assert path.with_suffix(".corrupt").exists()
    assert spool.payload_bytes > 0  # begun anew
    rig.node.close()
