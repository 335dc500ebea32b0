"""What a rollout decides is signed once and published, wherever the cloud is killed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.rollout.commands import halt, pause, resume, roll_back
from cloud.rollout.decision import Decision
from cloud.rollout.phases import IllegalCommandError, Phase
from cloud.rollout.plan import RolloutPlan, Wave
from cloud.rollout.record import RolloutRecord
from cloud.signer import DAY_S
from shared import durable
from shared.errors import StorageError
from shared.releases.manifest import Manifest
from tests.builders import CHANNEL, EPOCH_S, trust_in
from tests.cloud_rig import CloudRig
from tests.fakes import FakeBroker

Rig = Callable[..., CloudRig]


@pytest.fixture
def rig(tmp_path: Path, release_key: Ed25519PrivateKey) -> Rig:
    """Starts one life after the other on one folder and one broker."""
    hub = FakeBroker()

    def started(**changes: object) -> CloudRig:
        made = CloudRig(tmp_path, release_key, hub, **changes)  # type: ignore[arg-type]
        made.start()
        return made

    return started


def manifests(rig: CloudRig) -> list[Manifest]:
    found = [rig.registry.manifest(CHANNEL, seq) for seq in rig.seqs()]
    return [entry.manifest for entry in found if entry]


def completed(rig: CloudRig, gain: float) -> None:
    rig.release(gain)
    rig.until(Phase.COMPLETED)


def test_a_version_goes_to_the_canary_first_and_then_to_all_each_under_a_new_seq(rig: Rig) -> None:
    cloud = rig()
    cloud.release(1.0)
    record = cloud.until(Phase.COMPLETED)
    canary, everybody = manifests(cloud)
    assert (canary.rollout.share, canary.rollout.nodes) == (0.0, record.canaries)
    assert (everybody.rollout.share, everybody.seq) == (1.0, 2)
    assert canary.rollout.id == everybody.rollout.id == record.id
    assert cloud.at_broker() == everybody
    assert (record.version, record.base, record.seq) == ("1", "", 2)


def test_nothing_begins_before_the_fleet_is_known(rig: Rig) -> None:
    cloud = rig()
    cloud.release(1.0)
    for _ in range(3):
        cloud.turn(knows_fleet=False)
    assert (cloud.seqs(), cloud.director.standing) == ([], "1")
    cloud.until(Phase.COMPLETED)


def test_a_version_that_fails_on_the_canary_is_halted_there_and_the_one_before_stands(
    rig: Rig,
) -> None:
    completed(rig(), 1.0)
    cloud = rig(fails=("node-0", "node-1", "node-2"))
    cloud.release(2.0)
    record = cloud.until(Phase.ABORTED)
    halted = manifests(cloud)[-1]
    assert (halted.state, halted.rollout.share, halted.release.version) == ("halted", 0.0, "2")
    assert cloud.at_broker() == halted
    assert "p95 latency rose" in record.reason
    assert cloud.director.standing == "1"


def test_a_rollback_brings_the_version_before_to_everybody_outside_the_rollout(rig: Rig) -> None:
    completed(rig(), 1.0)
    cloud = rig()
    completed(cloud, 2.0)
    with cloud.channel.lock.claimed():
        cloud.channel.command(roll_back)
    record = cloud.until(Phase.ROLLED_BACK)
    back = cloud.at_broker()
    assert back is not None
    assert (back.release.version, back.rollout.share, back.state) == ("1", 1.0, "active")
    assert back.rollout.id != record.id
    assert cloud.director.standing == "1"


def test_what_has_nothing_before_it_is_not_rolled_back_and_stays_as_it_was(rig: Rig) -> None:
    cloud = rig()
    completed(cloud, 1.0)
    before = cloud.channel.read()
    with (
        cloud.channel.lock.claimed(),
        pytest.raises(IllegalCommandError, match="no release from before version 1; possible: h"),
    ):
        cloud.channel.command(roll_back)
    assert cloud.channel.read() == before


def test_a_person_halts_while_the_cloud_runs_and_resumes_with_another_seq(rig: Rig) -> None:
    slow = RolloutPlan(waves=(Wave(share=0), Wave(share=1)))
    cloud = rig(plan=slow)
    cloud.release(1.0)
    cloud.until(Phase.RUNNING)
    with rig(plan=slow).channel.lock.claimed():  # another process
        rig(plan=slow).channel.command(halt)
    assert cloud.until(Phase.HALTED).seq == 2
    halted = cloud.at_broker()
    assert halted is not None
    assert halted.state == "halted"
    with cloud.channel.lock.claimed():
        cloud.channel.command(resume)
    cloud.until(Phase.RUNNING)
    assert [(each.seq, each.state) for each in manifests(cloud)] == [
        (1, "active"), (2, "halted"), (3, "active"),
    ]  # fmt: skip


def test_while_a_person_holds_the_lock_a_turn_waits_for_the_next(rig: Rig) -> None:
    cloud = rig()
    cloud.release(1.0)
    with rig().channel.lock.claimed():
        cloud.turn()
    assert cloud.director.record is None
    cloud.until(Phase.COMPLETED)


def test_who_does_not_get_the_lock_says_that_another_has_it(rig: Rig) -> None:
    with (
        rig().channel.lock.claimed(),
        pytest.raises(StorageError, match="another process still holds the rollout of meter-tier1"),
        rig().channel.lock.claimed(wait_s=0.0),
    ):
        raise AssertionError("two hold it")


def test_a_new_version_takes_the_place_of_one_that_runs_and_keeps_what_was_proven_before(
    rig: Rig, tmp_path: Path
) -> None:
    completed(rig(), 1.0)
    cloud = rig(plan=RolloutPlan(waves=(Wave(share=0), Wave(share=1))))
    cloud.release(2.0)
    before = cloud.until(Phase.RUNNING)
    cloud.release(3.0)
    cloud.turn()
    record = cloud.until(Phase.RUNNING)
    assert (record.version, record.base) == ("3", "1")
    archived = (tmp_path / "rollouts" / CHANNEL / f"{before.id}.json").read_bytes()
    ended = msgspec.json.decode(archived)
    assert ended["phase"] == "superseded"
    assert f"superseded by version 3 in rollout {record.id}" in ended["reason"]


@pytest.mark.parametrize("command", [pause, halt], ids=["paused", "halted"])
def test_what_a_person_has_stopped_is_not_replaced_by_the_trainer_until_it_is_decided(
    rig: Rig, command: Callable[[RolloutRecord], Decision]
) -> None:
    completed(rig(), 1.0)
    slow = RolloutPlan(waves=(Wave(share=0), Wave(share=1)))
    cloud = rig(plan=slow)
    cloud.release(2.0)
    cloud.until(Phase.RUNNING)
    with cloud.channel.lock.claimed():
        cloud.channel.command(command)
    cloud.turn()
    cloud.release(3.0)
    for life in (cloud, rig(plan=slow)):
        life.turn()
        record = life.channel.read()
        assert record is not None
        assert record.version == life.director.standing == "2"
        assert "version 3 waits: the rollout of version 2 is" in life.director.trouble
    with cloud.channel.lock.claimed():
        cloud.channel.command(roll_back)
    cloud.turn()
    record = cloud.until(Phase.RUNNING)
    assert (record.version, record.base) == ("3", "1")


def test_a_first_version_that_a_person_halted_is_replaced_by_a_person_and_not_by_the_trainer(
    rig: Rig,
) -> None:
    cloud = rig(plan=RolloutPlan(waves=(Wave(share=0), Wave(share=1))))
    cloud.release(1.0)
    cloud.until(Phase.RUNNING)
    with cloud.channel.lock.claimed():
        cloud.channel.command(halt)
    cloud.turn()
    version = cloud.release(2.0).name
    cloud.turn()
    assert "possible: resume; publish or offer a version that you trust" in cloud.director.trouble
    assert cloud.director.standing == "1"
    assert offered(cloud, version).base == ""
    cloud.turn()
    assert (cloud.director.standing, cloud.director.trouble) == ("2", "")


def test_a_retry_offers_the_same_version_with_a_greater_retry_epoch_and_the_same_way_back(
    rig: Rig,
) -> None:
    completed(rig(), 1.0)
    cloud = rig(fails=("node-0", "node-1", "node-2"))
    cloud.release(2.0)
    aborted = cloud.until(Phase.ABORTED)
    again = rig(now_s=cloud.now_s)
    with again.channel.lock.claimed():
        again.channel.retry(again.fleet(), again.ticket())
    record = again.until(Phase.COMPLETED)
    assert (record.version, record.base, record.retry_epoch) == ("2", "1", 1)
    assert record.id != aborted.id
    assert [each.retry_epoch for each in manifests(again)] == [0, 0, 0, 0, 1, 1]


def test_what_is_on_offer_is_not_tried_again(rig: Rig) -> None:
    cloud = rig(plan=RolloutPlan(waves=(Wave(share=0), Wave(share=1))))
    cloud.release(1.0)
    cloud.until(Phase.RUNNING)
    with (
        cloud.channel.lock.claimed(),
        pytest.raises(IllegalCommandError, match="is running; halt it first"),
    ):
        cloud.channel.retry(cloud.fleet(), cloud.ticket())


def test_where_no_node_is_online_nothing_is_offered_to_everybody(rig: Rig) -> None:
    cloud = rig()
    cloud.release(1.0)
    offline = [replace(each, online=False) for each in cloud.fleet()]
    cloud.director.turn(offline, 0, cloud.now_s, cloud.now_s)
    assert cloud.director.record is None
    assert "none of the 3 nodes" in cloud.director.trouble
    cloud.until(Phase.COMPLETED)
    assert cloud.director.trouble == ""


def test_where_no_node_is_known_only_a_first_release_begins(rig: Rig) -> None:
    cloud = rig(nodes=0)
    cloud.release(1.0)
    cloud.turn()
    record = cloud.director.record
    assert record is not None
    assert (record.version, record.share) == ("1", 1.0)
    cloud.names = ["node-0", "node-1"]
    cloud.until(Phase.COMPLETED)
    cloud.names = []
    cloud.release(2.0)
    cloud.turn()
    assert "version 2 waits: no node of meter-tier1 is known" in cloud.director.trouble
    record = cloud.channel.read()
    assert record is not None
    assert record.version == "1"
    cloud.names = ["node-0", "node-1"]
    cloud.turn()
    record = cloud.channel.read()
    assert record is not None
    assert (record.version, record.share, len(record.canaries)) == ("2", 0.0, 1)


# What is not watched

ALL_AT_ONCE = RolloutPlan(waves=(Wave(share=1),), canaries_per_class=0, abort_min_executed=1)


@pytest.mark.parametrize("restarts", [True, False], ids=["down", "cut-off"])
def test_a_cloud_that_was_away_for_a_day_calls_nobody_silent_when_it_is_back(
    rig: Rig, restarts: bool
) -> None:
    cloud = rig(plan=ALL_AT_ONCE)
    cloud.silent = True
    cloud.release(1.0)
    cloud.until(Phase.RUNNING)
    cloud.turn()
    if restarts:
        cloud = rig(plan=ALL_AT_ONCE, now_s=cloud.now_s + DAY_S)
        cloud.silent = True
    else:
        cloud.now_s += DAY_S
    cloud.turn(knows_fleet=False)
    for _ in range(3):
        cloud.turn()
    record = cloud.channel.read()
    assert record is not None
    assert record.phase is Phase.RUNNING
    assert [course.outcome for course in record.nodes.values()] == [None] * 3
    cloud.silent = False
    cloud.turn()
    assert cloud.director.record is not None
    assert cloud.director.record.passed_s == cloud.now_s


def test_who_is_silent_while_the_cloud_watches_times_out(rig: Rig) -> None:
    cloud = rig(plan=ALL_AT_ONCE.model_copy(update={"deadline_s": 20.0}))
    cloud.silent = True
    cloud.release(1.0)
    began_s = cloud.now_s
    record = cloud.until(Phase.ABORTED)
    assert "3 TIMED_OUT" in record.reason
    assert cloud.now_s - began_s >= 20


def test_what_a_watch_has_moved_on_is_written_before_it_is_taken_for_done(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = rig(plan=ALL_AT_ONCE)
    cloud.silent = True
    cloud.release(1.0)
    cloud.until(Phase.RUNNING)
    cloud.turn()
    cloud.now_s += DAY_S
    with monkeypatch.context() as patch:
        patch.setattr(durable, "_put_in_place", full_disk)
        cloud.turn()
    assert "no space" in cloud.director.trouble.lower()
    cloud.turn()
    record = cloud.channel.read()
    assert record is not None
    assert [course.outcome for course in record.nodes.values()] == [None] * 3


def full_disk(written: Path, path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# What cannot begin


def no_such_version(cloud: CloudRig, folder: Path) -> str:
    cloud.director.propose("9")
    return "has no version 9"


def no_archive(cloud: CloudRig, folder: Path) -> str:
    (folder / "rollouts" / CHANNEL).rename(folder / "elsewhere")
    (folder / "rollouts" / CHANNEL).write_bytes(b"no folder")
    cloud.release(3.0)
    return "cannot write"


@pytest.mark.parametrize("troubles", [no_such_version, no_archive])
def test_while_a_proposal_cannot_begin_the_rollout_that_runs_is_watched_on_and_aborted(
    rig: Rig, tmp_path: Path, troubles: Callable[[CloudRig, Path], str]
) -> None:
    completed(rig(), 1.0)
    slow = RolloutPlan(waves=(Wave(share=0), Wave(share=1)))
    cloud = rig(plan=slow, fails=("node-0", "node-1", "node-2"))
    cloud.silent = True
    cloud.release(2.0)
    cloud.until(Phase.RUNNING)
    said = troubles(cloud, tmp_path)
    cloud.turn()
    assert said in cloud.director.trouble
    cloud.silent = False
    record = cloud.until(Phase.ABORTED)
    assert record.version == "2"
    assert said in cloud.director.trouble
    halted = cloud.at_broker()
    assert halted is not None
    assert (halted.state, halted.release.version) == ("halted", "2")


def test_a_rollout_that_the_disk_took_though_it_said_otherwise_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed(rig(), 1.0)
    cloud, real = rig(), durable._put_in_place
    cloud.silent = True
    cloud.release(2.0)
    cloud.until(Phase.RUNNING)
    cloud.turn()

    def doubtful(written: Path, path: Path) -> None:
        real(written, path)
        if path.name == f"{CHANNEL}.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    cloud.release(3.0)
    cloud.silent = False  # and at the same time there is news of the one before
    with monkeypatch.context() as patch:
        patch.setattr(durable, "_put_in_place", doubtful)
        cloud.turn()
    begun = cloud.channel.read()
    assert begun is not None
    assert begun.version == "3"
    assert cloud.until(Phase.COMPLETED).id == begun.id


# What a rollback brings back


def aborted(rig: Rig, gain: float) -> CloudRig:
    cloud = rig(fails=("node-0", "node-1", "node-2"))
    cloud.release(gain)
    cloud.until(Phase.ABORTED)
    return cloud


def offered(cloud: CloudRig, version: str) -> RolloutRecord:
    with cloud.channel.lock.claimed():
        return cloud.channel.offer(version, cloud.fleet(), cloud.ticket()).record


def test_the_version_that_stands_is_offered_again_and_has_what_was_proven_before_it_for_its_base(
    rig: Rig,
) -> None:
    for gain in (1.0, 1.5):
        completed(rig(), gain)
    cloud = aborted(rig, 2.0)
    assert offered(cloud, "2").base == "1"
    cloud.fails = ()
    cloud.until(Phase.COMPLETED)
    with cloud.channel.lock.claimed():
        cloud.channel.command(roll_back)
    cloud.until(Phase.ROLLED_BACK)
    back = cloud.at_broker()
    assert back is not None
    assert back.release.version == "1"


def test_what_has_only_itself_to_go_back_to_is_not_rolled_back(rig: Rig) -> None:
    completed(rig(), 1.0)
    cloud = aborted(rig, 2.0)
    assert offered(cloud, "1").base == ""
    with (
        cloud.channel.lock.claimed(),
        pytest.raises(IllegalCommandError, match="no release from before version 1"),
    ):
        cloud.channel.command(roll_back)


@pytest.mark.parametrize("gain", [1.0, 3.0], ids=["the-one-before", "a-new-one"])
def test_where_the_record_of_an_abort_was_put_aside_what_was_aborted_is_nobodys_base(
    rig: Rig, tmp_path: Path, gain: float
) -> None:
    completed(rig(), 1.0)
    aborted(rig, 2.0)
    path = tmp_path / "rollouts" / f"{CHANNEL}.json"
    path.write_bytes(b"{")
    cloud = rig()
    with pytest.raises(StorageError, match="move the file away"):
        offered(cloud, "1")
    path.rename(tmp_path / "aside")
    version = cloud.release(gain).name
    record = offered(cloud, version)
    assert (record.version, record.base) == (version, "1" if version == "3" else "")
    assert record.number == 2  # after the one in the archive


def test_what_was_superseded_before_it_was_proven_is_nobodys_base(rig: Rig) -> None:
    cloud = rig(plan=RolloutPlan(waves=(Wave(share=0), Wave(share=1))))
    cloud.release(1.0)
    cloud.until(Phase.RUNNING)
    version = cloud.release(2.0).name
    assert offered(cloud, version).base == ""


def test_a_first_version_that_all_run_is_brought_back_though_its_rollout_was_not_over(
    rig: Rig,
) -> None:
    cloud = rig(plan=RolloutPlan(), bare=True, fails=("node-0", "node-1", "node-2"))
    cloud.release(1.0)
    cloud.until(Phase.RUNNING)
    cloud.turn()
    cloud.release(2.0)
    cloud.turn()
    assert cloud.until(Phase.ABORTED).base == "1"
    with cloud.channel.lock.claimed():
        cloud.channel.command(roll_back)
    cloud.until(Phase.ROLLED_BACK)
    back = cloud.at_broker()
    assert back is not None
    assert (back.release.version, back.rollout.share, back.state) == ("1", 1.0, "active")


# What is signed anew


def test_a_manifest_is_signed_anew_before_it_expires_and_says_the_same(rig: Rig) -> None:
    completed(rig(), 1.0)
    early = rig(now_s=EPOCH_S + 59 * DAY_S)
    early.turn()
    assert early.seqs() == [1, 2]
    late = rig(now_s=EPOCH_S + 61 * DAY_S)
    for _ in range(5):
        late.turn()
    old, new = manifests(late)[1:]
    assert new.expires > old.expires
    same = msgspec.structs.replace(new, seq=old.seq, issued=old.issued, expires=old.expires)
    assert same == old
    assert late.at_broker() == new


def test_a_new_key_epoch_has_the_same_signed_anew(rig: Rig, release_key: Ed25519PrivateKey) -> None:
    completed(rig(), 1.0)
    cloud = rig(trust=trust_in(release_key, version=2, key_epoch=2))
    for _ in range(5):
        cloud.turn()
    new = manifests(cloud)[-1]
    assert (new.key_epoch, new.seq) == (2, 3)
    assert cloud.at_broker() == new
    assert cloud.seqs() == [1, 2, 3]


def test_a_manifest_is_issued_no_earlier_than_the_one_before_though_the_clock_steps_back(
    rig: Rig,
) -> None:
    completed(rig(), 1.0)
    cloud = rig(now_s=EPOCH_S - 100 * DAY_S)
    completed(cloud, 2.0)
    issued = [each.issued for each in manifests(cloud)]
    assert issued == sorted(issued)


# What is damaged


def test_a_newest_manifest_that_is_damaged_is_put_aside_and_signed_anew_under_a_new_number(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    completed(rig(), 1.0)
    path = tmp_path / "registry" / CHANNEL / "2.release"
    path.write_bytes(path.read_bytes()[:-1])
    cloud = rig()
    for _ in range(5):
        cloud.turn()
    assert cloud.seqs() == [1, 3]
    newest = cloud.at_broker()
    assert newest is not None
    assert (newest.seq, newest.rollout.share) == (3, 1.0)
    assert "2.release is damaged" in caplog.text
    assert path.with_suffix(".broken").exists()


def test_a_damaged_version_is_restored_from_its_manifest(rig: Rig, tmp_path: Path) -> None:
    completed(rig(), 1.0)
    path = tmp_path / "registry" / CHANNEL / "versions" / "1.json"
    path.write_bytes(path.read_bytes().replace(b'"meter"', b'"matter"'))
    cloud = rig()
    before = cloud.at_broker()
    for _ in range(3):
        cloud.turn()
    assert cloud.at_broker() == before
    restored = cloud.registry.version(CHANNEL, "1")
    assert restored is not None
    assert "restored from manifest seq 2" in restored.notes
    assert path.exists()
    assert path.with_suffix(".broken").exists()


def test_a_damaged_record_stops_the_rollout_and_not_the_manifest(rig: Rig, tmp_path: Path) -> None:
    completed(rig(), 1.0)
    (tmp_path / "rollouts" / f"{CHANNEL}.json").write_bytes(b"{")
    cloud = rig(now_s=EPOCH_S + 61 * DAY_S)
    for _ in range(5):
        cloud.turn()
    assert "is no record of a rollout" in cloud.director.trouble
    newest = cloud.at_broker()
    assert newest is not None
    assert (newest.seq, newest.release.version) == (3, "1")
    with pytest.raises(StorageError, match="move the file away"):
        cloud.channel.read()


# From a backup


def test_numbers_go_on_after_those_that_only_the_rollouts_remember(
    rig: Rig, tmp_path: Path
) -> None:
    cloud = rig()
    completed(cloud, 1.0)
    completed(cloud, 2.0)
    record = cloud.channel.read()
    assert record is not None
    assert cloud.channel.next_seq() == record.seq + 1 == 5
    for seq in (2, 3, 4):
        (tmp_path / "registry" / CHANNEL / f"{seq}.release").unlink()
    assert cloud.channel.next_seq() == 5
    (tmp_path / "rollouts" / f"{CHANNEL}.json").write_bytes(b"{")
    assert cloud.channel.next_seq() == 3  # of the one before, whose end is kept


def test_a_manifest_that_is_lost_is_signed_anew_under_a_number_that_no_node_has_seen(
    rig: Rig, tmp_path: Path
) -> None:
    completed(rig(), 1.0)
    cloud = rig(now_s=EPOCH_S + 61 * DAY_S)
    for _ in range(5):
        cloud.turn()
    assert cloud.seqs() == [1, 2, 3]  # 3 says what 2 said, which is to expire soon
    (tmp_path / "registry" / CHANNEL / "3.release").unlink()
    cloud = rig()
    for _ in range(5):
        cloud.turn()
    newest = cloud.at_broker()
    assert newest is not None
    assert (newest.seq, newest.rollout.share, cloud.director.trouble) == (4, 1.0, "")
    assert cloud.seqs() == [1, 2, 4]


def test_a_cloud_that_knows_less_than_its_fleet_says_so_until_a_new_key_epoch(
    rig: Rig, tmp_path: Path, release_key: Ed25519PrivateKey
) -> None:
    completed(rig(), 1.0)
    backup = tmp_path / "backup"
    for part in ("registry", "rollouts"):
        shutil.copytree(tmp_path / part, backup / part)
    completed(rig(), 2.0)
    for part in ("registry", "rollouts"):
        shutil.rmtree(tmp_path / part)
        shutil.copytree(backup / part, tmp_path / part)
    cloud = rig(reports={"node-1": (1, 4)})
    for _ in range(5):
        cloud.turn()
    assert cloud.director.trouble.startswith(
        "plant/node-1 has the manifest seq 4 of key epoch 1, the newest here is seq 2 of key epoch "
    )
    assert "Fix: begin a new key epoch" in cloud.director.activity
    cloud = rig(reports={"node-1": (1, 4)}, trust=trust_in(release_key, key_epoch=2))
    for _ in range(5):
        cloud.turn()
    assert cloud.director.trouble == ""
    newest = cloud.at_broker()
    assert newest is not None
    assert newest.order == (2, 3)


# Killed


class KilledError(BaseException):
    """The process is killed here."""


@contextmanager
def killed_at(number: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> Iterator[list[str]]:
    """Kills at the nth durable write, before or after the file has its name. Yields the files."""
    real, seen = durable._put_in_place, list[str]()

    def put(written: Path, path: Path) -> None:
        seen.append(path.name)
        if len(seen) == number and not after:
            raise KilledError
        real(written, path)
        if len(seen) == number:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(durable, "_put_in_place", put)
        try:
            yield seen
        except KilledError:
            return


def first_release(cloud: CloudRig) -> None:
    """A whole release; what a course does again after a crash it does again here."""
    cloud.release(2.0)
    cloud.until(Phase.COMPLETED)


def halted_by_a_person(cloud: CloudRig) -> None:
    with cloud.channel.lock.claimed():
        record = cloud.channel.read()
        if record is not None and record.phase is not Phase.HALTED:
            cloud.channel.command(halt)
    cloud.until(Phase.HALTED)


def rolled_back_by_a_person(cloud: CloudRig) -> None:
    with cloud.channel.lock.claimed():
        record = cloud.channel.read()
        if record is not None and record.phase is not Phase.ROLLED_BACK:
            cloud.channel.command(roll_back)
    cloud.until(Phase.ROLLED_BACK)


Act = Callable[[CloudRig], None]
ACTS: dict[str, tuple[Act, int, int]] = {
    "release": (first_release, 2, 2),
    "halt": (halted_by_a_person, 1, 1),
    "rollback": (rolled_back_by_a_person, 1, 2),
}
"""What is done, how many manifests that takes, and how many versions there are then."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("act", ACTS)
def test_killed_at_any_durable_write_the_next_start_comes_to_the_same_end(
    tmp_path: Path,
    release_key: Ed25519PrivateKey,
    monkeypatch: pytest.MonkeyPatch,
    act: str,
    after: bool,
) -> None:
    do, signs, versions = ACTS[act]
    number, was_killed = 0, True
    while was_killed:
        number += 1
        hub, folder = FakeBroker(), tmp_path / str(number)
        cloud = CloudRig(folder, release_key, hub)
        cloud.start()
        completed(cloud, 1.0)
        if act == "rollback":
            completed(cloud, 1.5)
        before = len(cloud.seqs())
        with killed_at(number, monkeypatch, after=after) as seen:
            do(cloud)
        cloud.link.cut()
        was_killed = len(seen) == number
        later = CloudRig(folder, release_key, hub, now_s=cloud.now_s)
        later.start()
        do(later)
        what = f"killed {'after' if after else 'before'} write {number} of {seen}"
        newest, record = later.registry.newest(CHANNEL), later.channel.read()
        assert newest is not None
        assert record is not None
        assert len(later.seqs()) - before == signs, what
        assert (later.at_broker(), record.seq) == (newest.manifest, newest.manifest.seq), what
        assert len(later.registry.versions(CHANNEL)) == versions, what
    assert number > 3


def test_a_trainers_version_that_a_crash_kept_from_its_rollout_has_it_at_the_next_start(
    rig: Rig,
) -> None:
    completed(rig(), 1.0)
    rig().release(2.0)  # and no turn any more
    cloud = rig()
    record = cloud.until(Phase.COMPLETED)
    assert (record.version, record.base) == ("2", "1")


def test_killed_before_the_broker_had_it_all_the_next_life_publishes_the_same_manifest(
    rig: Rig,
) -> None:
    cloud = rig()
    cloud.release(1.0)
    cloud.link.holds_acks = True
    for _ in range(4):
        cloud.turn()
    assert (cloud.seqs(), cloud.at_broker()) == ([1], None)
    cloud.link.cut()
    cloud = rig()
    cloud.until(Phase.COMPLETED)
    assert cloud.seqs() == [1, 2]
