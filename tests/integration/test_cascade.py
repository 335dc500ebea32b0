"""Who decides: tier-1, tier-2, or tier-1 alone when tier-2 is away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.hierarchy import (
    BrokerKind,
    Hierarchy,
    Json,
    Node,
    Observer,
    eventually,
    metrics,
)
from tests.integration.models import (
    LABELS,
    NAN_MAKING,
    TIER1_TURN,
    TIER2_TURN,
    label,
    sure,
    unsure,
)


@dataclass(frozen=True)
class Site:
    """A tier-1 and a tier-2 node; tier-2 answers every sample otherwise than tier-1."""

    hierarchy: Hierarchy
    observer: Observer
    tier2: Node

    def ask_unsure(self, direction: int = 0) -> Json:
        """Sends what tier-1 is not sure of."""
        return self.observer.ask(unsure(direction))

    def assert_escalation_works(self) -> None:
        """Tier-2 decides; if it was away, once a probe has found out that it is back."""

        def asked() -> Json | None:
            found = self.ask_unsure()
            return None if found["reason"] == "breaker_open" else found

        answer = eventually(asked, "an answer with the breaker closed")
        assert (answer["decided_by"], answer["prediction"]) == ("tier2", label(0, TIER2_TURN))


@pytest.fixture(scope="module")
def site(kind: BrokerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site without a cloud."""
    with Hierarchy(tmp_path_factory.mktemp("cascade"), kind) as hierarchy:
        audited = {"deadline_ms": 2000, "audit_share": 1}
        tier1 = {
            "meter": hierarchy.tier1_pipeline(),
            "audited": hierarchy.tier1_pipeline(escalation=audited),
        }
        tier2 = {"meter": hierarchy.tier2_pipeline(), "audited": hierarchy.tier2_pipeline()}
        node = hierarchy.start("tier2", "full-1", {"pipelines": tier2})
        hierarchy.start("tier1", "edge-1", {"pipelines": tier1})
        with hierarchy.observer() as observer:
            yield Site(hierarchy, observer, node)


def finals(answers: list[Json]) -> list[Json]:
    """Those that are no corrections."""
    return [answer for answer in answers if answer.get("supersedes") is None]


@pytest.mark.parametrize("direction", range(3), ids=LABELS)
def test_sure_sample_is_decided_by_tier1(site: Site, direction: int) -> None:
    answer = site.observer.ask(sure(direction))
    assert (answer["decided_by"], answer["reason"]) == ("tier1", "confident")
    assert answer["prediction"] == label(direction, TIER1_TURN)
    assert answer["model_version"] == "local-1"


@pytest.mark.parametrize("direction", range(3), ids=LABELS)
def test_unsure_sample_is_decided_by_tier2(site: Site, direction: int) -> None:
    answer = site.ask_unsure(direction)
    assert (answer["decided_by"], answer["reason"]) == ("tier2", "low_confidence")
    assert answer["prediction"] == label(direction, TIER2_TURN)
    assert answer["model_version"] == "local-2"
    assert answer["confidence"] < 0.5  # tier-2's own: it is not sure either
    assert site.observer.answers(answer["id"]) == [answer]


def test_malformed_scores_are_never_an_easy_sample(site: Site) -> None:
    answer = site.observer.ask(NAN_MAKING)
    assert (answer["decided_by"], answer["reason"]) == ("tier2", "invalid_scores")
    assert answer["prediction"] == label(0, TIER2_TURN)


def test_audit_changes_no_answer_and_counts_that_tier2_disagrees(site: Site) -> None:
    answer = site.observer.ask(sure(1), pipeline="audited")
    assert (answer["decided_by"], answer["reason"]) == ("tier1", "audit")
    assert answer["prediction"] == label(1, TIER1_TURN)
    info = site.observer.latest("escalon/site-a/nodes/edge-1/info")
    assert info is not None
    site.observer.until(
        lambda: site.observer.seen("/audited/replies/edge-1"), "tier-2's answer to the audit"
    )
    site.assert_escalation_works()  # a correction would have come before this
    assert site.observer.answers(answer["id"]) == [answer]
    agreement = {
        (sample.labels["kind"], sample.labels["agrees"]): sample.value
        for sample in metrics(info["metrics_url"])
        if sample.name == "edge_agreement_total"
    }
    assert agreement["audit", "false"] == 1


def test_samples_of_one_burst_are_answered_once_each_by_whom_they_need(site: Site) -> None:
    since = site.observer.mark()
    wanted = {}
    for index in range(120):
        hard = index % 3 == 0
        identity = site.observer.send(unsure(index % 3) if hard else sure(index % 3), "cam-2")
        wanted[identity] = "tier2" if hard else "tier1"
    site.observer.all_predicted(list(wanted))
    site.assert_escalation_works()
    answers = [one for one in site.observer.predictions(since) if one["device_id"] == "cam-2"]
    assert sorted(answer["id"] for answer in answers) == sorted(wanted)
    assert {answer["id"]: answer["decided_by"] for answer in answers} == wanted


def test_tier1_decides_alone_while_tier2_is_stopped_and_asks_again_afterwards(site: Site) -> None:
    assert site.tier2.stop() == 0
    answer = site.ask_unsure()
    assert (answer["decided_by"], answer["reason"]) == ("fallback", "deadline")
    assert answer["prediction"] == label(0, TIER1_TURN)
    assert answer["model_version"] == "local-1"
    assert site.observer.ask(sure(1))["decided_by"] == "tier1"
    site.hierarchy.restart(site.tier2)
    site.assert_escalation_works()
    assert site.observer.answers(answer["id"]) == [answer]


def test_tier1_decides_alone_when_tier2_is_killed_and_asks_again_afterwards(site: Site) -> None:
    site.tier2.kill()
    answer = site.ask_unsure()
    assert answer["decided_by"] == "fallback"
    site.hierarchy.restart(site.tier2)
    site.assert_escalation_works()


def test_answers_of_a_tier2_that_wakes_up_too_late_are_corrections_once_each(site: Site) -> None:
    since = site.observer.mark()
    site.tier2.pause()
    try:
        identities = [site.observer.send(unsure(index % 3)) for index in range(9)]
        site.observer.all_predicted(identities)
    finally:
        site.tier2.resume()
    site.assert_escalation_works()  # tier-2 answers in order, so its late answers came before
    answers = [one for one in site.observer.predictions(since) if one["id"] in identities]
    assert [answer["id"] for answer in finals(answers)] == identities
    assert {answer["decided_by"] for answer in finals(answers)} == {"fallback"}
    corrections = [answer for answer in answers if answer not in finals(answers)]
    assert [answer["id"] for answer in corrections] == identities
    for index, correction in enumerate(corrections):
        assert correction["supersedes"] == correction["id"]
        assert correction["decided_by"] == "tier2"
        assert correction["prediction"] == label(index % 3, TIER2_TURN)


def test_state_topic_tells_of_farewell_and_return(site: Site) -> None:
    topic = "escalon/site-a/nodes/full-1/state"
    since = site.observer.mark()
    assert site.tier2.stop() == 0
    site.hierarchy.restart(site.tier2)
    site.tier2.kill()  # the broker speaks for it: its last will
    site.hierarchy.restart(site.tier2)
    site.observer.until(lambda: len(site.observer.seen(topic, since)) >= 4, "four states")
    states = [seen.json["state"] for seen in site.observer.seen(topic, since)]
    assert states == ["offline", "online"] * 2
    site.assert_escalation_works()
