"""What a sensor sends and what comes back, with a tier-1 node alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.hierarchy import (
    BrokerKind,
    Hierarchy,
    Json,
    Observer,
    eventually,
    samples_topic,
)
from tests.integration.models import LABELS, SHAPE, TIER1_TURN, label, sure

PREDICTION_FIELDS = {
    "id", "device_id", "timestamp", "prediction", "confidence", "decided_by", "reason", "model",
    "model_version", "latency_ms",
}  # fmt: skip
ERROR_FIELDS = {"id", "device_id", "timestamp", "error", "expected"}


@dataclass(frozen=True)
class Site:
    """One tier-1 node: ``meter`` answers two cameras, ``gauge`` everyone, with probabilities."""

    hierarchy: Hierarchy
    observer: Observer

    def drops(self) -> int:
        """All drops that the node has counted."""
        return sum(self.hierarchy.drops("edge-1", self.observer).values())

    def error(self, sensor: str, since: int) -> Json:
        """Waits for the answer to a bad sample."""
        topic = f"errors/{sensor}"
        seen = self.observer.until(lambda: self.observer.seen(topic, since), f"word on {topic}")
        return seen[0].json

    def assert_answers(self) -> None:
        """The node answers a good sample, rightly."""
        answer = self.observer.ask(sure(2))
        assert answer["prediction"] == label(2, TIER1_TURN)


@pytest.fixture(scope="module")
def site(kind: BrokerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running node."""
    with Hierarchy(tmp_path_factory.mktemp("samples"), kind) as hierarchy:
        pipelines = {
            "meter": hierarchy.tier1_pipeline(sensors=["cam-1", "cam-2"]),
            "gauge": hierarchy.tier1_pipeline(probabilities=True),
        }
        hierarchy.start("tier1", "edge-1", {"pipelines": pipelines})
        with hierarchy.observer() as observer:
            yield Site(hierarchy, observer)


# Good samples


def test_sample_brings_exactly_one_prediction_with_all_fields(site: Site) -> None:
    answer = site.observer.ask(sure(1))
    site.assert_answers()  # a second prediction would have come before this one
    assert site.observer.answers(answer["id"]) == [answer]
    assert answer.keys() >= PREDICTION_FIELDS
    assert answer["device_id"] == "cam-1"
    assert answer["prediction"] == label(1, TIER1_TURN)
    assert answer["confidence"] == pytest.approx(0.9998, abs=1e-3)
    assert (answer["decided_by"], answer["reason"]) == ("tier1", "confident")
    assert answer["model_version"] == "local-1"
    assert answer["latency_ms"] >= 0


def test_prediction_appears_on_the_topic_of_its_sensor(site: Site) -> None:
    identity = site.observer.send(sure(0), sensor="cam-2")
    assert site.observer.prediction(identity)["device_id"] == "cam-2"
    topics = [seen.topic for seen in site.observer.seen("/predictions/") if identity in str(seen)]
    assert topics == ["escalon/site-a/meter/predictions/cam-2"]


def test_probabilities_of_every_label_come_where_they_are_asked_for(site: Site) -> None:
    assert site.observer.ask(sure(0)).get("probabilities") is None
    shown = site.observer.ask(sure(0), pipeline="gauge")["probabilities"]
    assert set(shown) == set(LABELS)
    assert sum(shown.values()) == pytest.approx(1, abs=1e-4)


def test_bare_array_is_answered_with_an_id_that_was_made(site: Site) -> None:
    since = site.observer.mark()
    for _ in range(2):
        site.observer.publish(samples_topic("cam-1"), json.dumps(sure(1)).encode())
    answers = site.observer.until(
        lambda: found if len(found := site.observer.predictions(since)) == 2 else None,
        "two predictions",
    )
    assert [answer["prediction"] for answer in answers] == [label(1, TIER1_TURN)] * 2
    assert all(isinstance(answer["id"], str) and answer["id"] for answer in answers)
    assert answers[0]["id"] != answers[1]["id"]


def test_integer_id_comes_back_as_its_digits(site: Site) -> None:
    payload = json.dumps({"id": 20_240_917, "features": sure(0)}).encode()
    site.observer.publish(samples_topic("cam-1"), payload)
    assert site.observer.prediction("20240917")["prediction"] == label(0, TIER1_TURN)


@pytest.mark.parametrize(
    "timestamp",
    [1_700_000_000, 1_700_000_000.125, "2026-11-23T12:00:00+01:00"],
    ids=["integer", "fraction", "text"],
)
def test_timestamp_is_handed_on_as_the_sensor_wrote_it(site: Site, timestamp: float | str) -> None:
    identity = site.observer.new_id()
    sample = {"id": identity, "timestamp": timestamp, "features": sure(0)}
    site.observer.publish(samples_topic("cam-1"), json.dumps(sample).encode())
    assert site.observer.prediction(identity)["timestamp"] == timestamp


def test_unknown_field_in_a_sample_is_no_error(site: Site) -> None:
    identity = site.observer.new_id()
    sample = {"id": identity, "features": sure(0), "battery": {"volts": 3.7}}
    site.observer.publish(samples_topic("cam-1"), json.dumps(sample).encode())
    assert site.observer.prediction(identity)["prediction"] == label(0, TIER1_TURN)


def test_sensor_that_is_not_in_the_list_gets_no_answer(site: Site) -> None:
    since = site.observer.mark()
    site.observer.send(sure(0), sensor="cam-9")
    site.observer.publish(samples_topic("cam-9"), b"not json")
    site.assert_answers()  # what came before this would have been answered before it
    heard = [seen.topic for seen in site.observer.seen("cam-9", since)]
    assert heard == [samples_topic("cam-9")] * 2


def test_without_a_list_every_sensor_is_answered(site: Site) -> None:
    answer = site.observer.ask(sure(0), sensor="never-heard-of.7", pipeline="gauge")
    assert answer["device_id"] == "never-heard-of.7"


# Bad samples


def bad(text: str) -> bytes:
    return text.encode()


DEEP = "[" * 50_000
NUMBERS = "9, 0, 0, 0"
BAD_SAMPLES = {
    "not-json": (bad('{"id": "b1", "features": [9, 0'), "b1"),
    "text": (bad("hello"), None),
    "binary": (bytes(range(256)), None),
    "not-utf8": (b'{"id": "b18", "timestamp": "\xff", "features": [9, 0, 0, 0]}', "b18"),
    "lone-surrogate": (bad(f'{{"id": "\\ud800", "features": [{NUMBERS}]}}'), None),
    "empty": (b"", None),
    "null": (bad("null"), None),
    "too-short": (bad('{"id": "b2", "features": [9, 0, 0]}'), "b2"),
    "too-long": (bad('{"id": "b3", "features": [9, 0, 0, 0, 0]}'), "b3"),
    "no-numbers": (bad('{"id": "b4", "features": []}'), "b4"),
    "nan": (bad('{"id": "b5", "features": [NaN, 0, 0, 0]}'), "b5"),
    "1e400": (bad('{"id": "b6", "features": [1e400, 0, 0, 0]}'), "b6"),
    "beyond-float32": (bad('{"id": "b7", "features": [1e39, 0, 0, 0]}'), "b7"),
    "5000-digits": (bad(f'{{"id": "b8", "features": [{"7" * 5000}, 0, 0, 0]}}'), "b8"),
    "text-feature": (bad('{"id": "b9", "features": ["9", 0, 0, 0]}'), "b9"),
    "null-feature": (bad('{"id": "b10", "features": [null, 0, 0, 0]}'), "b10"),
    "boolean-feature": (bad('{"id": "b11", "features": [true, 0, 0, 0]}'), "b11"),
    "nested-features": (bad('{"id": "b12", "features": [[9, 0, 0, 0]]}'), "b12"),
    "no-features": (bad('{"id": "b13"}'), "b13"),
    "object-as-timestamp": (bad(f'{{"id": "b14", "timestamp": {{}}, "features": [{NUMBERS}]}}'),
                            "b14"),
    "boolean-id": (bad(f'{{"id": true, "features": [{NUMBERS}]}}'), None),
    "empty-id": (bad(f'{{"id": "", "features": [{NUMBERS}]}}'), None),
    "endless-id": (bad(f'{{"id": "{"x" * 200}", "features": [{NUMBERS}]}}'), "x" * 128),
    "deep-array": (bad(DEEP), None),
    "deep-field": (bad(f'{{"id": "b15", "more": {DEEP}'), "b15"),
    "deep-objects": (bad('{"a":' * 20_000), None),
    "bare-array-too-short": (bad("[9, 0, 0]"), None),
    "trailing-bytes": (bad(f'{{"id": "b16", "features": [{NUMBERS}]}} and more'), "b16"),
    "too-large": (bad(f'{{"id": "b17", "features": [{NUMBERS}{" " * 300_000}]}}'), None),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "identity"), BAD_SAMPLES.values(), ids=BAD_SAMPLES)
def test_bad_sample_is_answered_with_what_was_wrong_counted_and_forgotten(
    site: Site, payload: bytes, identity: str | None
) -> None:
    since, dropped = site.observer.mark(), site.drops()
    site.observer.publish(samples_topic("cam-1"), payload)
    error = site.error("cam-1", since)
    assert error.keys() >= ERROR_FIELDS
    assert error["error"]
    assert error["id"] == identity
    assert error["device_id"] == "cam-1"
    assert str(SHAPE[0]) in error["expected"]
    assert site.drops() == dropped + 1
    site.assert_answers()
    assert len(site.observer.seen("/errors/", since)) == 1


def test_sample_of_10_mb_is_refused_and_disturbs_nobody(site: Site) -> None:
    since = site.observer.mark()
    payload = b'{"id": "huge", "features": [9, 0, 0, 0' + b" " * 10_000_000 + b"]}"
    with site.hierarchy.observer() as sensor:
        # Mosquitto cuts off who sends more than its max_packet_size; amqtt hands it on.
        if site.hierarchy.kind == "mosquitto":
            sensor.publish_into_the_void(samples_topic("cam-1"), payload)
        else:
            sensor.publish(samples_topic("cam-1"), payload)
            assert "10000" in site.error("cam-1", since)["error"]
    site.assert_answers()
    assert not site.observer.answers("huge")


def test_topic_with_a_name_that_is_none_is_dropped_and_counted(site: Site) -> None:
    since, before = site.observer.mark(), site.hierarchy.drops("edge-1", site.observer)
    for sensor in ("cam 1", "$cam", "-", "x" * 65):
        site.observer.publish(samples_topic(sensor, "gauge"), json.dumps(sure(0)).encode())
    site.assert_answers()
    after = site.hierarchy.drops("edge-1", site.observer)
    assert (after - before) == {"bad_topic": 4}
    assert len(site.observer.predictions(since)) == 1


def test_flood_of_bad_samples_between_good_ones_loses_none_of_these(site: Site) -> None:
    identities = [site.observer.new_id() for _ in range(100)]
    good = [json.dumps({"id": one, "features": sure(0)}).encode() for one in identities]
    spoilt = [payload for payload, _ in BAD_SAMPLES.values() if len(payload) < 1000]
    mixed = [
        (samples_topic("cam-2"), payload)
        for index, one in enumerate(good)
        for payload in (one, spoilt[index % len(spoilt)])
    ]
    since = site.observer.mark()
    site.observer.publish_many(mixed)
    site.observer.all_predicted(identities)
    answers = [answer["id"] for answer in site.observer.predictions(since)]
    assert answers == identities
    eventually(
        lambda: len(site.observer.seen("/errors/cam-2", since)) == len(good),
        "an error for each bad sample",
    )
