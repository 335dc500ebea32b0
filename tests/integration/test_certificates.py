"""A certificate on real nodes: voided from the cloud, restored, broken by the node's own audit.

The test is the cloud. Tier-2 stands between two brokers and relays; it also answers the audit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from shared.model_spec import Calibration, Certificate
from shared.releases.manifest import Void, sign_manifest
from tests.integration.hierarchy import (
    SITE,
    BrokerKind,
    Hierarchy,
    Json,
    Node,
    Observer,
    eventually,
    info_topic,
    metric,
    publish_manifest,
    publish_release,
    update_topic,
)
from tests.integration.models import NEW_TURN, THRESHOLD, TIER2_TURN, SignedRelease, label, sure

METER = "meter-tier1"
CERTIFICATE = Certificate(alpha=0.05, delta=0.05, n=400, disagreements=8, coverage=0.8, bound=0.04)
VOID = Void(reason="the fleet's escalation rate has drifted", since=1_700_000_000.0)


@dataclass(frozen=True)
class Site:
    """Two brokers, tier-2 between them, a tier-1 that audits half of what it answers."""

    hierarchy: Hierarchy
    cloud: Observer
    observer: Observer
    tier1: Node
    numbers: Iterator[int]

    def release(self, turn: int) -> SignedRelease:
        """Commits a certified release that is newer than any before."""
        made = self.hierarchy.key.release(
            METER,
            next(self.numbers),
            turn,
            of_variant={"calibration": Calibration(1.0, THRESHOLD, CERTIFICATE)},
        )
        publish_release(self.cloud, made)

        def committed() -> bool:
            report = self.observer.latest(update_topic("edge-1", METER))
            return report is not None and (report["version"], report["state"]) == (
                made.version,
                "COMMITTED",
            )

        eventually(committed, f"{made.version} committed")
        return made

    def manifest_of(self, release: SignedRelease, void: Void | None) -> SignedRelease:
        """Returns a newer manifest of the same release."""
        manifest = msgspec.structs.replace(release.manifest, seq=next(self.numbers), void=void)
        envelope = sign_manifest(manifest, [self.hierarchy.key.private])
        return SignedRelease(envelope, manifest, release.artefact)

    @property
    def info(self) -> Json:
        """What tier-1 says of its model."""
        info = self.observer.latest(info_topic("edge-1"))
        return {} if info is None else dict(info["models"]["meter"])

    def wait_for(self, state: str, version: str) -> Json:
        """Waits until tier-1 says so of its certificate, in its info and in its metric."""

        def says_so() -> bool:
            info = self.info
            return (info.get("version"), info.get("certificate")) == (version, state)

        eventually(says_so, f"{state} of {version}")
        url = self.tier1.metrics_url
        assert metric(url, "edge_certificate_valid", pipeline="meter") == (state == "holds")
        return self.info

    def decided_by(self) -> tuple[str, str]:
        """Who decides a sample that the model is sure of, and what."""
        answer = self.observer.ask(sure(0))
        return answer["decided_by"], answer["prediction"]


@pytest.fixture(scope="module")
def site(kind: BrokerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("certificates")
        hierarchy = stack.enter_context(Hierarchy(folder, kind, two_brokers=True))
        assert hierarchy.cloud_broker is not None
        tier2: dict[str, Any] = {
            "cloud": {"url": hierarchy.cloud_broker.url},
            "pipelines": {"meter": hierarchy.tier2_pipeline()},
            "relay": {"channels": [METER], "trust": str(folder / "trust.signed")},
        }
        hierarchy.start("tier2", "full-1", tier2)
        pipeline = hierarchy.tier1_pipeline(
            releases=hierarchy.releases(METER),
            escalation={"deadline_ms": 2000, "audit_share": 0.5},
        )
        tier1 = hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
        cloud = stack.enter_context(Observer(hierarchy.cloud_broker.port))
        observer = stack.enter_context(hierarchy.observer())
        yield Site(hierarchy, cloud, observer, tier1, itertools.count(1))


def test_void_comes_and_goes_and_is_known_after_a_crash(site: Site) -> None:
    release = site.release(TIER2_TURN)
    info = site.wait_for("holds", release.version)
    assert info["threshold"] == THRESHOLD
    since = site.observer.mark()
    publish_manifest(site.cloud, site.manifest_of(release, VOID))
    info = site.wait_for("void", release.version)
    assert (info["remark"], info["threshold"]) == (VOID.reason, THRESHOLD)
    assert site.decided_by() == ("tier1", label(0, TIER2_TURN))
    # No update: nothing was reported, and no file asked for.
    assert not site.observer.seen("/updates/", since)
    assert not site.observer.seen("/blob-requests/", since)
    site.tier1.kill()
    site.hierarchy.restart(site.tier1)
    site.wait_for("void", release.version)
    publish_manifest(site.cloud, site.manifest_of(release, None))
    site.wait_for("holds", release.version)


def test_what_was_tampered_with_or_is_replayed_neither_voids_nor_restores(site: Site) -> None:
    release = site.release(TIER2_TURN)
    void = site.manifest_of(release, VOID)
    at = void.envelope.index(b"drifted")
    forged = void.envelope[:at] + b"DRIFTED" + void.envelope[at + 7 :]
    topic = f"escalon/{SITE}/releases/{METER}"
    refused = site.hierarchy.drops("edge-1", site.observer)["release_refused"]

    def wait_for_refusal(count: int) -> None:
        def counted() -> bool:
            drops = site.hierarchy.drops("edge-1", site.observer)
            return drops["release_refused"] >= refused + count

        eventually(counted, f"{count} refused")

    site.observer.publish(topic, forged, retain=True)
    wait_for_refusal(1)
    assert site.info["certificate"] == "holds"
    site.observer.publish(topic, void.envelope, retain=True)
    site.wait_for("void", release.version)
    site.observer.publish(topic, release.envelope, retain=True)
    wait_for_refusal(2)
    assert site.info["certificate"] == "void"


def test_the_audit_breaks_a_certificate_and_only_a_new_release_mends_it(site: Site) -> None:
    """Tier-2 says something else to everything: no threshold holds, and all is asked."""
    release = site.release(NEW_TURN)
    site.wait_for("holds", release.version)
    eventually(
        lambda: site.decided_by() == ("tier2", label(0, TIER2_TURN)), "the node asks everything"
    )
    info = site.wait_for("broken", release.version)
    assert info["threshold"] is None
    assert "nothing is accepted" in info["remark"]
    site.tier1.kill()
    site.hierarchy.restart(site.tier1)
    assert site.decided_by() == ("tier2", label(0, TIER2_TURN))
    site.wait_for("broken", release.version)
    mended = site.release(TIER2_TURN)
    site.wait_for("holds", mended.version)
    assert site.decided_by() == ("tier1", label(0, TIER2_TURN))
