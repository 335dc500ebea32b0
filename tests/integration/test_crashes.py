"""kill -9 of any process under traffic, and what stands afterwards."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from cloud.registry import Registry
from tests.integration.hierarchy import (
    PREFIX,
    SITE,
    TIMEOUT_S,
    BrokerKind,
    Hierarchy,
    Json,
    Node,
    Observer,
    chunk_topic,
    chunks,
    eventually,
    info_topic,
    samples_topic,
    update_topic,
)
from tests.integration.models import (
    LABELS,
    SHAPE,
    TIER1_TURN,
    TIER2_TURN,
    SignedRelease,
    label,
    sure,
    unsure,
)

SMALL, FULL = "meter-tier1", "meter-tier2"


# Tier-1 alone: what the broker acknowledged is answered


@pytest.fixture
def lone_tier1(require_mosquitto: None, tmp_path: Path) -> Iterator[tuple[Hierarchy, Node]]:
    """A tier-1 node whose questions nobody answers. Mosquitto: only it keeps a session for us."""
    with Hierarchy(tmp_path, "mosquitto") as hierarchy:
        pipeline = hierarchy.tier1_pipeline(escalation={"deadline_ms": 3000, "audit_share": 0})
        yield hierarchy, hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})


def burst(observer: Observer, size: int, features: list[float]) -> list[str]:
    """Sends samples at QoS 1; returns the ids, all acknowledged by the broker."""
    identities = [observer.new_id() for _ in range(size)]
    payloads = [json.dumps({"id": one, "features": features}).encode() for one in identities]
    observer.publish_many([(samples_topic("cam-1"), payload) for payload in payloads])
    return identities


def test_no_acknowledged_sample_is_lost_when_tier1_is_killed_under_traffic(
    lone_tier1: tuple[Hierarchy, Node],
) -> None:
    hierarchy, node = lone_tier1
    with hierarchy.observer() as observer:
        answered = burst(observer, 20, sure(0))
        observer.all_predicted(answered)
        # These wait for tier-2, so they are on the node and unanswered when it dies.
        waiting = burst(observer, 60, unsure(0))
        under_way = burst(observer, 60, sure(1))
        node.kill()
        assert not {one["id"] for one in observer.predictions()} & set(waiting)
        while_away = burst(observer, 60, sure(2))
        hierarchy.restart(node)
        everything = answered + waiting + under_way + while_away
        observer.all_predicted(everything)
        last = observer.ask(sure(0))  # whatever comes twice has come before this
        predictions = observer.predictions()
    seen = Counter(one["id"] for one in predictions)
    assert set(seen) == {*everything, last["id"]}
    assert {one["decided_by"] for one in predictions if one["id"] in waiting} == {"fallback"}
    # A sample may be answered once by each life of the node, and by the same answer.
    assert max(seen.values()) <= 2
    answers = {(one["id"], one["prediction"]) for one in predictions}
    assert len(answers) == len(seen)
    assert all(seen[one] == 1 for one in while_away)


def test_tier1_that_was_stopped_answers_what_came_meanwhile_and_nothing_twice(
    lone_tier1: tuple[Hierarchy, Node],
) -> None:
    hierarchy, node = lone_tier1
    with hierarchy.observer() as observer:
        answered = burst(observer, 50, sure(0))
        observer.all_predicted(answered)
        assert node.stop() == 0
        while_away = burst(observer, 5, sure(1))
        hierarchy.restart(node)
        observer.all_predicted(while_away)
        observer.ask(sure(2))  # whatever comes twice has come before this
        seen = Counter(one["id"] for one in observer.predictions())
    assert set(seen.values()) == {1}


def test_tier1_killed_three_times_still_answers_everything(
    lone_tier1: tuple[Hierarchy, Node],
) -> None:
    hierarchy, node = lone_tier1
    everything: list[str] = []
    with hierarchy.observer() as observer:
        for _ in range(3):
            everything += burst(observer, 30, unsure(0)) + burst(observer, 30, sure(0))
            node.kill()
            hierarchy.restart(node)
        observer.all_predicted(everything)
        assert {one["id"] for one in observer.predictions()} == set(everything)


def test_sample_that_waits_for_tier2_is_answered_once_when_the_connection_is_cut(
    lone_tier1: tuple[Hierarchy, Node],
) -> None:
    hierarchy, _ = lone_tier1
    with hierarchy.observer() as observer:
        waiting = burst(observer, 10, unsure(0))
        observer.until(lambda: observer.seen("/escalations/"), "the questions")
        # Who connects with the same client id throws the node off; it connects again by itself.
        began = observer.mark()
        cut_off(hierarchy, "escalon-site-a-edge-1")
        observer.until(lambda: observer.seen("/edge-1/info", began), "the node again")
        observer.all_predicted(waiting)
        last = burst(observer, 10, unsure(0))  # questions time out in order: these come last
        observer.all_predicted(last)
        seen = Counter(one["id"] for one in observer.predictions())
    assert seen == Counter(waiting + last)


def cut_off(hierarchy: Hierarchy, client_id: str) -> None:
    """Takes a client's connection away, and leaves its session as it was."""
    connected = threading.Event()
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        clean_session=False,
        protocol=mqtt.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", hierarchy.broker.port)
    client.loop_start()
    assert connected.wait(TIMEOUT_S)
    client.disconnect()
    client.loop_stop()


# A whole hierarchy with a cloud and releases


@dataclass(frozen=True)
class Whole:
    """Cloud, tier-2, tier-1 on one broker; every model came as a release from the registry."""

    hierarchy: Hierarchy
    releases: list[SignedRelease]
    cloud: Node
    tier2: Node
    tier1: Node

    def assert_works(self, observer: Observer) -> Json:
        """Tier-1 and tier-2 answer with the released models; returns tier-2's answer."""
        own = observer.ask(sure(0))
        assert (own["prediction"], own["model_version"]) == (label(0, TIER1_TURN), "v1")
        asked = observer.ask(unsure(0))
        assert asked["decided_by"] == "tier2"
        assert (asked["prediction"], asked["model_version"]) == (label(0, TIER2_TURN), "v1")
        return asked

    def stored(self) -> list[tuple[str, str, str]]:
        """Samples in the cloud's store: id, reason, version of tier-2, in the order of arrival."""
        path = self.hierarchy.folder / "cloud" / "telemetry.sqlite"
        query = "SELECT id, reason, tier2_version FROM samples ORDER BY number"
        return read_only(path, query)

    def spooled(self) -> int:
        """Messages in tier-2's spool."""
        path = self.hierarchy.folder / "full-1" / "telemetry.sqlite"
        return len(read_only(path, "SELECT number, key, at FROM entries"))

    def wait_until_stored(self, identities: list[str]) -> None:
        """Waits until the cloud has stored these samples and tier-2's spool is empty."""
        wanted = set(identities)
        eventually(
            lambda: wanted <= {identity for identity, _, _ in self.stored()},
            f"{len(wanted)} samples in the store",
        )
        eventually(lambda: self.spooled() == 0, "an empty spool")

    def assert_stored_once(self, identities: list[str]) -> None:
        """Each of these samples stands in the store exactly once."""
        count = Counter(identity for identity, _, _ in self.stored())
        assert {identity: count[identity] for identity in identities} == dict.fromkeys(
            identities, 1
        )


def read_only(path: Path, query: str) -> list[tuple[str, str, str]]:
    """Reads a SQLite file of a running process without touching it."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return list(database.execute(query))


@pytest.fixture(scope="module")
def whole(kind: BrokerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """A running hierarchy in which every release is committed."""
    with Hierarchy(tmp_path_factory.mktemp("whole"), kind) as hierarchy:
        yield start_whole(hierarchy)


def start_whole(hierarchy: Hierarchy) -> Whole:
    """Starts cloud, tier-2 and tier-1, and waits until all releases are committed."""
    folder, key = hierarchy.folder, hierarchy.key
    registry = Registry(folder / "cloud" / "registry")
    releases = [key.release(FULL, 1, TIER2_TURN), key.release(SMALL, 1, TIER1_TURN)]
    for release in releases:
        release.register(registry)
    cloud = hierarchy.start("cloud", "cloud", cloud_config(folder))
    tier2 = hierarchy.start(
        "tier2",
        "full-1",
        {
            "pipelines": {
                "meter": {"input": {"shape": list(SHAPE)}, "releases": hierarchy.releases(FULL)}
            },
            "relay": {"channels": [SMALL, FULL], "trust": str(folder / "trust.signed")},
            "telemetry": {"max_delay_s": 0.1, "retry_s": 0.5},
        },
    )
    pipeline = {
        "input": {"shape": list(SHAPE)},
        "releases": hierarchy.releases(SMALL),
        "escalation": {"deadline_ms": 2000, "audit_share": 0},
    }
    tier1 = hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
    wait_until_committed(hierarchy, "full-1", FULL)
    wait_until_committed(hierarchy, "edge-1", SMALL)
    return Whole(hierarchy, releases, cloud, tier2, tier1)


def wait_until_committed(hierarchy: Hierarchy, node: str, channel: str) -> None:
    """Waits until a node's retained report says that it serves the release."""

    def is_committed() -> bool:
        report = observer.latest(update_topic(node, channel))
        return report is not None and (report["state"], report["seq"]) == ("COMMITTED", 1)

    with hierarchy.observer() as observer:
        observer.until(is_committed, f"{channel} committed on {node}")


def cloud_config(folder: Path) -> Json:
    """A cloud that finds its releases in its registry, so that it trains nothing."""
    return {
        "site": "cloud",
        "signing_key": str(folder / "release.key"),
        "trust": str(folder / "trust.signed"),
        "pipelines": {
            "meter": {
                "input": {"shape": list(SHAPE)},
                "labels": list(LABELS),
                "tier1_channel": SMALL,
                "tier2_channel": FULL,
                "training": {"base": str(folder / "data"), "first_job": str(folder / "first")},
            }
        },
    }


def test_killed_tier2_takes_part_again_with_its_model_version(whole: Whole) -> None:
    with whole.hierarchy.observer() as observer:
        whole.assert_works(observer)
        whole.tier2.kill()
        assert observer.ask(unsure(0))["decided_by"] == "fallback"
        whole.hierarchy.restart(whole.tier2)
        whole.assert_works(observer)
        models = observer.latest(info_topic("full-1"))
        assert models is not None
        assert models["models"]["meter"]["version"] == "v1"


def test_killed_tier1_takes_part_again_with_its_model_version(whole: Whole) -> None:
    with whole.hierarchy.observer() as observer:
        whole.tier1.kill()
        whole.hierarchy.restart(whole.tier1)
        whole.assert_works(observer)
        report = observer.latest(update_topic("edge-1", SMALL))
        assert report is not None
        assert report["state"] == "COMMITTED"


def test_killed_cloud_takes_part_again_with_the_releases_that_stood(whole: Whole) -> None:
    whole.cloud.kill()
    with whole.hierarchy.observer() as observer:
        envelopes = {release.envelope for release in whole.releases}
        since = observer.mark_when_seen("/cloud/releases/", envelopes)
        whole.hierarchy.restart(whole.cloud)
        observer.mark_when_seen("/cloud/releases/", envelopes, since)
        asked = whole.assert_works(observer)
    whole.wait_until_stored([asked["id"]])


def test_telemetry_of_a_time_without_cloud_arrives_later_each_record_once(whole: Whole) -> None:
    with whole.hierarchy.observer() as observer:
        whole.cloud.kill()
        identities = [observer.ask(unsure(index % 3))["id"] for index in range(6)]
        eventually(lambda: whole.spooled() > 0, "telemetry on tier-2's disk")
        whole.hierarchy.restart(whole.cloud)
        whole.wait_until_stored(identities)
        whole.assert_stored_once(identities)
        assert {row[1:] for row in whole.stored() if row[0] in identities} == {
            ("low_confidence", "v1")
        }


def test_telemetry_on_the_disk_of_a_killed_tier2_arrives_later_each_record_once(
    whole: Whole,
) -> None:
    with whole.hierarchy.observer() as observer:
        whole.cloud.kill()
        identity = observer.ask(unsure(0))["id"]
        eventually(lambda: whole.spooled() > 0, "telemetry on tier-2's disk")
        whole.tier2.kill()
        whole.hierarchy.restart(whole.cloud)
        whole.hierarchy.restart(whole.tier2)
        whole.wait_until_stored([identity])
        whole.assert_stored_once([identity])


def test_telemetry_that_a_stopped_cloud_gets_many_times_is_stored_once(whole: Whole) -> None:
    with whole.hierarchy.observer() as observer:
        whole.cloud.pause()
        try:
            identity = observer.ask(unsure(0))["id"]
            topic = f"{PREFIX}/{SITE}/telemetry/full-1"
            observer.until(lambda: len(observer.seen(topic)) >= 3, "the message sent three times")
        finally:
            whole.cloud.resume()
        whole.wait_until_stored([identity])
        whole.assert_stored_once([identity])


@pytest.mark.parametrize("damaged", ["models", "channels"], ids=["artefact", "record"])
def test_tier1_whose_disk_was_damaged_fetches_the_standing_release_again(
    tmp_path: Path, damaged: str
) -> None:
    with Hierarchy(tmp_path, "amqtt") as hierarchy:  # no broker has a part in this
        whole = start_whole(hierarchy)
        whole.tier1.kill()
        for path in (tmp_path / "edge-1" / damaged).rglob("*"):
            if path.is_file():
                path.write_bytes(b"\0" * path.stat().st_size)
        hierarchy.restart(whole.tier1)
        with hierarchy.observer() as observer:
            whole.assert_works(observer)


def test_broker_that_forgot_everything_has_it_all_again(kind: BrokerKind, tmp_path: Path) -> None:
    with Hierarchy(tmp_path, kind) as hierarchy:
        whole = start_whole(hierarchy)
        retained = retained_topics(whole.releases)
        assert_all_there(hierarchy, retained)
        hierarchy.broker.kill()
        for path in hierarchy.broker.folder.glob("*.db*"):
            path.unlink()  # kill -9 loses what was not saved yet; here for certain
        hierarchy.start_brokers()
        assert_all_there(hierarchy, retained)
        with hierarchy.observer() as observer:
            whole.assert_works(observer)
        # A newcomer gets the release from what the broker has again.
        assert_newcomer_commits(hierarchy)


def retained_topics(releases: list[SignedRelease]) -> set[str]:
    """All that a broker keeps of these releases and of the hierarchy that runs them."""
    nodes = (("cloud", "cloud"), (SITE, "full-1"), (SITE, "edge-1"))
    topics = {f"{PREFIX}/{site}/nodes/{node}/{kind}" for site, node in nodes
              for kind in ("state", "info")}  # fmt: skip
    topics |= {update_topic("full-1", FULL), update_topic("edge-1", SMALL)}
    for release in releases:
        for site in ("cloud", SITE):
            topics.add(f"{PREFIX}/{site}/releases/{release.manifest.channel}")
            topics |= {chunk_topic(release, i, site) for i in range(len(chunks(release)))}
    return topics


def assert_all_there(hierarchy: Hierarchy, topics: set[str]) -> None:
    """Waits until the broker has a message for each of these topics."""
    with hierarchy.observer() as observer:
        observer.until(
            lambda: topics <= {seen.topic for seen in observer.seen()},
            "all that is to be retained",
        )


def assert_newcomer_commits(hierarchy: Hierarchy) -> None:
    """A node that was never there before gets the standing release."""
    pipeline = {"input": {"shape": list(SHAPE)}, "releases": hierarchy.releases(SMALL)}
    hierarchy.start("tier1", "edge-2", {"pipelines": {"meter": pipeline}})
    wait_until_committed(hierarchy, "edge-2", SMALL)
