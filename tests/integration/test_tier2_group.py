"""Several tier-2 nodes share the questions of a site, or say that the broker cannot share them."""

from __future__ import annotations

from collections import Counter
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
    info_topic,
    metrics,
)
from tests.integration.models import TIER2_TURN, label, unsure

NODES = ("full-1", "full-2")
COUNT = 60


@dataclass(frozen=True)
class Group:
    """A tier-1 node and two tier-2 nodes of one group."""

    hierarchy: Hierarchy
    observer: Observer
    tier2: dict[str, Node]

    def info(self, name: str) -> Json:
        """What a node says of itself."""
        return self.observer.until(
            lambda: self.observer.latest(info_topic(name)), f"info of {name}"
        )

    def inferred(self) -> Counter[str]:
        """How many samples each tier-2 node has put through its model."""
        counts: Counter[str] = Counter()
        for name in NODES:
            info = self.info(name)
            for sample in metrics(info["metrics_url"]):
                if sample.name == "edge_inference_total":
                    counts[name] += int(sample.value)
        return counts

    def ask_many(self) -> None:
        """Sends unsure samples one after the other; each is answered once, by tier-2."""
        identities = []
        for index in range(COUNT):
            answer = self.observer.ask(unsure(index % 3))
            assert answer["decided_by"] == "tier2"
            assert answer["prediction"] == label(index % 3, TIER2_TURN)
            identities.append(answer["id"])
        answers = [one for one in self.observer.predictions() if one["id"] in identities]
        assert len(answers) == COUNT


@pytest.fixture(scope="module")
def group(kind: BrokerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """Both nodes run, and know whether the broker shares."""
    with Hierarchy(tmp_path_factory.mktemp("group"), kind) as hierarchy:
        pipelines = {"pipelines": {"meter": hierarchy.tier2_pipeline()}}
        tier2 = {name: hierarchy.start("tier2", name, pipelines) for name in NODES}
        # A short deadline to find a dead worker by, and no breaker in the way.
        escalation = {"deadline_ms": 2000, "audit_share": 0, "breaker": {"failures": 1000}}
        pipeline = hierarchy.tier1_pipeline(escalation=escalation)
        hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
        words = "escalations are shared" if kind == "mosquitto" else "answers every escalation"
        for node in tier2.values():
            eventually(lambda node=node: words in node.log, f"{node.name} knows")  # type: ignore[misc]
        with hierarchy.observer() as observer:
            yield Group(hierarchy, observer, tier2)


def test_each_question_is_inferred_once_where_the_broker_shares_them(group: Group) -> None:
    before = group.inferred()
    group.ask_many()
    if group.hierarchy.kind == "mosquitto":
        done = group.inferred() - before
        assert done.total() == COUNT
        assert min(done[name] for name in NODES) > 0
    else:
        # Every node answers everything; tier-1 takes the first answer.
        eventually(
            lambda: {(group.inferred() - before)[name] for name in NODES} == {COUNT}, "both answers"
        )
        for name in NODES:
            assert "does not deliver shared subscriptions" in group.info(name)["activity"]


def test_a_killed_node_leaves_all_questions_to_the_other(group: Group) -> None:
    group.tier2["full-2"].kill()
    try:
        # What the broker dealt out before it found the node gone is answered by tier-1.
        eventually(
            lambda: group.observer.ask(unsure(0))["decided_by"] == "tier2",
            "the other node's answer",
        )
        answers = [group.observer.ask(unsure(0)) for _ in range(10)]
        assert {answer["decided_by"] for answer in answers} == {"tier2"}
    finally:
        group.hierarchy.restart(group.tier2["full-2"])
