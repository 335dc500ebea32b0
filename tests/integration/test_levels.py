"""Three tiers: what the site's tier-2 is not sure of either, a regional one decides."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from shared.messages import Telemetry, unpack
from tests.integration.hierarchy import (
    PREFIX,
    Hierarchy,
    Json,
    Node,
    Observer,
    eventually,
)
from tests.integration.models import NEW_TURN, TIER2_TURN, label, model_bytes, sure, unsure

REGION = "region"
QUESTIONS = f"{PREFIX}/{REGION}/meter/escalations/site-a.full-1"


@dataclass(frozen=True)
class Levels:
    """Tier-1 is sure of nothing; both tier-2 nodes are not sure at ``unsure``.

    Attributes:
        hierarchy: the processes.
        site: an observer of the site's broker.
        above: an observer of the region's broker, which may be the same.
        regional: the region's node.
    """

    hierarchy: Hierarchy
    site: Observer
    above: Observer
    regional: Node

    def start_region(self) -> None:
        """Starts the region's node, and waits until it says that it is there."""
        began = time.time()
        self.regional.start()
        self.above.until(
            lambda: any(
                seen.json["started"] >= began for seen in self.above.seen("nodes/region-1/info")
            ),
            "the region's node",
        )

    def decided_by_region(self) -> Json | None:
        """Asks what no other tier is sure of; returns the answer if the region decided it."""
        answer = self.site.ask(unsure(0))
        assert answer["decided_by"] == "tier2"
        return answer if answer["model_version"] == "regional" else None

    def records(self) -> list[tuple[str, str]]:
        """What the cloud is told of samples: the id, and the version that decided."""
        messages = [
            unpack(seen.payload, Telemetry)
            for observer in {self.site, self.above}
            for seen in observer.seen("/telemetry/")
        ]
        by_batch = {message.batch: message for message in messages}
        return [
            (record.sample.id, record.tier2_version)
            for message in by_batch.values()
            for record in message.records
        ]


@pytest.fixture(scope="module", params=[False, True], ids=["one-broker", "two-brokers"])
def levels(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    require_mosquitto: None,
) -> Iterator[Levels]:
    """Three running tiers without a cloud."""
    folder = tmp_path_factory.mktemp("levels")
    with Hierarchy(folder, "mosquitto", two_brokers=request.param) as hierarchy:
        (folder / "regional.onnx").write_bytes(model_bytes(NEW_TURN, fragile=False))
        broker = hierarchy.cloud_broker or hierarchy.broker
        pipeline = hierarchy.tier2_pipeline(model=hierarchy.model("regional.onnx", "regional"))
        regional = hierarchy.add(
            "tier2",
            "region-1",
            {"site": REGION, "broker": {"url": broker.url}, "pipelines": {"meter": pipeline}},
        )
        with hierarchy.observer() as site, Observer(broker.port) as above:
            running = Levels(hierarchy, site, above, regional)
            running.start_region()
            start_site(hierarchy, broker.url)
            eventually(running.decided_by_region, "an answer by the region")
            yield running


def start_site(hierarchy: Hierarchy, upstream_url: str) -> None:
    """Starts the site's two nodes."""
    upstream = {"site": REGION, "broker": {"url": upstream_url}}
    escalation = {"deadline_ms": 1000, "audit_share": 0}
    asking = hierarchy.tier2_pipeline(upstream=upstream, escalation=escalation)
    hierarchy.start(
        "tier2",
        "full-1",
        {"pipelines": {"meter": asking}, "telemetry": {"max_delay_s": 0.1, "retry_s": 1.0}},
    )
    never_sure = {**hierarchy.model("tier1.onnx", "local-1"), "threshold": 1.0}
    patient = {"deadline_ms": 4000, "audit_share": 0}
    hierarchy.start(
        "tier1",
        "edge-1",
        {"pipelines": {"meter": hierarchy.tier1_pipeline(model=never_sure, escalation=patient)}},
    )


def test_what_the_sites_tier2_is_sure_of_it_decides(levels: Levels) -> None:
    since = levels.above.mark()
    answer = levels.site.ask(sure(0))
    assert (answer["decided_by"], answer["model_version"]) == ("tier2", "local-2")
    assert answer["prediction"] == label(0, TIER2_TURN)
    assert levels.above.seen(QUESTIONS, since) == []


@pytest.mark.parametrize("direction", range(3))
def test_what_it_is_not_sure_of_the_region_decides(levels: Levels, direction: int) -> None:
    answer = levels.site.ask(unsure(direction))
    assert (answer["decided_by"], answer["model_version"]) == ("tier2", "regional")
    assert answer["prediction"] == label(direction, NEW_TURN)
    assert levels.site.answers(answer["id"]) == [answer]
    assert levels.above.seen(QUESTIONS)


def test_each_sample_is_recorded_once_with_who_decided_it_by_the_sites_node(
    levels: Levels,
) -> None:
    own, above = levels.site.ask(sure(1))["id"], levels.site.ask(unsure(1))["id"]
    levels.site.until(
        lambda: {own, above} <= {identity for identity, _ in levels.records()}, "both records"
    )
    found = [record for record in levels.records() if record[0] in (own, above)]
    assert sorted(found) == sorted([(own, "local-2"), (above, "regional")])
    assert levels.above.seen(f"{REGION}/telemetry/") == []


def test_a_burst_is_answered_once_each_by_whom_it_needs(levels: Levels) -> None:
    wanted = {
        levels.site.send(unsure(0) if index % 2 else sure(0)): "regional"
        if index % 2
        else "local-2"
        for index in range(60)
    }
    levels.site.all_predicted(list(wanted))
    answers = [one for one in levels.site.predictions() if one["id"] in wanted]
    assert {one["id"]: one["model_version"] for one in answers} == wanted
    assert len(answers) == len(wanted)


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_without_the_region_the_sites_tier2_answers_and_asks_again_afterwards(
    levels: Levels, how: str
) -> None:
    if how == "killed":
        levels.regional.kill()
    else:
        levels.regional.pause()
    try:
        identities = [levels.site.send(unsure(index % 3)) for index in range(20)]
        levels.site.all_predicted(identities)
    finally:
        if how == "paused":
            levels.regional.resume()
        else:
            levels.start_region()
    eventually(levels.decided_by_region, "an answer by the region")
    answers = [one for one in levels.site.predictions() if one["id"] in identities]
    assert sorted(one["id"] for one in answers) == sorted(identities)
    assert {(one["decided_by"], one["model_version"]) for one in answers} == {("tier2", "local-2")}
    levels.site.until(
        lambda: set(identities) <= {identity for identity, _ in levels.records()}, "the records"
    )
    found = [record for record in levels.records() if record[0] in identities]
    assert sorted(found) == sorted((identity, "local-2") for identity in identities)
