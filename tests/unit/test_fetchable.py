"""What nodes may still have to fetch stays at the broker over a restart, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.fetchable import fetchable
from cloud.rollout.commands import roll_back
from cloud.rollout.phases import Phase
from cloud.rollout.plan import RolloutPlan, Wave
from shared.messages import SCHEMA_VERSION, BlobRequest, pack
from tests.builders import CHANNEL
from tests.cloud_rig import TOPICS, CloudRig
from tests.fakes import FakeBroker

SLOW = RolloutPlan(waves=(Wave(share=0), Wave(share=1)))
Rig = Callable[..., CloudRig]


@pytest.fixture
def rig(tmp_path: Path, release_key: Ed25519PrivateKey) -> Rig:
    """Starts one life after the other on one folder and one broker."""
    hub = FakeBroker()

    def started(**changes: object) -> CloudRig:
        for link in hub.links:
            link.disconnect()
        made = CloudRig(tmp_path, release_key, hub, **changes)  # type: ignore[arg-type]
        made.start()
        return made

    return started


def names(cloud: CloudRig) -> set[str]:
    return {release.version for release in fetchable(cloud.channel)}


def answers(cloud: CloudRig, version: str) -> bool:
    """Whether a node that asks for a chunk of a version gets it."""
    found = cloud.registry.version(CHANNEL, version)
    assert found is not None
    sha256 = found.release.artefacts[0].sha256
    cloud.hub.published.clear()
    asks = pack(BlobRequest(SCHEMA_VERSION, sha256, (0,)))
    cloud.hub.publish(TOPICS.blob_requests("gateway"), asks)
    cloud.turn()
    return bool(cloud.hub.payloads(TOPICS.blob(sha256, 0)))


def retained(cloud: CloudRig) -> set[str]:
    """Returns the versions whose chunks the broker has, all of them."""
    for _ in range(10):
        cloud.turn()
    return {
        version.name
        for version in cloud.registry.versions(CHANNEL)
        if TOPICS.blob(version.release.artefacts[0].sha256, 0) in cloud.hub.retained
    }


def completed(cloud: CloudRig, *gains: float) -> CloudRig:
    for gain in gains:
        cloud.release(gain)
        cloud.turn()
        cloud.until(Phase.COMPLETED)
    return cloud


def test_with_no_release_there_is_nothing(rig: Rig) -> None:
    assert names(rig()) == set()


def test_in_a_rollout_it_is_what_is_rolled_out_and_what_was_before(rig: Rig) -> None:
    completed(rig(), 1.0, 2.0)
    cloud = rig(plan=SLOW)
    cloud.release(3.0)
    cloud.until(Phase.RUNNING)
    assert names(cloud) == retained(cloud) == {"2", "3"}


def test_the_way_back_over_one_that_was_superseded_stays(rig: Rig) -> None:
    completed(rig(), 1.0)
    cloud = rig(plan=SLOW)
    for gain in (2.0, 3.0):
        cloud.release(gain)
        cloud.turn()
        cloud.until(Phase.RUNNING)
    assert names(cloud) == retained(cloud) == {"1", "2", "3"}


def test_after_a_rollback_it_is_what_came_back_and_what_went(rig: Rig) -> None:
    cloud = completed(rig(), 1.0, 2.0)
    with cloud.channel.lock.claimed():
        cloud.channel.command(roll_back)
    cloud.until(Phase.ROLLED_BACK)
    assert names(cloud) == retained(cloud) == {"1", "2"}


def killed_with_too_much_retained(cloud: CloudRig) -> None:
    """Begins the rollout of version 3, of which nothing reaches the broker any more."""
    completed(cloud, 1.0, 2.0)
    cloud.link.full = True
    cloud.release(3.0)
    cloud.turn()


def test_after_a_restart_the_way_back_is_served_and_what_is_older_goes(rig: Rig) -> None:
    killed_with_too_much_retained(rig())
    cloud = rig()
    cloud.until(Phase.COMPLETED)
    assert names(cloud) == retained(cloud) == {"2", "3"}
    assert [answers(cloud, version) for version in ("1", "2", "3")] == [False, True, True]


def test_while_the_rollout_cannot_be_read_nothing_goes(rig: Rig, tmp_path: Path) -> None:
    killed_with_too_much_retained(rig())
    record = tmp_path / "rollouts" / f"{CHANNEL}.json"
    whole = record.read_bytes()
    record.write_bytes(b"{")
    cloud = rig()
    assert retained(cloud) == {"1", "2", "3"}
    assert "chunks of older releases stay at the broker" in cloud.fetchable.trouble
    record.write_bytes(whole)
    assert retained(cloud) == {"2", "3"}
    assert cloud.fetchable.trouble == ""
