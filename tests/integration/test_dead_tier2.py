"""A tier-2 that does not answer: deadline, breaker, backlog, and the answers that come too late."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from shared.messages import SCHEMA_VERSION, Escalation, Reply, Telemetry, Tensor, pack, unpack
from tests.integration.hierarchy import PREFIX, SITE, Hierarchy, Json, Node, Observer, eventually
from tests.integration.models import TIER1_TURN, TIER2_TURN, label, unsure

pytestmark = pytest.mark.usefixtures("require_mosquitto")


@dataclass(frozen=True)
class Cascade:
    """Tier-1 and tier-2 with a breaker that soon tries again, and an onlooker."""

    hierarchy: Hierarchy
    observer: Observer
    tier1: Node
    tier2: Node

    def ask_until(self, reason: str) -> list[Json]:
        """Asks hard questions until one is answered for this reason; returns all answers."""
        answers: list[Json] = []

        def is_last() -> bool:
            answers.append(self.observer.ask(unsure(0)))
            return bool(answers[-1]["reason"] == reason)

        eventually(is_last, f"an answer with the reason {reason}")
        return answers

    def escalations(self, since: int = 0) -> list[Escalation]:
        """Messages of questions that were published."""
        seen = self.observer.seen("/escalations/", since)
        return [unpack(message.payload, Escalation) for message in seen]

    def backlog(self) -> list[list[str]]:
        """Ids of the samples of each entry of the backlog on tier-1's disk, oldest first."""
        path = self.hierarchy.folder / "edge-1" / "backlog" / "meter.sqlite"
        query = "SELECT payload FROM entries ORDER BY number"
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                payloads = [bytes(row[0]) for row in database.execute(query)]
        except sqlite3.OperationalError:  # nothing has begun it yet
            return []
        return [[each.id for each in unpack(one, Escalation).samples] for one in payloads]

    def until_on_disk(self, identities: set[str]) -> None:
        """Waits until the backlog on the disk holds these samples."""
        eventually(
            lambda: identities <= set(chain.from_iterable(self.backlog())),
            f"{len(identities)} samples in the backlog",
        )

    def until_reported(self, identities: set[str]) -> None:
        """Waits until tier-2 has sent records of these samples up, and tier-1 keeps none more."""

        def is_reported() -> bool:
            seen = self.observer.seen("/telemetry/full-1")
            records = chain.from_iterable(unpack(one.payload, Telemetry).records for one in seen)
            return identities <= {record.sample.id for record in records}

        self.observer.until(is_reported, f"{len(identities)} records")
        eventually(lambda: not self.backlog(), "an empty backlog")


@pytest.fixture
def cascade(tmp_path: Path) -> Iterator[Cascade]:
    """A running cascade; at its end both nodes have lived until they were told to end."""
    with Hierarchy(tmp_path, "mosquitto") as hierarchy:
        pipeline = hierarchy.tier2_pipeline()
        tier2 = hierarchy.start(
            "tier2", "full-1",
            {"pipelines": {"meter": pipeline}, "telemetry": {"max_delay_s": 0.1}},
        )  # fmt: skip
        escalation = {
            "deadline_ms": 200,
            "audit_share": 0,
            "breaker": {"failures": 2, "retry_s": 0.3, "max_retry_s": 0.6},
            "backlog": {"retry_s": 0.2, "max_retry_s": 0.4},
        }
        pipeline = hierarchy.tier1_pipeline(escalation=escalation)
        tier1 = hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
        with hierarchy.observer() as observer:
            yield Cascade(hierarchy, observer, tier1, tier2)
        assert (tier1.stop(), tier2.stop()) == (0, 0)


@pytest.mark.parametrize("way", ["stopped", "killed"])
def test_dead_tier2_costs_nothing_and_gets_the_hard_samples_when_it_is_back(
    cascade: Cascade, way: str
) -> None:
    observer, tier2 = cascade.observer, cascade.tier2
    eventually(lambda: observer.ask(unsure(0))["decided_by"] == "tier2", "an answer of tier-2")
    tier2.pause() if way == "stopped" else tier2.kill()
    first = cascade.ask_until("breaker_open")
    assert [answer["reason"] for answer in first[:2]] == ["deadline"] * 2
    since = observer.mark()
    identities = [observer.send(unsure(0)) for _ in range(100)]
    observer.all_predicted(identities)
    answers = [answer for answer in observer.predictions(since) if answer["id"] in identities]
    assert {(each["decided_by"], each["prediction"]) for each in answers} == {
        ("fallback", label(0, TIER1_TURN))
    }
    reasons = Counter(answer["reason"] for answer in answers)
    assert reasons.keys() <= {"breaker_open", "deadline"}
    # What is not asked sets no message off; a probe now and then holds one sample.
    asked = [len(each.samples) for each in cascade.escalations(since) if not each.backlog]
    assert asked == [1] * reasons["deadline"]
    unasked = {answer["id"] for answer in first + answers if answer["reason"] == "breaker_open"}
    cascade.until_on_disk(unasked)
    kept = cascade.backlog()

    def was_sent_twice() -> bool:
        late = [len(each.samples) for each in cascade.escalations(since) if each.backlog]
        return len(late) > 2 * len(kept)

    observer.until(was_sent_twice, "the backlog, sent again and again")
    assert cascade.backlog()[: len(kept)] == kept  # nobody has confirmed it
    tier2.resume() if way == "stopped" else cascade.hierarchy.restart(tier2)
    eventually(lambda: observer.ask(unsure(0))["decided_by"] == "tier2", "a closed breaker")
    cascade.until_reported(unasked)
    assert all(len(finals(observer.answers(identity))) == 1 for identity in identities)


def finals(answers: list[Json]) -> list[Json]:
    """Those that are no corrections."""
    return [answer for answer in answers if answer.get("supersedes") is None]


def test_backlog_on_the_disk_of_a_killed_tier1_goes_up_later(cascade: Cascade) -> None:
    cascade.tier2.kill()
    answers = cascade.ask_until("breaker_open")
    unasked = {answer["id"] for answer in answers if answer["reason"] == "breaker_open"}
    unasked |= {cascade.ask_until("breaker_open")[-1]["id"] for _ in range(20)}
    cascade.until_on_disk(unasked)
    cascade.tier1.kill()
    cascade.hierarchy.restart(cascade.tier1)
    assert unasked <= set(chain.from_iterable(cascade.backlog()))
    cascade.hierarchy.restart(cascade.tier2)
    cascade.until_reported(unasked)


def test_late_answer_is_one_correction_however_often_it_comes(tmp_path: Path) -> None:
    with Hierarchy(tmp_path, "mosquitto") as hierarchy:
        pipeline = hierarchy.tier1_pipeline(escalation={"deadline_ms": 50, "audit_share": 0})
        hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
        with hierarchy.observer() as observer:
            final = observer.ask(unsure(0))
            assert (final["decided_by"], final["reason"]) == ("fallback", "deadline")
            (question,) = observer.seen("/escalations/")
            asked = unpack(question.payload, Escalation)
            late = late_reply(asked, TIER2_TURN)
            for _ in range(3):
                observer.publish(f"{PREFIX}/{SITE}/meter/replies/edge-1", late)
            observer.ask(unsure(1))  # a second correction would have come before this
            answers = observer.answers(final["id"])
    assert answers[0] == final
    assert len(answers) == 2
    assert answers[1]["supersedes"] == final["id"]
    assert (answers[1]["decided_by"], answers[1]["prediction"]) == ("tier2", label(0, TIER2_TURN))


def late_reply(asked: Escalation, turn: int) -> bytes:
    """Answers the questions of a message, all alike."""
    scores = np.full((len(asked.samples), 3), 0.1, np.float32)
    scores[:, turn] = 0.8
    correlations = tuple(sample.correlation for sample in asked.samples)
    return pack(
        Reply(SCHEMA_VERSION, asked.node, "meter", "full", "7", correlations, Tensor.of(scores))
    )
