"""What ``delivery:`` promises, under kill -9 of each party in full traffic."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.hierarchy import (
    PREFIX,
    SITE,
    BrokerKind,
    Hierarchy,
    Json,
    Node,
    eventually,
    metric,
    samples_topic,
)
from tests.integration.ledger import Audience, Ledger, Sample, Sensor
from tests.integration.models import TIER1_TURN, TIER2_TURN, label, sure, unsure
from tests.integration.wiretap import PUBACK, PUBLISH, Passed, Wiretap

pytestmark = pytest.mark.usefixtures("require_mosquitto")

KIND: BrokerKind = "mosquitto"
"""The broker that keeps sessions, and keeps them on its disk."""
BURST = 3000
HARD_EVERY = 4


def traffic(ledger: Ledger, size: int) -> Iterator[Sample]:
    """Samples in the order of sending: every fourth is hard, every second has no id."""
    for index in range(size):
        yield ledger.sample(
            unsure(index % 3) if index % HARD_EVERY == 0 else sure(index % 3),
            with_id=index // HARD_EVERY % 2 == 0,
        )


def is_hard(sample: Sample) -> bool:
    """Whether tier-1 is not sure of it."""
    return max(sample.features) < 2


def direction(sample: Sample) -> int:
    """Which of its numbers is the largest."""
    return sample.features.index(max(sample.features))


def assert_each_answer_is_its_deciders(ledger: Ledger) -> None:
    """Every answer is the one that the tier which decided gives to that sample."""
    for mark, answers in ledger.answers.items():
        sample = ledger.sent[mark]
        for answer in answers:
            turn = TIER2_TURN if answer["decided_by"] == "tier2" else TIER1_TURN
            assert answer["prediction"] == label(direction(sample), turn), answer
            assert (answer["decided_by"] == "tier1") == (not is_hard(sample)), answer


# kill -9 of a tier


@dataclass(frozen=True)
class Site:
    """Tier-1 and tier-2 on one broker."""

    hierarchy: Hierarchy
    tier1: Node
    tier2: Node


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site."""
    with Hierarchy(tmp_path_factory.mktemp("delivery"), KIND) as hierarchy:
        escalation = {
            "deadline_ms": 500,
            "audit_share": 0,
            "breaker": {"failures": 3, "retry_s": 0.1, "max_retry_s": 0.2},
        }
        tier2 = hierarchy.start(
            "tier2", "full-1", {"pipelines": {"meter": hierarchy.tier2_pipeline()}}
        )
        pipeline = hierarchy.tier1_pipeline(escalation=escalation)
        tier1 = hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
        yield Site(hierarchy, tier1, tier2)


@pytest.mark.parametrize("victim", ["tier1", "tier2"])
def test_every_acknowledged_sample_is_answered_though_a_tier_is_killed_in_full_traffic(
    site: Site, victim: str
) -> None:
    ledger, port = Ledger(), site.hierarchy.broker.port
    node: Node = getattr(site, victim)
    with (
        Audience(ledger, port, f"{PREFIX}/{SITE}"),
        Sensor(ledger, port, samples_topic("cam-1")) as sensor,
    ):
        for more in (50, 300, 600):
            answered, end = len(ledger.answers), len(ledger.sent) + BURST
            with sensor.streaming(traffic(ledger, BURST), most_open=800):
                ledger.until_count(answered + more)
                node.kill()
                assert len(ledger.sent) < end
                site.hierarchy.restart(node)
        ledger.until_answered(ledger.sent)
        # Whatever is answered twice was answered before this.
        ledger.until_answered(sensor.send([ledger.sample(sure(0), with_id=True)]))
        ledger.until_acknowledged(ledger.sent)
    ledger.assert_one_id_each()
    assert_each_answer_is_its_deciders(ledger)
    assert not ledger.errors
    assert all(len(corrections) == 1 for corrections in ledger.corrections.values())
    deciders = {answer["decided_by"] for answers in ledger.answers.values() for answer in answers}
    assert {"tier1", "tier2"} <= deciders
    if victim == "tier2":
        assert not ledger.repeated
        assert "fallback" in deciders


# kill -9 of the broker

SAVES_EACH_CHANGE = "autosave_on_changes true\nautosave_interval 1\n"
"""Mosquitto 2.0 saves all that it keeps whenever something changed; see docs/delivery.md."""
FORGETS = "persistence false\n"


@dataclass(frozen=True)
class Tapped:
    """A tier-1 node that reaches its broker through a wiretap."""

    hierarchy: Hierarchy
    wiretap: Wiretap

    def delivered(self) -> set[str]:
        """Marks of the samples that the node got, whole."""
        return {
            json.loads(passed.payload)["timestamp"]
            for passed in self.wiretap.passed
            if passed.to_node and "/samples/" in passed.topic
        }

    def on_disk(self, ledger: Ledger) -> set[str]:
        """Marks of the samples that are in the broker's file."""
        saved = (self.hierarchy.broker.folder / "mosquitto.db").read_bytes()
        return {mark for mark, sample in ledger.sent.items() if sample.payload in saved}

    def until_answered(self, marks: set[str]) -> None:
        """Waits until the node has answered these samples, and the broker has the answers."""
        eventually(
            lambda: marks <= account(self.wiretap.passed).answers.keys(),
            f"{len(marks)} predictions, acknowledged by the broker",
        )


@contextmanager
def tapped_node(folder: Path, settings: str, deadline_ms: float) -> Iterator[Tapped]:
    """Runs a node whose questions nobody answers, on a broker with these settings."""
    with (
        Hierarchy(folder, KIND, settings=settings) as hierarchy,
        Wiretap(hierarchy.broker.port) as wiretap,
    ):
        escalation = {"deadline_ms": deadline_ms, "audit_share": 0}
        config = {
            "broker": {"url": wiretap.url},
            "pipelines": {"meter": hierarchy.tier1_pipeline(escalation=escalation)},
        }
        node = hierarchy.start("tier1", "edge-1", config)
        yield Tapped(hierarchy, wiretap)
        assert node.stop() == 0


class Account(NamedTuple):
    """What a wiretap says of a node's answers.

    Attributes:
        answers: predictions by mark, which the broker acknowledged to the node.
        early: marks of samples that the node acknowledged before that.
    """

    answers: dict[str, list[Json]]
    early: list[str]


def account(passed: list[Passed]) -> Account:
    """Follows every sample on its way through a node."""
    inbox: dict[tuple[int, int], str] = {}
    outbox: dict[tuple[int, int], Json] = {}
    found = Account(defaultdict(list), [])
    for each in passed:
        place = (each.connection, each.mid)
        if each.kind == PUBLISH and "/samples/" in each.topic:
            inbox[place] = json.loads(each.payload)["timestamp"]
        elif each.kind == PUBLISH and "/predictions/" in each.topic:
            outbox[place] = json.loads(each.payload)
        elif each.kind == PUBACK and each.to_node and place in outbox:
            answer = outbox.pop(place)
            found.answers[answer["timestamp"]].append(answer)
        elif each.kind == PUBACK and not each.to_node and inbox[place] not in found.answers:
            found.early.append(inbox[place])
    return found


def assert_same_id_each_time(answers: dict[str, list[Json]], marks: set[str]) -> None:
    """Whatever was answered twice has one id."""
    for mark in marks & answers.keys():
        assert len({answer["id"] for answer in answers[mark]}) == 1, answers[mark]


@pytest.mark.parametrize("part", [0.1, 0.4, 0.7])
def test_what_a_killed_broker_had_delivered_or_saved_is_answered(
    tmp_path: Path, part: float
) -> None:
    ledger, size = Ledger(), 1500
    with tapped_node(tmp_path, SAVES_EACH_CHANGE, deadline_ms=200) as tapped:
        broker = tapped.hierarchy.broker
        with Sensor(ledger, broker.port, samples_topic("cam-1")) as sensor:
            marks = sensor.send(traffic(ledger, size))
            ledger.until(lambda: len(ledger.acknowledged) > part * size, "acknowledgements")
            broker.kill()
            sensor.until_disconnected()
            eventually(lambda: tapped.wiretap.has_read_all, "the last that the broker had sent")
            acknowledged = set(ledger.acknowledged)
            assert len(acknowledged) < size
            # Acknowledged, not sent to the node yet and not saved: of this nobody knows any more.
            lost = acknowledged - tapped.delivered() - tapped.on_disk(ledger)
            tapped.hierarchy.start_brokers()
            ledger.until_acknowledged(marks)
        tapped.until_answered(ledger.acknowledged - lost)
    assert len(lost) < size / 100, "the broker does not save what it acknowledges"
    answers, early = account(tapped.wiretap.passed)
    assert not early
    # What was not acknowledged to the sensor it sent again, as another message.
    assert_same_id_each_time(answers, acknowledged)


def test_what_a_node_has_in_hand_is_answered_once_though_the_broker_forgot_it(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    with tapped_node(tmp_path, FORGETS, deadline_ms=2000) as tapped:
        broker = tapped.hierarchy.broker
        url = tapped.hierarchy.nodes["edge-1"].metrics_url
        with Sensor(ledger, broker.port, samples_topic("cam-1")) as sensor:
            hard = [ledger.sample(unsure(0), with_id=index % 2 == 0) for index in range(50)]
            marks = set(sensor.send(hard))
            ledger.until_acknowledged(marks)
            eventually(lambda: marks <= tapped.delivered(), "the samples on the node")
            broker.kill()
            assert not account(tapped.wiretap.passed).answers
            eventually(
                lambda: metric(url, "edge_escalations_total", outcome="missed") == len(marks),
                "answers that cannot be published yet",
            )
            tapped.hierarchy.start_brokers()
            tapped.until_answered(marks)
    answers, early = account(tapped.wiretap.passed)
    assert not early
    assert {mark: len(several) for mark, several in answers.items()} == dict.fromkeys(marks, 1)


# A connection that ends between an answer and the acknowledgement of its sample


def is_acknowledgement_of_a_sample(passed: Passed) -> bool:
    """Samples are all that a tier-1 node gets at QoS 1."""
    return passed.kind == PUBACK and not passed.to_node


def test_sample_whose_acknowledgement_was_lost_is_acknowledged_and_not_answered_again(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    with tapped_node(tmp_path, SAVES_EACH_CHANGE, deadline_ms=200) as tapped:
        wiretap = tapped.wiretap
        with Sensor(ledger, tapped.hierarchy.broker.port, samples_topic("cam-1")) as sensor:
            wiretap.cuts = is_acknowledgement_of_a_sample
            (mark,) = sensor.send([ledger.sample(sure(0), with_id=False)])
            tapped.until_answered({mark})
            wiretap.cuts = lambda passed: False
            eventually(
                lambda: any(map(is_acknowledgement_of_a_sample, wiretap.passed)),
                "the acknowledgement again",
            )
        assert len(account(wiretap.passed).answers[mark]) == 1


def test_next_life_of_a_node_gives_a_sample_the_id_that_the_last_one_made(tmp_path: Path) -> None:
    ledger = Ledger()
    with tapped_node(tmp_path, SAVES_EACH_CHANGE, deadline_ms=200) as tapped:
        node = tapped.hierarchy.nodes["edge-1"]
        with Sensor(ledger, tapped.hierarchy.broker.port, samples_topic("cam-1")) as sensor:
            tapped.wiretap.cuts = is_acknowledgement_of_a_sample
            (mark,) = sensor.send([ledger.sample(sure(0), with_id=False)])
            tapped.until_answered({mark})
            node.kill()
            tapped.wiretap.cuts = lambda passed: False
            tapped.hierarchy.restart(node)
            eventually(
                lambda: len(account(tapped.wiretap.passed).answers[mark]) == 2, "a second answer"
            )
        assert_same_id_each_time(account(tapped.wiretap.passed).answers, {mark})


# At most once


def test_at_most_once_loses_what_comes_meanwhile_and_repeats_nothing(tmp_path: Path) -> None:
    ledger = Ledger()
    with Hierarchy(tmp_path, KIND) as hierarchy:
        pipeline = hierarchy.tier1_pipeline(delivery="at_most_once")
        node = hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
        with (
            Audience(ledger, hierarchy.broker.port, f"{PREFIX}/{SITE}"),
            Sensor(ledger, hierarchy.broker.port, samples_topic("cam-1")) as sensor,
        ):
            with sensor.streaming(traffic(ledger, BURST), most_open=BURST):
                ledger.until_count(100)
                node.kill()
                meanwhile = [ledger.sample(sure(0), with_id=False) for _ in range(20)]
                ledger.until_acknowledged(sensor.send(meanwhile))
                hierarchy.restart(node)
            ledger.until_acknowledged(ledger.sent)
            last = sensor.send([ledger.sample(sure(0), with_id=True)])
            ledger.until_answered(last)
    ledger.assert_one_id_each()
    assert not ledger.repeated
    assert not {sample.mark for sample in meanwhile} & ledger.answers.keys()
