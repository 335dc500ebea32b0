"""A void certificate is one more manifest of the same release, until something new is offered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.rollout.commands import roll_back
from cloud.rollout.phases import Phase
from cloud.rollout.plan import RolloutPlan, Wave
from cloud.rollout.record import RolloutRecord
from cloud.rollout.voids import inherited, voided
from shared.releases.manifest import Manifest, Void
from shared.topics import Topics
from tests.builders import CHANNEL, EPOCH_S
from tests.cloud_rig import CloudRig
from tests.fakes import FakeBroker

VOID = Void(reason="30% of 609 samples escalated where 19% were certified", since=EPOCH_S)
SLOW = RolloutPlan(waves=(Wave(share=0), Wave(share=1)))
Rig = Callable[..., CloudRig]


@pytest.fixture
def hub() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def rig(tmp_path: Path, release_key: Ed25519PrivateKey, hub: FakeBroker) -> Rig:
    """Starts one life after the other on one folder and one broker."""

    def started(**changes: object) -> CloudRig:
        made = CloudRig(tmp_path, release_key, hub, **changes)  # type: ignore[arg-type]
        made.start()
        return made

    return started


def completed(cloud: CloudRig, gain: float) -> RolloutRecord:
    cloud.release(gain)
    return cloud.until(Phase.COMPLETED)


def at_broker(cloud: CloudRig) -> Manifest:
    found = cloud.at_broker()
    assert found is not None
    return found


def void(cloud: CloudRig, version: str) -> None:
    cloud.director.void(version, VOID)
    for _ in range(3):
        cloud.turn(knows_fleet=False)
    assert cloud.director.is_void(version)


def test_the_next_manifest_says_so_and_nothing_else(rig: Rig) -> None:
    cloud = rig()
    completed(cloud, 1.0)
    before = at_broker(cloud)
    void(cloud, "1")
    after = at_broker(cloud)
    assert after.void == VOID
    unchanged = {"seq": before.seq, "issued": before.issued, "expires": before.expires}
    assert msgspec.structs.replace(after, void=None, **unchanged) == before
    assert after.seq == before.seq + 1


def test_no_rollout_begins_and_no_file_goes_out_again(rig: Rig, hub: FakeBroker) -> None:
    cloud = rig()
    before = completed(cloud, 1.0)
    chunks = Topics("escalon", "cloud").blob_chunk
    sent = [message for message in hub.published if chunks(message.topic)]
    void(cloud, "1")
    record = cloud.until(Phase.COMPLETED)
    assert record == msgspec.structs.replace(
        before, seq=before.seq + 1, voids={"1": VOID}, seen_s=record.seen_s
    )
    assert [message for message in hub.published if chunks(message.topic)] == sent


def test_it_is_said_once_and_known_after_a_restart(rig: Rig) -> None:
    cloud = rig()
    completed(cloud, 1.0)
    void(cloud, "1")
    seqs = cloud.seqs()
    again = rig(now_s=cloud.now_s)
    assert again.director.is_void("1")
    again.director.void("1", VOID)
    for _ in range(3):
        again.turn()
    assert again.seqs() == seqs
    assert at_broker(again).void == VOID


def test_a_rollout_under_way_goes_on(rig: Rig) -> None:
    cloud = rig(plan=SLOW)
    cloud.release(1.0)
    before = cloud.until(Phase.RUNNING)
    cloud.turn()
    void(cloud, "1")
    record = cloud.until(Phase.RUNNING)
    assert (record.wave, record.since_s) == (before.wave, before.since_s)
    assert set(record.nodes) == {f"plant/{name}" for name in before_names(cloud)}
    assert at_broker(cloud).rollout.share == 0.0


def before_names(cloud: CloudRig) -> list[str]:
    record = cloud.director.record
    assert record is not None
    return [name.removeprefix("plant/") for name in record.canaries]


def test_a_new_version_ends_it(rig: Rig) -> None:
    cloud = rig()
    completed(cloud, 1.0)
    void(cloud, "1")
    completed(cloud, 2.0)
    assert at_broker(cloud).void is None
    assert not cloud.director.is_void("2")


def test_who_goes_back_to_a_version_goes_back_to_its_void_certificate(rig: Rig) -> None:
    cloud = rig()
    completed(cloud, 1.0)
    void(cloud, "1")
    completed(cloud, 2.0)
    with cloud.channel.lock.claimed():
        cloud.channel.command(roll_back)
    cloud.until(Phase.ROLLED_BACK)
    assert (at_broker(cloud).release.version, at_broker(cloud).void) == ("1", VOID)


def test_a_version_that_is_aborted_leaves_the_one_before_void(rig: Rig) -> None:
    completed(rig(), 1.0)
    cloud = rig(fails=("node-0", "node-1", "node-2"))
    void(cloud, "1")
    cloud.release(2.0)
    cloud.until(Phase.ABORTED)
    assert cloud.director.standing == "1"
    assert cloud.director.is_void("1")


@pytest.mark.parametrize("act", ["retry", "offer"])
def test_a_person_who_offers_the_same_version_ends_it(rig: Rig, act: str) -> None:
    cloud = rig()
    completed(cloud, 1.0)
    void(cloud, "1")
    with cloud.channel.lock.claimed():
        if act == "retry":
            cloud.channel.retry(cloud.fleet(), cloud.ticket())
        else:
            cloud.channel.offer("1", cloud.fleet(), cloud.ticket())
    cloud.turn()
    cloud.until(Phase.COMPLETED)
    assert at_broker(cloud).void is None
    assert not cloud.director.is_void("1")


def test_where_there_was_never_a_rollout_the_manifest_itself_remembers(
    rig: Rig, tmp_path: Path
) -> None:
    completed(rig(), 1.0)
    (tmp_path / "rollouts" / f"{CHANNEL}.json").unlink()
    cloud = rig()
    assert cloud.director.record is None
    void(cloud, "1")
    assert at_broker(cloud).void == VOID
    assert rig(now_s=cloud.now_s).director.is_void("1")


def test_of_a_version_that_a_rollout_has_nothing_to_do_with_it_says_nothing(rig: Rig) -> None:
    cloud = rig()
    record = completed(cloud, 1.0)
    assert voided(record, "7", VOID) is record
    assert inherited([record], "7") == {}
    assert inherited([voided(record, "1", VOID)], "") == {}
