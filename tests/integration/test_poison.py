"""Messages that nobody should ever send, to every topic that a node reads: it lives on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest

from shared.messages import (
    SCHEMA_VERSION,
    EscalatedSample,
    Escalation,
    Reply,
    TelemetryAck,
    Tensor,
    pack,
)
from tests.integration.hierarchy import (
    PREFIX,
    SITE,
    Hierarchy,
    Node,
    Observer,
    eventually,
    samples_topic,
)
from tests.integration.models import TIER1_TURN, TIER2_TURN, label, sure, unsure

pytestmark = pytest.mark.usefixtures("require_mosquitto")

BASE = f"{PREFIX}/{SITE}"
ESCALATIONS = f"{BASE}/meter/escalations/edge-1"
REPLIES = f"{BASE}/meter/replies/edge-1"

DEEP = b"\x91" * 200_000
NOISE = {
    "empty": b"",
    "text": b"hello",
    "binary": bytes(range(256)),
    "json": b'{"features": [9, 0, 0, 0]}',
    "deep-json": b"[" * 200_000,
    "deep-msgpack": DEEP,
    "huge-array": b"\xdd\xff\xff\xff\xff",
    "huge-map": b"\xdf\xff\xff\xff\xff",
    "huge-bytes": b"\xc6\xff\xff\xff\xff",
    "huge-number": b"[" + b"9" * 100_000 + b"]",
    "not-utf8": b"\xa4\xff\xfe\xfd\xfc",
    "nil": b"\xc0",
}
TOPICS = [
    samples_topic("cam-1"),
    ESCALATIONS,
    REPLIES,
    f"{BASE}/telemetry-acks/full-1",
    f"{BASE}/nodes/edge-1/state",
    f"{BASE}/nodes/full-1/state",
    f"{BASE}/nodes/edge-1/probe/shared",
    f"{BASE}/nodes/edge-1/probe/session",
    f"{BASE}/nodes/edge-1/commands/rollback",
    f"{BASE}/releases/meter-tier1",
    f"{BASE}/blobs/{'0' * 64}/0",
]


@dataclass(frozen=True)
class Site:
    """Tier-1 and tier-2 with an onlooker."""

    hierarchy: Hierarchy
    observer: Observer
    tier1: Node
    tier2: Node

    def drops(self, node: str) -> int:
        """All drops that a node has counted."""
        return sum(self.hierarchy.drops(node, self.observer).values())

    def assert_works(self) -> None:
        """Both live and answer, rightly."""
        assert self.observer.ask(sure(2))["prediction"] == label(2, TIER1_TURN)
        answer = self.observer.ask(unsure(2))
        assert (answer["decided_by"], answer["prediction"]) == ("tier2", label(2, TIER2_TURN))
        assert self.tier1.alive
        assert self.tier2.alive
        for node in (self.tier1, self.tier2):
            assert "Traceback" not in node.log


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site, which also waits for a release."""
    with Hierarchy(tmp_path_factory.mktemp("poison"), "mosquitto") as hierarchy:
        pipelines = {"meter": hierarchy.tier2_pipeline()}
        tier2 = hierarchy.start("tier2", "full-1", {"pipelines": pipelines})
        releases = hierarchy.releases("meter-tier1")
        pipelines = {"meter": hierarchy.tier1_pipeline(releases=releases)}
        tier1 = hierarchy.start("tier1", "edge-1", {"pipelines": pipelines})
        with hierarchy.observer() as observer:
            yield Site(hierarchy, observer, tier1, tier2)


@pytest.mark.parametrize("payload", NOISE.values(), ids=NOISE)
def test_noise_on_any_topic_ends_no_node(site: Site, payload: bytes) -> None:
    before = {node: site.drops(node) for node in ("edge-1", "full-1")}
    site.observer.publish_many([(topic, payload) for topic in TOPICS])
    site.assert_works()
    for node, count in before.items():
        assert site.drops(node) > count


def sample(**changes: Any) -> EscalatedSample:
    """A sound question."""
    sound = EscalatedSample(7, "a", "cam-1", 0.0, "low_confidence", False, 1.0)
    return msgspec.structs.replace(sound, **changes)


def escalation(**changes: Any) -> bytes:
    """A message of one sound question, with changes."""
    sound = Escalation(
        SCHEMA_VERSION, "edge-1", "meter", "1", 500.0, 1, 1, (sample(),),
        Tensor.of(np.ones((1, 4), np.float32)), Tensor.of(np.full((1, 3), 1 / 3, np.float32)),
    )  # fmt: skip
    return pack(msgspec.structs.replace(sound, **changes))


def floats(*shape: int, value: float = 1.0) -> Tensor:
    """A tensor of one number."""
    return Tensor.of(np.full(shape, value, np.float32))


POISON_QUESTIONS = {
    "no-samples": {"samples": (), "inputs": floats(0, 4), "probabilities": floats(0, 3)},
    "fewer-inputs": {"inputs": floats(0, 4)},
    "wrong-shape": {"inputs": floats(1, 5)},
    "wrong-dtype": {"inputs": Tensor.of(np.ones((1, 4), np.int64))},
    "unknown-dtype": {"inputs": Tensor("object", (1, 4), bytes(32))},
    "short-tensor": {"inputs": Tensor("float32", (1, 4), bytes(3))},
    "negative-shape": {"inputs": Tensor("float32", (-1, -4), bytes(16))},
    "endless-shape": {"inputs": Tensor("float32", (2**62, 2**62, 0), b"")},
    "nan-inputs": {"inputs": floats(1, 4, value=float("nan"))},
    "infinite-inputs": {"inputs": floats(1, 4, value=float("inf"))},
    "nan-budget": {"budget_ms": float("nan")},
    "negative-budget": {"budget_ms": -1.0},
    "endless-budget": {"budget_ms": 1e308},
    "negative-counts": {"seen": -1, "unsure": -1},
    "endless-counts": {"seen": 2**63 - 1, "unsure": 2**63 - 1},
    "foreign-node": {"node": "edge-9"},
    "bad-reply-address": {"reply_to": "../+/#"},
    "unknown-pipeline": {"pipeline": "gauge"},
    "newer-schema": {"schema_version": 99},
    "no-probability": {"samples": (sample(inclusion_probability=0.0),)},
    "nan-probability": {"samples": (sample(inclusion_probability=float("nan")),)},
    "endless-names": {"samples": (sample(id="x" * 100_000, sensor="y" * 100_000),)},
    "lone-surrogate": {"samples": (sample(id="\x00\x1f"),)},
    "backlog-nobody-keeps": {"backlog": True, "samples": (sample(correlation=-5),)},
    "empty-backlog": {
        "backlog": True, "samples": (), "inputs": floats(0, 4), "probabilities": floats(0, 3),
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", POISON_QUESTIONS.values(), ids=POISON_QUESTIONS)
def test_poison_question_ends_no_tier2(site: Site, changes: dict[str, Any]) -> None:
    site.observer.publish(ESCALATIONS, escalation(**changes))
    site.assert_works()


def reply(**changes: Any) -> bytes:
    """A message of one answer to nothing that was asked, with changes."""
    sound = Reply(SCHEMA_VERSION, "edge-1", "meter", "full", "7", (7,), floats(1, 3, value=1 / 3))
    return pack(msgspec.structs.replace(sound, **changes))


POISON_ANSWERS = {
    "unasked": {},
    "fewer-rows": {"correlations": (1, 2, 3)},
    "more-rows": {"correlations": ()},
    "mixed-signs": {"correlations": (-1, 1), "probabilities": floats(2, 3)},
    "backlog-nobody-sent": {"correlations": (-1, -2)},
    "flat": {"probabilities": floats(3)},
    "nan": {"probabilities": floats(1, 3, value=float("nan"))},
    "no-labels": {"probabilities": floats(1, 0)},
    "short-tensor": {"probabilities": Tensor("float32", (1, 3), bytes(5))},
    "unknown-dtype": {"probabilities": Tensor("complex", (1, 3), bytes(24))},
    "integers": {"probabilities": Tensor.of(np.ones((1, 3), np.int64))},
    "endless-names": {"model": "x" * 100_000, "model_version": "y" * 100_000},
    "newer-schema": {"schema_version": 99},
}


@pytest.mark.parametrize("changes", POISON_ANSWERS.values(), ids=POISON_ANSWERS)
def test_poison_answer_ends_no_tier1(site: Site, changes: dict[str, Any]) -> None:
    site.observer.publish(REPLIES, reply(**changes))
    site.assert_works()


def test_poison_acknowledgement_of_telemetry_removes_nothing_of_others(site: Site) -> None:
    topic = f"{BASE}/telemetry-acks/full-1"
    for batches in ((), ("unknown",) * 1000, ("'; DROP TABLE entries; --",)):
        site.observer.publish(topic, pack(TelemetryAck(SCHEMA_VERSION, batches)))
    site.assert_works()


def test_state_of_another_instance_is_a_conflict_and_no_end(site: Site) -> None:
    state = {"node": "edge-1", "role": "tier1", "state": "online", "instance": "x" * 10_000}
    topic = f"{BASE}/nodes/edge-1/state"
    site.observer.publish(topic, json.dumps(state).encode())
    site.assert_works()
    eventually(lambda: "another process runs as node edge-1" in site.tier1.log, "a word on it")
