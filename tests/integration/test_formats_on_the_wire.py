"""Every format in one node, from the sensor's bytes to the prediction; packs, partly escalated."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest

from shared.messages import Escalation, unpack
from tests.integration.hierarchy import (
    Hierarchy,
    Json,
    Node,
    Observer,
    samples_topic,
)
from tests.integration.models import TIER1_TURN, TIER2_TURN, label, sure, unsure

pytestmark = pytest.mark.usefixtures("require_mosquitto")

ROWS = [sure(0), unsure(1), sure(2), unsure(0), sure(1)]
HARD = [1, 3]


def as_npy(rows: list[Any]) -> bytes:
    """The file that numpy writes."""
    file = io.BytesIO()
    np.save(file, np.array(rows, np.float64))
    return file.getvalue()


def as_raw(rows: list[Any]) -> bytes:
    """Little-endian float32 after float32."""
    return np.array(rows, "<f4").tobytes()


SENML = [
    {"bn": "press-3/", "bt": 1_700_000_000, "n": "a", "v": 0},
    {"n": "b", "v": 9},
    {"n": "c", "v": 0},
    {"n": "d", "v": 0},
    {"n": "serial", "vs": "senml-1"},
]
FORMATS: dict[str, tuple[Json, bytes, str | None]] = {
    "nested-json": (
        {"kind": "json", "id": "meta.serial", "features": ["x.a", "x.b", "x.c", "x.d"]},
        json.dumps({"meta": {"serial": "json-1"}, "x": {"a": 0, "b": 9, "c": 0, "d": 0}}).encode(),
        "json-1",
    ),
    "cbor": ({"kind": "cbor"}, cbor2.dumps({"id": "cbor-1", "features": sure(1)}), "cbor-1"),
    "msgpack": (
        {"kind": "msgpack", "dtype": "float32"},
        msgspec.msgpack.encode({"id": "msgpack-1", "features": as_raw(sure(1))}),
        "msgpack-1",
    ),
    "npy": ({"kind": "npy"}, as_npy(sure(1)), None),
    "raw": ({"kind": "raw", "dtype": "float32"}, as_raw(sure(1)), None),
    "senml": (
        {"kind": "senml", "names": ["a", "b", "c", "d"], "id": "serial"},
        json.dumps(SENML).encode(),
        "senml-1",
    ),
}
"""By pipeline: its format, a message whose second number is the largest, and the id in it."""
PACKS: dict[str, tuple[Json, bytes, Json]] = {
    "raw-packs": ({"kind": "raw", "dtype": "float32"}, as_raw(ROWS), {}),
    "npy-packs": ({"kind": "npy"}, as_npy(ROWS), {}),
    "json-packs": (
        {"kind": "json"},
        json.dumps({"id": "p", "ids": list("abcde"), "features": ROWS}).encode(),
        {"id": "p", "ids": list("abcde")},
    ),
    "cbor-packs": (
        {"kind": "cbor"},
        cbor2.dumps({"id": "q", "timestamp": "noon", "features": ROWS}),
        {"id": "q", "timestamp": "noon"},
    ),
}
"""By pipeline: its format, a pack of ``ROWS``, and fields of the answer."""


@dataclass(frozen=True)
class Site:
    """One tier-1 node with a pipeline for each format, and a tier-2 for the packs."""

    observer: Observer
    tier2: Node

    def send(self, pipeline: str, payload: bytes) -> Json:
        """Sends a message; returns the one answer to it."""
        since = self.observer.mark()
        self.observer.publish(samples_topic("cam-1", pipeline), payload)
        topic = f"/{pipeline}/predictions/cam-1"
        seen = self.observer.until(lambda: self.observer.seen(topic, since), f"word on {topic}")
        self.observer.ask(sure(0), pipeline="plain")  # a second one would have come before this
        assert len(self.observer.seen(topic, since)) == 1
        assert not self.observer.seen("/errors/", since)
        return seen[0].json

    def error(self, pipeline: str, payload: bytes) -> Json:
        """Sends a message that is wrong; returns what its sender is told."""
        since = self.observer.mark()
        self.observer.publish(samples_topic("cam-1", pipeline), payload)
        topic = f"/{pipeline}/errors/cam-1"
        seen = self.observer.until(lambda: self.observer.seen(topic, since), f"word on {topic}")
        return seen[0].json


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site."""
    with Hierarchy(tmp_path_factory.mktemp("formats"), "mosquitto") as hierarchy:
        tier2 = {name: hierarchy.tier2_pipeline() for name in PACKS}
        node = hierarchy.start("tier2", "full-1", {"pipelines": tier2})
        pipelines = {"plain": hierarchy.tier1_pipeline()}
        for name, (config, _, _) in FORMATS.items():
            pipelines[name] = hierarchy.tier1_pipeline(format=config)
        for name, (config, _, _) in PACKS.items():
            packed = {**config, "pack": {"max_samples": len(ROWS)}}
            pipelines[name] = hierarchy.tier1_pipeline(
                format=packed,
                probabilities=True,
                escalation={"deadline_ms": 2000, "audit_share": 0},
            )
        hierarchy.start("tier1", "edge-1", {"pipelines": pipelines})
        with hierarchy.observer() as observer:
            yield Site(observer, node)


@pytest.mark.parametrize("pipeline", FORMATS)
def test_sample_in_each_format_is_answered(site: Site, pipeline: str) -> None:
    _, payload, identity = FORMATS[pipeline]
    answer = site.send(pipeline, payload)
    assert answer["prediction"] == label(1, TIER1_TURN)
    assert (answer["decided_by"], answer["device_id"]) == ("tier1", "cam-1")
    assert answer["id"]
    assert identity in (None, answer["id"])


@pytest.mark.parametrize("pipeline", PACKS)
def test_pack_is_answered_by_one_message_though_some_of_its_samples_are_escalated(
    site: Site, pipeline: str
) -> None:
    _, payload, fields = PACKS[pipeline]
    since = site.observer.mark()
    answer = site.send(pipeline, payload)
    assert_answers_the_rows(answer, "tier2", "low_confidence", TIER2_TURN)
    assert answer | fields == answer
    assert ("ids" in answer) == ("ids" in fields)
    assert answer["id"]
    assert {len(scores) for scores in answer["probabilities"]} == {3}
    (question,) = site.observer.seen(f"/{pipeline}/escalations/", since)
    asked = unpack(question.payload, Escalation)
    named = [answer["ids"][row] if "ids" in answer else f"{answer['id']}/{row}" for row in HARD]
    assert [sample.id for sample in asked.samples] == named
    assert asked.inputs.array().tolist() == np.array(ROWS, np.float32)[HARD].tolist()


def test_pack_is_answered_by_the_deadline_and_its_samples_corrected_later(site: Site) -> None:
    since = site.observer.mark()
    site.tier2.pause()
    try:
        answer = site.send("raw-packs", as_raw(ROWS))
    finally:
        site.tier2.resume()
    assert_answers_the_rows(answer, "fallback", "deadline", TIER1_TURN)

    def corrections() -> list[Json]:
        answers = site.observer.predictions(since)
        return [each for each in answers if "supersedes" in each]

    site.observer.until(lambda: len(corrections()) == len(HARD), "a correction of each")
    assert {each["supersedes"]: each["prediction"] for each in corrections()} == {
        f"{answer['id']}/{row}": label(ROWS[row].index(max(ROWS[row])), TIER2_TURN) for row in HARD
    }


def assert_answers_the_rows(answer: Json, by: str, reason: str, turn: int) -> None:
    """Tier-1 decided on what is sure, somebody on what is hard."""
    hard = [row in HARD for row in range(len(ROWS))]
    directions = [row.index(max(row)) for row in ROWS]
    assert answer["predictions"] == [
        label(direction, turn if is_hard else TIER1_TURN)
        for direction, is_hard in zip(directions, hard, strict=True)
    ]
    assert answer["decided_by"] == [by if is_hard else "tier1" for is_hard in hard]
    assert answer["reasons"] == [reason if is_hard else "confident" for is_hard in hard]
    assert len(answer["confidences"]) == len(answer["model_versions"]) == len(ROWS)


WRONG_PACKS = {
    "half-a-sample": as_raw(ROWS)[:-2],
    "too-many": as_raw([*ROWS, sure(0)]),
    "none": b"",
    "not-finite": as_raw([sure(0), [float("nan"), 0, 0, 0]]),
}


@pytest.mark.parametrize("payload", WRONG_PACKS.values(), ids=WRONG_PACKS)
def test_wrong_pack_is_refused_as_a_whole(site: Site, payload: bytes) -> None:
    since = site.observer.mark()
    error = site.error("raw-packs", payload)
    assert error["error"]
    site.observer.ask(sure(0), pipeline="plain")  # an answer would have come before this
    assert not site.observer.seen("/raw-packs/predictions/", since)
