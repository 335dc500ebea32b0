"""What could not be asked goes up later, each sample once, whoever was killed meanwhile."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from shared.messages import Telemetry, unpack
from tests.integration.hierarchy import BrokerKind, Hierarchy, Node, Observer, eventually
from tests.integration.models import TIER2_TURN, label, sure, unsure

ESCALATION = {
    "deadline_ms": 200,
    "audit_share": 0,
    "breaker": {"failures": 1, "retry_s": 0.2, "max_retry_s": 0.5},
    "backlog": {"retry_s": 0.2, "max_retry_s": 0.5},
}


@dataclass(frozen=True)
class Site:
    """A tier-1 node whose tier-2 is not there yet."""

    hierarchy: Hierarchy
    observer: Observer
    tier1: Node
    tier2: Node

    def leave_unasked(self, count: int) -> list[str]:
        """Sends unsure samples that the breaker keeps back; returns their ids."""
        unasked: list[str] = []

        def enough() -> bool:
            answer = self.observer.ask(unsure(0))
            assert answer["decided_by"] == "fallback"
            if answer["reason"] == "breaker_open":
                unasked.append(answer["id"])
            return len(unasked) >= count

        eventually(enough, f"{count} samples that are not asked")
        return unasked

    def entries(self) -> int:
        """How many messages are in tier-1's backlog on the disk."""
        path = self.hierarchy.folder / "edge-1" / "backlog" / "meter.sqlite"
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                (count,) = database.execute("SELECT COUNT(*) FROM entries").fetchone()
        except sqlite3.OperationalError:  # nothing has begun it yet
            return 0
        return int(count)

    def recorded(self) -> Counter[str]:
        """How often each sample is in what goes to the cloud."""
        found = [unpack(seen.payload, Telemetry) for seen in self.observer.seen("/telemetry/")]
        batches = {message.batch: message for message in found}
        return Counter(
            record.sample.id for message in batches.values() for record in message.records
        )

    def wait_until_recorded(self, identities: list[str]) -> None:
        """Waits until tier-2 has these samples and tier-1 knows that it does."""
        self.observer.until(lambda: set(identities) <= set(self.recorded()), "the records")
        eventually(lambda: self.entries() == 0, "an empty backlog")


@pytest.fixture
def site(kind: BrokerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Tier-1 runs, tier-2 does not."""
    with Hierarchy(tmp_path_factory.mktemp("backlog"), kind) as hierarchy:
        telemetry = {"max_delay_s": 0.1, "retry_s": 60.0}
        tier2 = hierarchy.add(
            "tier2",
            "full-1",
            {"pipelines": {"meter": hierarchy.tier2_pipeline()}, "telemetry": telemetry},
        )
        pipeline = hierarchy.tier1_pipeline(escalation=ESCALATION)
        tier1 = hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
        with hierarchy.observer() as observer:
            yield Site(hierarchy, observer, tier1, tier2)


def test_what_could_not_be_asked_is_recorded_once_when_tier2_is_there(site: Site) -> None:
    unasked = site.leave_unasked(8)
    answers = {identity: site.observer.answers(identity) for identity in unasked}
    site.hierarchy.restart(site.tier2)
    site.wait_until_recorded(unasked)
    recorded = site.recorded()
    assert {recorded[identity] for identity in unasked} == {1}
    # They are training material: nobody gets another answer by them.
    assert {identity: site.observer.answers(identity) for identity in unasked} == answers


def test_it_survives_a_tier1_that_is_killed(site: Site) -> None:
    unasked = site.leave_unasked(4)
    eventually(lambda: site.entries() > 0, "a backlog on the disk")
    later = site.leave_unasked(2)
    site.tier1.stop()  # in order: what is in memory is written
    site.hierarchy.restart(site.tier1)
    site.tier1.kill()
    site.hierarchy.restart(site.tier1)
    site.hierarchy.restart(site.tier2)
    site.wait_until_recorded(unasked + later)


def test_live_questions_go_first_and_get_their_answers_meanwhile(site: Site) -> None:
    unasked = site.leave_unasked(8)
    site.hierarchy.restart(site.tier2)

    def answered_by_tier2() -> bool:
        answer = site.observer.ask(unsure(1))
        if answer["decided_by"] != "tier2":
            return False
        assert answer["prediction"] == label(1, TIER2_TURN)
        return True

    eventually(answered_by_tier2, "an answer by tier-2")
    assert site.observer.ask(sure(1))["decided_by"] == "tier1"
    site.wait_until_recorded(unasked)
