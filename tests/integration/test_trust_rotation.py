"""A stolen release key is revoked where the root keys are; the new trust walks down to tier-1."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud.registry import Registry
from shared.releases.keys import key_id_of
from tests.integration.hierarchy import (
    ROOT,
    SITE,
    Hierarchy,
    Json,
    Node,
    Observer,
    eventually,
    publish_release,
    update_topic,
)
from tests.integration.models import (
    LABELS,
    NEW_TURN,
    SHAPE,
    TIER1_TURN,
    TIER2_TURN,
    ReleaseKey,
    SignedRelease,
    label,
    sure,
)

CHANNEL, FULL, SMALL = "meter-tier1", "other-tier2", "other-tier1"


def escalon_keys(*arguments: str) -> Json:
    """Runs ``escalon keys``; returns the trust document in force."""
    command = [sys.executable, "-m", "escalon", "keys", *arguments, "--json"]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    trust: Json = json.loads(run.stdout)
    return trust


@dataclass
class Fleet:
    """A cloud with its broker, a site with tier-2 and tier-1, and the folder of the keys."""

    hierarchy: Hierarchy
    keys: Path
    tier1: Node
    cloud: Observer
    site: Observer
    numbers: Iterator[int]

    def key(self) -> ReleaseKey:
        """The release key that the cloud would be given now."""
        key = ReleaseKey()
        key.private_pem = (self.keys / "release.key").read_bytes()
        return key

    def revoke(self) -> Json:
        """Revokes the release key, and waits until the cloud has noticed; returns the document."""
        (public,) = escalon_keys("show", str(self.keys))["releases"]["keys"]
        trust = escalon_keys("revoke", str(self.keys), key_id_of(public))
        topic = f"cloud/trust/{trust['version']}"
        self.cloud.until(lambda: self.cloud.seen(topic), f"version {trust['version']} in the cloud")
        return trust

    def committed(self, release: SignedRelease) -> bool:
        report = self.site.latest(update_topic("edge-1", CHANNEL))
        wanted = ("COMMITTED", release.manifest.key_epoch, release.manifest.seq)
        return report is not None and wanted == (
            report["state"], report["key_epoch"], report["seq"],
        )  # fmt: skip

    def commit(self, release: SignedRelease) -> None:
        """Publishes in the cloud and waits until tier-1 has committed."""
        publish_release(self.cloud, release)
        self.site.until(lambda: self.committed(release), "the commit")

    def serving(self) -> tuple[str, str]:
        answer = self.site.ask(sure(0))
        return answer["prediction"], answer["model_version"]

    def refused_by(self, node: str) -> int:
        return self.hierarchy.drops(node, self.site)["release_refused"]


@pytest.fixture
def fleet(require_mosquitto: None, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet founded by ``escalon keys init``; every node was installed with the first version."""
    keys, installed = tmp_path / "keys", tmp_path / "installed.signed"
    escalon_keys("init", str(keys))
    shutil.copy(keys / "trust.signed", installed)
    with ExitStack() as stack:
        hierarchy = stack.enter_context(Hierarchy(tmp_path, "mosquitto", two_brokers=True))
        assert hierarchy.cloud_broker is not None
        cloud = stack.enter_context(Observer(hierarchy.cloud_broker.port))
        site = stack.enter_context(hierarchy.observer())
        start_cloud(hierarchy, keys, hierarchy.cloud_broker.url)
        tier2 = {
            "cloud": {"url": hierarchy.cloud_broker.url},
            "pipelines": {"meter": hierarchy.tier2_pipeline()},
            "relay": {"channels": [CHANNEL], "trust": str(installed)},
        }
        hierarchy.start("tier2", "full-1", tier2)
        releases = hierarchy.releases(CHANNEL, trust=str(installed))
        pipelines = {"meter": hierarchy.tier1_pipeline(releases=releases)}
        tier1 = hierarchy.start("tier1", "edge-1", {"pipelines": pipelines})
        cloud.until(lambda: cloud.seen("cloud/trust/1"), "the first version in the cloud")
        yield Fleet(hierarchy, keys, tier1, cloud, site, itertools.count(1))


def start_cloud(hierarchy: Hierarchy, keys: Path, url: str) -> None:
    """Starts a cloud that finds the releases of its own channels in its registry."""
    key = ReleaseKey()
    key.private_pem = (keys / "release.key").read_bytes()
    registry = Registry(hierarchy.folder / "cloud" / "registry")
    for channel, turn in ((FULL, TIER2_TURN), (SMALL, TIER1_TURN)):
        key.release(channel, 1, turn).register(registry)
    training = {"base": str(keys / "data"), "first_job": str(keys / "first")}
    pipeline = {
        "input": {"shape": list(SHAPE)},
        "labels": list(LABELS),
        "tier1_channel": SMALL,
        "tier2_channel": FULL,
        "training": training,
    }
    config = {
        "site": "cloud",
        "broker": {"url": url},
        "signing_key": str(keys / "release.key"),
        "trust": str(keys / "trust.signed"),
        "pipelines": {"meter": pipeline},
    }
    hierarchy.add("cloud", "cloud", config).start()


def test_after_a_revocation_the_fleet_takes_the_new_key_and_nothing_of_the_stolen_one(
    fleet: Fleet,
) -> None:
    stolen = fleet.key()
    first = stolen.release(CHANNEL, 1, NEW_TURN)
    fleet.commit(first)
    trust = fleet.revoke()
    assert (trust["version"], trust["key_epoch"]) == (2, 2)
    handed_down = f"escalon/{SITE}/trust/2"
    fleet.site.until(lambda: fleet.site.seen(handed_down), "the second version on the site")
    second = (fleet.keys / "trust-2.signed").read_bytes()
    assert fleet.site.seen(handed_down)[-1].payload == second
    node_has = fleet.hierarchy.folder / "edge-1" / "trust" / "2.trust"
    eventually(node_has.exists, "the second version at tier-1")
    assert node_has.read_bytes() == second
    assert fleet.serving() == (label(0, NEW_TURN), "v1")

    # The thief is at the cloud's broker, then at the site's.
    forged = stolen.release(CHANNEL, 2**40, TIER1_TURN)
    refused, since = fleet.refused_by("full-1"), fleet.site.mark()
    publish_release(fleet.cloud, forged)
    eventually(lambda: fleet.refused_by("full-1") > refused, "refused by tier-2")
    assert not fleet.site.seen("/releases/", since)
    refused = fleet.refused_by("edge-1")
    publish_release(fleet.site, forged, SITE)
    eventually(lambda: fleet.refused_by("edge-1") > refused, "refused by tier-1")
    assert fleet.serving() == (label(0, NEW_TURN), "v1")

    new = fleet.key().release(CHANNEL, 1, TIER1_TURN, key_epoch=2, version="v1-anew")
    fleet.commit(new)
    assert fleet.serving() == (label(0, TIER1_TURN), "v1-anew")
    fleet.tier1.kill()
    fleet.hierarchy.restart(fleet.tier1)
    assert fleet.serving() == (label(0, TIER1_TURN), "v1-anew")


def test_a_node_that_was_off_during_two_revocations_comes_back_to_the_newest_key(
    fleet: Fleet,
) -> None:
    fleet.tier1.kill()
    for _ in range(2):
        fleet.revoke()  # each must have been there for the cloud: it hands down what it has seen
    fleet.site.until(lambda: fleet.site.seen(f"{SITE}/trust/3"), "the third version on the site")
    release = fleet.key().release(CHANNEL, 1, NEW_TURN, key_epoch=3)
    publish_release(fleet.cloud, release)
    fleet.hierarchy.restart(fleet.tier1)
    fleet.site.until(lambda: fleet.committed(release), "the commit")
    assert fleet.serving() == (label(0, NEW_TURN), "v1")
