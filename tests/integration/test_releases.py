"""A release on its way from the cloud's broker to a serving model, and every way not to get there.

The test is the cloud: it signs with the product's code and publishes by hand. Tier-2 stands between
two brokers and relays.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from shared.messages import Tensor
from tests.integration.hierarchy import (
    SITE,
    BrokerKind,
    Hierarchy,
    Json,
    Node,
    Observer,
    chunk_topic,
    chunks,
    eventually,
    info_topic,
    publish_manifest,
    publish_release,
    samples_topic,
    update_topic,
)
from tests.integration.models import (
    GOLDEN_INPUTS,
    LABELS,
    NAN_MAKING,
    NEW_TURN,
    TIER1_TURN,
    ReleaseKey,
    SignedRelease,
    label,
    model_bytes,
    sure,
    weights,
)

METER, GAUGE = "meter-tier1", "gauge-tier1"
MAX_ARTIFACT_BYTES = 20_000
ALL_STATES = [
    "OFFERED", "FETCHING", "VERIFIED", "STAGED", "SMOKE", "ACTIVATING", "PROBATION", "COMMITTED",
]  # fmt: skip


@dataclass(frozen=True)
class Site:
    """Two brokers, tier-2 between them, tier-1 with two pipelines.

    ``meter`` commits quickly; ``gauge`` gives up fetching quickly and has a long probation.
    """

    hierarchy: Hierarchy
    cloud: Observer
    observer: Observer
    tier1: Node
    tier2: Node
    numbers: Iterator[int]

    def release(self, channel: str, turn: int = NEW_TURN, **changes: Any) -> SignedRelease:
        """Makes a release that is newer than any before."""
        changes = {"pipeline": channel.partition("-")[0], **changes}
        return self.hierarchy.key.release(channel, next(self.numbers), turn, **changes)

    def serving(self, pipeline: str = "meter") -> tuple[str, str]:
        """What answers a sample now: its answer to ``sure(0)``, and its version."""
        answer = self.observer.ask(sure(0), pipeline=pipeline)
        assert answer["decided_by"] == "tier1"
        return answer["prediction"], answer["model_version"]

    def reports(self, release: SignedRelease) -> list[Json]:
        """What tier-1 has reported of a release, oldest first, each state once."""
        topic = update_topic("edge-1", release.manifest.channel)
        reports = [seen.json for seen in self.observer.seen(topic)]
        mine = [report for report in reports if report["seq"] == release.manifest.seq]
        return [next(group) for _, group in itertools.groupby(mine, key=lambda one: one["state"])]

    def wait_for(self, release: SignedRelease, state: str) -> Json:
        """Waits until tier-1 reports a state; returns that report."""

        def found() -> list[Json]:
            return [report for report in self.reports(release) if report["state"] == state]

        return self.observer.until(found, f"{state} of seq {release.manifest.seq}")[-1]

    def commit(self, release: SignedRelease) -> None:
        """Publishes in the cloud and waits until tier-1 has committed."""
        publish_release(self.cloud, release)
        self.wait_for(release, "COMMITTED")

    def drops(self, node: str, reason: str) -> int:
        """How many drops of a kind a node has counted."""
        return self.hierarchy.drops(node, self.observer)[reason]

    def wait_for_drop(self, node: str, reason: str, before: int) -> None:
        """Waits until a node has counted one more."""
        eventually(lambda: self.drops(node, reason) > before, f"{reason} counted on {node}")


@pytest.fixture(scope="module")
def site(kind: BrokerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site; its tier-1 begins with a model from a file."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("releases")
        hierarchy = stack.enter_context(Hierarchy(folder, kind, two_brokers=True))
        assert hierarchy.cloud_broker is not None
        tier2 = {
            "cloud": {"url": hierarchy.cloud_broker.url},
            "pipelines": {"meter": hierarchy.tier2_pipeline()},
            "relay": {"channels": [METER, GAUGE], "trust": str(folder / "trust.signed")},
        }
        tier2_node = hierarchy.start("tier2", "full-1", tier2)
        meter = hierarchy.releases(METER, max_artifact_bytes=MAX_ARTIFACT_BYTES)
        gauge = hierarchy.releases(GAUGE, deadline_s=1, probation_s=4)
        pipelines = {
            "meter": hierarchy.tier1_pipeline(releases=meter),
            "gauge": hierarchy.tier1_pipeline(releases=gauge),
        }
        tier1 = hierarchy.start("tier1", "edge-1", {"pipelines": pipelines})
        cloud = stack.enter_context(Observer(hierarchy.cloud_broker.port))
        observer = stack.enter_context(hierarchy.observer())
        yield Site(hierarchy, cloud, observer, tier1, tier2_node, itertools.count(1))


# The way that it should go


def test_release_goes_through_all_states_and_serves(site: Site) -> None:
    release = site.release(METER)
    version = release.version
    site.commit(release)
    assert [report["state"] for report in site.reports(release)] == ALL_STATES
    assert site.serving() == (label(0, NEW_TURN), version)
    with site.hierarchy.observer() as newcomer:
        report = newcomer.until(
            lambda: newcomer.latest(update_topic("edge-1", METER)), "the retained report"
        )
        info = newcomer.until(lambda: newcomer.latest(info_topic("edge-1")), "the retained info")
    assert (report["state"], report["version"]) == ("COMMITTED", version)
    assert [step["state"] for step in report["steps"]] == ALL_STATES[:-1]
    assert info["models"]["meter"]["version"] == version
    assert info["models"]["meter"]["sha256"] == release.file.sha256


def test_relay_hands_the_signed_bytes_down_as_they_came(site: Site) -> None:
    release = site.release(METER)
    site.commit(release)
    handed_down = {seen.topic: seen.payload for seen in site.observer.seen(f"/{SITE}/")}
    assert handed_down[f"escalon/{SITE}/releases/{METER}"] == release.envelope
    for index, chunk in enumerate(chunks(release)):
        assert handed_down[chunk_topic(release, index, SITE)] == chunk


def test_no_sample_is_lost_or_answered_twice_while_the_model_is_swapped(site: Site) -> None:
    _, old = site.serving()
    release = site.release(METER, TIER1_TURN)
    publish_release(site.cloud, release)
    sent: list[str] = []

    def send_some() -> None:
        identities = [site.observer.new_id() for _ in range(20)]
        payloads = [json.dumps({"id": one, "features": sure(0)}).encode() for one in identities]
        site.observer.publish_many([(samples_topic("cam-7"), payload) for payload in payloads])
        sent.extend(identities)

    send_some()
    while site.reports(release)[-1:] == [] or site.reports(release)[-1]["state"] != "COMMITTED":
        assert len(sent) < 50_000, "the release does not come"
        send_some()
    send_some()
    site.observer.all_predicted(sent)
    site.serving()
    answers = [one for one in site.observer.predictions() if one["device_id"] == "cam-7"]
    assert [answer["id"] for answer in answers] == sent
    versions = [answer["model_version"] for answer in answers]
    assert [version for version, _ in itertools.groupby(versions)] == [
        old,
        release.version,
    ]


def test_killed_after_the_commit_tier1_serves_the_new_version_again(site: Site) -> None:
    release = site.release(METER)
    site.commit(release)
    site.tier1.kill()
    site.hierarchy.restart(site.tier1)
    assert site.serving() == (label(0, NEW_TURN), release.version)


def test_killed_while_fetching_tier1_goes_on_where_it_was(site: Site) -> None:
    release = site.release(METER)
    last = len(chunks(release)) - 1
    for index, chunk in enumerate(chunks(release)[:last]):
        site.observer.publish(chunk_topic(release, index, SITE), chunk, retain=True)
    publish_manifest(site.observer, release, SITE)
    site.wait_for(release, "FETCHING")
    site.tier1.kill()
    site.hierarchy.restart(site.tier1)
    site.observer.publish(chunk_topic(release, last, SITE), chunks(release)[last], retain=True)
    site.wait_for(release, "COMMITTED")
    assert site.serving()[1] == release.version


def test_newer_release_supersedes_one_that_is_still_fetched(site: Site) -> None:
    stuck, newer = site.release(METER), site.release(METER)
    publish_manifest(site.observer, stuck, SITE)
    site.wait_for(stuck, "FETCHING")
    publish_release(site.observer, newer, SITE)
    site.wait_for(newer, "COMMITTED")
    assert site.reports(stuck)[-1]["state"] == "SUPERSEDED"
    assert str(newer.manifest.seq) in site.reports(stuck)[-1]["reason"]
    assert site.serving()[1] == newer.version


def test_relay_that_lost_its_artefacts_starts_and_fetches_them_again(site: Site) -> None:
    release = site.release(METER)
    site.commit(release)
    assert site.tier2.stop() == 0
    shutil.rmtree(site.hierarchy.folder / "full-1" / "relay" / METER)
    since = site.observer.mark()
    topic = f"escalon/{SITE}/releases/{METER}"
    try:
        site.hierarchy.restart(site.tier2)
        site.observer.until(lambda: site.observer.seen(topic, since), "the manifest again")
        assert site.tier2.alive
        assert list((site.hierarchy.folder / "full-1" / "relay" / METER / "blobs").iterdir())
    finally:
        revive(site)


def revive(site: Site) -> None:
    """Leaves a tier-2 that runs to the tests that follow."""
    if not site.tier2.alive:
        shutil.rmtree(site.hierarchy.folder / "full-1" / "relay")
        site.hierarchy.restart(site.tier2)


# Not from us


def flipped(envelope: bytes, position: int) -> bytes:
    """The envelope with one bit turned."""
    return envelope[:position] + bytes([envelope[position] ^ 1]) + envelope[position + 1 :]


Forgery = Callable[[Site, str], bytes]
STRANGER = ReleaseKey()
FORGERIES: dict[str, Forgery] = {
    "unsigned": lambda site, channel: site.release(channel).envelope[80:],
    "signed-by-a-stranger": lambda site, channel: (
        STRANGER.release(channel, next(site.numbers), NEW_TURN).envelope
    ),
    "stranger-with-our-key-id": lambda site, channel: (
        site.release(channel).envelope[:17]
        + STRANGER.release(channel, next(site.numbers), NEW_TURN).envelope[17:]
    ),
    "signature-turned": lambda site, channel: flipped(site.release(channel).envelope, 20),
    "body-turned": lambda site, channel: flipped(site.release(channel).envelope, 100),
    "cut-off": lambda site, channel: site.release(channel).envelope[:-1],
    "too-large": lambda site, channel: site.release(channel).envelope + b" " * 300_000,
    "one-byte": lambda site, channel: b"E",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_forged_release_is_not_handed_down_by_the_relay(site: Site, forge: Forgery) -> None:
    before, refused = site.serving(), site.drops("full-1", "release_refused")
    since = site.observer.mark()
    site.cloud.publish(f"escalon/cloud/releases/{METER}", forge(site, METER), retain=True)
    site.wait_for_drop("full-1", "release_refused", refused)
    assert site.serving() == before
    assert not site.observer.seen("/releases/", since)


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_forged_release_on_the_site_itself_is_refused_by_tier1(site: Site, forge: Forgery) -> None:
    before, refused = site.serving(), site.drops("edge-1", "release_refused")
    since = site.observer.mark()
    site.observer.publish(f"escalon/{SITE}/releases/{METER}", forge(site, METER), retain=True)
    site.wait_for_drop("edge-1", "release_refused", refused)
    assert site.serving() == before
    assert not site.observer.seen("/updates/", since)


def test_release_of_another_channel_is_refused(site: Site) -> None:
    before, refused = site.serving(), site.drops("edge-1", "release_refused")
    other = site.release(GAUGE)
    site.observer.publish(f"escalon/{SITE}/releases/{METER}", other.envelope, retain=True)
    site.wait_for_drop("edge-1", "release_refused", refused)
    assert site.serving() == before


def test_replayed_old_release_is_refused(site: Site) -> None:
    old, new = site.release(METER), site.release(METER, TIER1_TURN)
    site.commit(old)
    site.commit(new)
    refused = site.drops("edge-1", "release_refused")
    publish_release(site.observer, old, SITE)
    site.wait_for_drop("edge-1", "release_refused", refused)
    assert site.serving() == (label(0, TIER1_TURN), new.version)


# From us, but not for this node


def wrong_shape() -> Json:
    """A release whose model takes pictures of 2 by 2."""
    return {"input_shape": (2, 2), "golden": Tensor.of(GOLDEN_INPUTS.reshape(-1, 2, 2))}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expires": 1.0}, "expired"),
        (wrong_shape(), "shape"),
        ({"artefact": bytes(MAX_ARTIFACT_BYTES + 1)}, "bytes"),
    ],
    ids=["expired", "another-shape", "too-large"],
)
def test_release_that_does_not_fit_is_rejected_with_the_reason(
    site: Site, changes: Json, reason: str
) -> None:
    before, release = site.serving(), site.release(METER, **changes)
    publish_release(site.cloud, release)
    report = site.wait_for(release, "REJECTED")
    assert reason in report["reason"]
    assert site.serving() == before


# For this node, but broken


def wrong_golden_scores() -> Json:
    """Golden scores that the model does not give."""
    return {"of_variant": {"scores": Tensor.of(GOLDEN_INPUTS @ weights(TIER1_TURN))}}


def one_label_too_many() -> Json:
    """Labels that do not fit the model's outputs."""
    scores = Tensor.of(np.zeros((len(GOLDEN_INPUTS), 4), np.float32))
    return {"of_variant": {"scores": scores, "tolerance": 1e3}, "labels": (*LABELS, "west")}


def nan_golden_input() -> Json:
    """A golden input to which the model answers NaN."""
    scores = Tensor.of(np.zeros((1, 3), np.float32))
    golden = Tensor.of(np.array([NAN_MAKING], np.float32))
    return {"of_variant": {"scores": scores, "tolerance": 1e3}, "golden": golden}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (wrong_golden_scores(), "golden"),
        (one_label_too_many(), "labels"),
        (nan_golden_input(), "NaN"),
        ({"artefact": model_bytes(NEW_TURN, name="cut")[:-40]}, "does not load"),
        ({"artefact": b"this is no model" * 20}, "does not load"),
    ],
    ids=["wrong-golden-scores", "one-label-too-many", "nan", "cut-off-model", "no-model"],
)
def test_model_that_fails_the_smoke_test_never_serves(
    site: Site, changes: Json, reason: str
) -> None:
    before, release = site.serving(), site.release(METER, **changes)
    publish_release(site.cloud, release)
    report = site.wait_for(release, "FAILED_NO_STATE_CHANGE")
    assert reason in report["reason"]
    assert [one["state"] for one in site.reports(release)][-2] == "SMOKE"
    assert site.serving() == before


def test_release_after_a_failed_one_is_taken(site: Site) -> None:
    failed, good = site.release(METER, **wrong_golden_scores()), site.release(METER)
    publish_release(site.cloud, failed)
    site.wait_for(failed, "FAILED_NO_STATE_CHANGE")
    site.commit(good)
    assert site.serving() == (label(0, NEW_TURN), good.version)


def test_relay_hands_nothing_down_until_a_turned_chunk_is_put_right(site: Site) -> None:
    before, bad_chunks = site.serving(), site.drops("full-1", "bad_chunk")
    release = site.release(METER)
    publish_turned_chunk(site.cloud, release, "cloud")
    site.wait_for_drop("full-1", "bad_chunk", bad_chunks)
    assert site.serving() == before
    assert site.reports(release) == []
    site.cloud.publish(chunk_topic(release, 1), chunks(release)[1], retain=True)
    site.wait_for(release, "COMMITTED")


def test_turned_chunk_that_stays_ends_the_update_at_its_deadline(site: Site) -> None:
    before, bad_chunks = site.serving("gauge"), site.drops("edge-1", "bad_chunk")
    release = site.release(GAUGE)
    publish_turned_chunk(site.observer, release, SITE)
    report = site.wait_for(release, "TIMED_OUT")
    assert report["reason"]
    assert site.drops("edge-1", "bad_chunk") > bad_chunks
    assert site.serving("gauge") == before


def publish_turned_chunk(observer: Observer, release: SignedRelease, at: str) -> None:
    """Publishes a release of which one bit of chunk 1 is turned."""
    for index, chunk in enumerate(chunks(release)):
        payload = flipped(chunk, 5) if index == 1 else chunk
        observer.publish(chunk_topic(release, index, at), payload, retain=True)
    publish_manifest(observer, release, at)


# Broken, and found out only in service


def test_killed_in_probation_tier1_goes_back_and_never_tries_that_model_again(site: Site) -> None:
    before, release = site.serving("gauge"), site.release(GAUGE)
    publish_release(site.cloud, release)
    site.wait_for(release, "PROBATION")
    assert site.serving("gauge") == (label(0, NEW_TURN), release.version)
    site.tier1.kill()
    site.hierarchy.restart(site.tier1)
    assert site.wait_for(release, "ROLLED_BACK")["reason"]
    assert site.serving("gauge") == before
    again = site.release(GAUGE, artefact=release.artefact)
    publish_release(site.cloud, again)
    assert "failed" in site.wait_for(again, "REJECTED")["reason"]
    assert site.serving("gauge") == before


def fail_in_probation(site: Site) -> None:
    """Publishes a release for ``gauge`` whose model answers NaN once it serves."""
    release = site.release(GAUGE)
    publish_release(site.cloud, release)
    site.wait_for(release, "PROBATION")
    assert site.serving("gauge")[1] == release.version
    site.observer.send(NAN_MAKING, pipeline="gauge")
    report = site.wait_for(release, "ROLLED_BACK")
    assert "scores" in report["reason"]


def test_model_file_serves_again_when_the_first_release_fails_in_probation(site: Site) -> None:
    before = site.serving("gauge")
    assert before == (label(0, TIER1_TURN), "local-1")
    fail_in_probation(site)
    assert site.serving("gauge") == before


def test_committed_release_serves_again_when_the_next_fails_in_probation(site: Site) -> None:
    site.commit(site.release(GAUGE))
    before = site.serving("gauge")
    fail_in_probation(site)
    assert site.serving("gauge") == before
