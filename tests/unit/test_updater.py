"""An update goes the whole way or leaves the node as it was, whatever happens on the way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.config import ModelConfig
from shared.errors import StorageError
from shared.releases.artefact import chunks_in_common
from shared.releases.blobs import BlobStore
from shared.releases.health import Health
from shared.releases.machine import AFTER_THE_SWAP, BEFORE_THE_SWAP, State
from shared.releases.manifest import sign_manifest
from shared.releases.reconciliation import RECONCILE_S
from shared.releases.record import ChannelFile, ChannelRecord, Quarantine
from shared.releases.standing import DEADLY
from shared.releases.under_way import MAX_STOPS
from shared.serving import load_local
from tests.builders import (
    CHANNEL,
    LABELS,
    diagonal_onnx,
    echo_onnx,
    file_of,
    nan_onnx,
    trust_in,
    variant,
)
from tests.fakes import wait_until
from tests.unit.conftest import StationMaker
from tests.update_station import (
    DEADLINE_S,
    PROBATION_S,
    TOPICS,
    WHOLE_COURSE,
    Station,
    gated,
    model_of,
    release,
)

# The whole way


def test_a_release_goes_the_whole_way_and_reports_each_state_once(
    make_station: StationMaker,
) -> None:
    station = make_station()
    station.start()
    assert station.version is None
    station.publish(release(1), model_of(1))
    station.commit(1)
    assert [report.state for report in station.reports] == WHOLE_COURSE
    assert [step.state for step in station.reports[-1].steps] == WHOLE_COURSE[:-1]
    assert station.version == "1"
    assert not station.updater.busy


def test_a_model_serves_once_it_is_loaded_and_not_before(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2))
    for state in (State.SMOKE, State.ACTIVATING):
        on_1.run_to(state, 2)
        assert on_1.version == "1"

    def serves() -> bool:
        on_1.turn()
        return on_1.version == "2"

    wait_until(serves, "it serves")
    assert on_1.state == (State.ACTIVATING, 2)
    on_1.turn()
    assert on_1.state == (State.PROBATION, 2)


def test_success_is_not_reported_before_probation_is_over(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2))
    on_1.run_to(State.PROBATION, 2)
    on_1.now_s += PROBATION_S - 0.1
    on_1.turn()
    assert on_1.state == (State.PROBATION, 2)
    on_1.now_s += 0.1
    on_1.turn()
    assert on_1.state == (State.COMMITTED, 2)


def test_a_committed_release_serves_in_the_next_life(make_on_1: StationMaker) -> None:
    station = make_on_1()
    station.start()
    assert station.version == "1"
    station.publish(release(2), model_of(2))
    station.commit(2)
    again = make_on_1()
    again.start()
    assert again.version == "2"


def test_active_and_previous_artefacts_stay_and_older_ones_go(on_1: Station) -> None:
    first, second, third = (release(seq) for seq in (1, 2, 3))
    on_1.publish(second, model_of(2))
    on_1.commit(2)
    on_1.settle()
    assert on_1.blobs == {file_of(first).sha256, file_of(second).sha256}
    on_1.publish(third, model_of(3))
    on_1.commit(3)
    on_1.settle()
    assert on_1.blobs == {file_of(second).sha256, file_of(third).sha256}


def test_a_rollback_is_a_new_release_of_old_bytes_and_fetches_nothing(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2))
    on_1.commit(2)
    on_1.link.subscribed.clear()
    on_1.publish(release(1, seq=3, version="1 again"), model_of(1), chunks=0)
    on_1.commit(3)
    assert on_1.version == "1 again"
    assert not any("/blobs/" in topic for topic in on_1.link.subscribed)


def test_what_goes_on_under_a_new_seq_has_been_committed_since_it_was(on_1: Station) -> None:
    station = on_1
    committed = station.reports[-1]
    station.publish(release(1, seq=7), model_of(1))
    station.turn()
    confirmed = station.reports[-1]
    assert (confirmed.state, confirmed.seq) == ("COMMITTED", 7)
    assert confirmed.since == committed.since
    station.publish(release(2, seq=8), model_of(2))
    station.commit(8)
    assert station.reports[-1].since > committed.since
    station.publish(release(1, seq=9), model_of(1))
    station.commit(9)
    assert station.reports[-1].since > committed.since


def test_a_reconnect_publishes_the_last_report_again(on_1: Station) -> None:
    before = len(on_1.reports)
    on_1.hub.forget()
    on_1.updater.on_connected(on_1.now_s)
    assert len(on_1.reports) == before + 1
    assert on_1.reports[-1].state == "COMMITTED"
    assert TOPICS.updates("tier1-a", CHANNEL) in on_1.hub.retained


# What is not accepted


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"expires": 5.0}, "it has expired", id="expired"),
        pytest.param(
            {"variants": (variant(b"x" * 2001),)},
            "2001 bytes are more than this node takes",
            id="too-large",
        ),
    ],
)
def test_a_release_that_is_not_for_this_node_is_rejected_with_the_reason(
    make_on_1: StationMaker, changes: dict[str, Any], reason: str
) -> None:
    station = make_on_1(max_artifact_bytes=2000)
    station.start()
    station.publish(release(2, **changes), model_of(2), chunks=0)
    station.settle()
    assert station.state == (State.REJECTED, 2)
    assert station.reports[-1].reason == reason
    assert station.version == "1"
    assert not station.updater.busy
    assert not any("/blobs/" in topic for topic in station.link.subscribed)


def test_a_release_for_another_input_shape_is_rejected(
    make_on_1: StationMaker, release_key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    station = make_on_1()
    station.start()
    golden = msgspec.structs.replace(release(2).release.golden, shape=(3, 1, 3))
    wide = release(2, input_shape=(1, 3), golden=golden)
    station.publish(wide, model_of(2), chunks=0)
    station.settle()
    assert station.state == (State.REJECTED, 2)
    assert "shape [1, 3]" in station.reports[-1].reason


def test_a_rejected_release_is_not_offered_again_at_the_next_connect(on_1: Station) -> None:
    on_1.publish(release(2, expires=5.0), model_of(2), chunks=0)
    on_1.settle()
    states = len(on_1.reports)
    on_1.link.disconnect()
    on_1.link.connect()
    on_1.settle()
    assert len(on_1.reports) == states


def refused_payload(kind: str, key: Ed25519PrivateKey) -> bytes:
    sound = release(2)
    payloads = {
        "stale": sign_manifest(release(1, version="old"), [key]),
        "another-channel": sign_manifest(release(2, channel="other"), [key]),
        "another-key": sign_manifest(sound, [Ed25519PrivateKey.generate()]),
        "flipped": sign_manifest(sound, [key])[:-2] + b"x}",
        "garbage": b"no envelope at all" * 20,
        "empty-object": b"{}",
    }
    return payloads[kind]


@pytest.mark.parametrize(
    "kind", ["stale", "another-channel", "another-key", "flipped", "garbage", "empty-object"]
)
def test_an_attack_changes_neither_disk_nor_model_and_is_counted(
    make_on_1: StationMaker, release_key: Ed25519PrivateKey, kind: str
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(5), model_of(5))
    station.commit(5)
    record, blobs, reports = station.record, station.blobs, len(station.reports)
    station.updater.on_manifest(refused_payload(kind, release_key), station.now_s)
    station.settle()
    assert station.record == record
    assert station.blobs == blobs
    assert len(station.reports) == reports
    assert station.version == "5"
    assert station.drops("release_refused") == 1


def test_the_same_manifest_delivered_again_changes_nothing(on_1: Station) -> None:
    envelope = sign_manifest(release(1), [on_1.key])
    record, reports = on_1.record, len(on_1.reports)
    for _ in range(3):
        on_1.updater.on_manifest(envelope, on_1.now_s)
        on_1.settle()
    assert on_1.record == record
    assert len(on_1.reports) == reports
    assert on_1.drops("release_refused") == 0


def test_a_manifest_delivered_again_in_mid_fetch_does_not_begin_it_anew(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2), chunks=1)
    on_1.run_to(State.FETCHING, 2)
    reports = len(on_1.reports)
    on_1.updater.on_manifest(sign_manifest(release(2), [on_1.key]), on_1.now_s)
    on_1.settle()
    assert on_1.state == (State.FETCHING, 2)
    assert len(on_1.reports) == reports


def test_an_emptied_retained_manifest_is_no_uninstall(on_1: Station) -> None:
    on_1.updater.on_manifest(b"", on_1.now_s)
    on_1.settle()
    assert on_1.version == "1"
    assert on_1.drops("release_refused") == 0


# Before the swap


def test_a_newer_release_supersedes_one_in_mid_fetch(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2), chunks=1)
    on_1.run_to(State.FETCHING, 2)
    on_1.publish(release(3), model_of(3))
    on_1.commit(3)
    course = [(report.seq, report.state) for report in on_1.reports]
    assert (2, "SUPERSEDED") in course
    assert course.index((2, "SUPERSEDED")) < course.index((3, "OFFERED"))
    assert on_1.version == "3"
    digest = file_of(release(2)).sha256
    assert not any(digest in topic for topic in on_1.link.subscriptions)


def test_a_fetch_past_its_deadline_times_out_and_changes_nothing(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2), chunks=1)
    on_1.run_to(State.FETCHING, 2)
    on_1.now_s += DEADLINE_S
    on_1.turn()
    assert on_1.state == (State.TIMED_OUT, 2)
    assert on_1.reports[-1].reason == "not complete after 100 s"
    assert on_1.version == "1"
    assert not any("/blobs/" in topic for topic in on_1.link.subscriptions)


def test_a_corrupt_chunk_is_fetched_again_until_the_right_one_comes(
    on_1: Station, caplog: pytest.LogCaptureFixture
) -> None:
    described = release(2)
    on_1.publish(described, model_of(2))
    topic = TOPICS.blob(file_of(described).sha256, 0)
    right = on_1.hub.retained[topic]
    on_1.hub.retained[topic] = b"!" + right[1:]
    on_1.run_to(State.FETCHING, 2)
    on_1.settle()
    on_1.turn()
    assert on_1.state == (State.FETCHING, 2)
    assert on_1.drops("bad_chunk") == 1
    assert f"chunk 0 of {file_of(described).sha256} has other bytes than were signed" in caplog.text
    on_1.hub.retained[topic] = right
    on_1.now_s += 5.0
    on_1.run_to(State.PROBATION, 2)


@pytest.mark.parametrize(
    ("data", "changes", "reason"),
    [
        pytest.param(nan_onnx(), {}, "NaN", id="nan"),
        pytest.param(diagonal_onnx(9.0), {}, "differs by 7", id="answers-otherwise"),
        pytest.param(b"no model at all", {}, "does not load", id="no-model"),
        pytest.param(echo_onnx(4), {}, "does not take samples of shape", id="other-inputs"),
    ],
)
def test_a_model_that_fails_its_proof_never_serves(
    on_1: Station, data: bytes, changes: dict[str, Any], reason: str
) -> None:
    on_1.publish(release(2, data, **changes), data)
    on_1.run_to(State.FAILED_NO_STATE_CHANGE, 2)
    assert reason in on_1.reports[-1].reason
    assert "ACTIVATING" not in {report.state for report in on_1.reports if report.seq == 2}
    on_1.settle()
    assert (on_1.version, on_1.answers_rightly) == ("1", True)
    assert on_1.active_envelope == sign_manifest(release(1), [on_1.key])
    assert on_1.blobs == {file_of(release(1)).sha256}
    assert not on_1.updater.busy


def test_after_a_failure_the_next_release_is_taken(on_1: Station) -> None:
    on_1.publish(release(2, nan_onnx()), nan_onnx())
    on_1.run_to(State.FAILED_NO_STATE_CHANGE, 2)
    on_1.publish(release(3), model_of(3))
    on_1.commit(3)
    assert on_1.version == "3"


@pytest.mark.parametrize("taken", ["work", f"models/{CHANNEL}/incoming"])
def test_a_folder_that_cannot_be_written_ends_the_update_never_the_node(
    on_1: Station, taken: str
) -> None:
    path = on_1.folder / taken
    shutil.rmtree(path, ignore_errors=True)
    path.write_bytes(b"a file where a folder should be")
    on_1.publish(release(2), model_of(2))
    on_1.run_to(State.FAILED_NO_STATE_CHANGE, 2)
    assert on_1.version == "1"


# After the swap


def test_a_model_that_answers_malformed_in_probation_is_rolled_back_and_quarantined(
    on_1: Station,
) -> None:
    on_1.publish(release(2), model_of(2))
    on_1.run_to(State.PROBATION, 2)
    assert on_1.version == "2"
    on_1.health = Health(batches=100, broken_batches=6)
    on_1.turn()
    assert on_1.state == (State.ROLLED_BACK, 2)
    assert on_1.reports[-1].reason == "6 of 100 batches without sound scores"
    assert on_1.version == "1"
    assert on_1.record.quarantined == (Quarantine(file_of(release(2)).sha256, 0),)
    assert on_1.active_envelope == sign_manifest(release(1), [on_1.key])


def test_broken_batches_of_before_the_swap_do_not_count(on_1: Station) -> None:
    on_1.health = Health(batches=100, broken_batches=100)
    on_1.publish(release(2), model_of(2))
    on_1.commit(2)
    assert on_1.version == "2"


def test_a_few_broken_batches_in_probation_are_forgiven(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2))
    on_1.run_to(State.PROBATION, 2)
    on_1.health = Health(batches=100, broken_batches=5)
    on_1.now_s += PROBATION_S
    on_1.turn()
    assert on_1.state == (State.COMMITTED, 2)


def test_quarantined_bytes_are_rejected_under_any_later_seq(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2))
    on_1.run_to(State.PROBATION, 2)
    on_1.health = Health(10, 10)
    on_1.turn()
    on_1.publish(release(2, seq=3, version="3"), model_of(2))
    on_1.settle()
    assert on_1.state == (State.REJECTED, 3)
    assert "has failed on this node before" in on_1.reports[-1].reason


def test_a_model_that_escalates_far_more_than_before_is_rolled_back_before_probation_is_over(
    on_1: Station,
) -> None:
    on_1.turn()
    on_1.health = gated(5000, unsure=900)
    on_1.publish(release(2), model_of(2))
    on_1.run_to(State.PROBATION, 2)
    on_1.health = gated(5240, unsure=1046)
    on_1.now_s += 1.0
    on_1.turn()
    assert on_1.state == (State.ROLLED_BACK, 2)
    assert "escalation rate 0.61 after 240 samples" in on_1.reports[-1].reason
    assert on_1.record.quarantined == (Quarantine(file_of(release(2)).sha256, 0),)


def test_a_model_that_lost_its_upstream_is_rolled_back_but_may_come_again(on_1: Station) -> None:
    on_1.turn()
    on_1.health = Health(asked=1000, lost=10)
    on_1.publish(release(2), model_of(2))
    on_1.run_to(State.PROBATION, 2)
    on_1.health = Health(asked=1100, lost=110)
    on_1.now_s += PROBATION_S
    on_1.turn()
    assert on_1.state == (State.ROLLED_BACK, 2)
    assert "lost upstream 1.00 after 100 questions" in on_1.reports[-1].reason
    assert on_1.record.quarantined == ()
    on_1.now_s += RECONCILE_S
    on_1.run_to(State.PROBATION, 2)


def test_a_release_that_nothing_tried_is_committed_and_says_so(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2))
    on_1.commit(2)
    assert on_1.reports[-1].reason == "committed unwatched: 0 samples in 10 s"


@pytest.mark.parametrize("state", AFTER_THE_SWAP)
def test_a_newer_release_waits_for_the_end_of_probation(on_1: Station, state: State) -> None:
    on_1.publish(release(2), model_of(2))
    on_1.run_to(state, 2)
    on_1.publish(release(3), model_of(3))
    on_1.turn()
    assert all(report.seq < 3 for report in on_1.reports)
    on_1.commit(2)
    on_1.commit(3)
    assert on_1.version == "3"


def test_a_first_release_that_fails_probation_hands_back_the_configured_model(
    make_station: StationMaker, tmp_path: Path
) -> None:
    station = make_station()
    (tmp_path / "local.onnx").write_bytes(model_of(7))
    local = ModelConfig(path=tmp_path / "local.onnx", labels=LABELS, scores="logits")
    station.updater.start()
    station.updater.begin_with(load_local("meter", local, station.pipeline))
    station.model = station.updater.serving
    assert station.version == "local"
    station.updater.on_connected(station.now_s)
    station.publish(release(1), model_of(1))
    station.run_to(State.PROBATION, 1)
    station.health = Health(10, 10)
    station.run_to(State.ROLLED_BACK, 1)
    assert station.version == "local"


def test_a_first_release_that_fails_probation_leaves_nothing_to_serve_where_there_was_nothing(
    make_station: StationMaker,
) -> None:
    station = make_station()
    station.start()
    station.publish(release(1), model_of(1))
    station.run_to(State.PROBATION, 1)
    assert station.version == "1"
    station.health = Health(10, 10)
    station.run_to(State.ROLLED_BACK, 1)
    assert station.model is None


# A crash in each state


@pytest.mark.parametrize("state", AFTER_THE_SWAP)
def test_a_stop_on_purpose_in_probation_is_no_evidence_against_the_release(
    make_on_1: StationMaker, state: State
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    station.updater.farewell()
    station.updater.close()
    again = make_on_1()
    again.start()
    assert again.version == "1"
    again.commit(2)
    assert again.version == "2"
    assert again.record.quarantined == ()


def test_a_release_that_did_not_come_in_time_is_taken_when_it_is_there(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2), chunks=1)
    station.run_to(State.FETCHING, 2)
    station.now_s += DEADLINE_S + 1
    station.run_to(State.TIMED_OUT, 2)
    station.publish(release(2), model_of(2))
    station.now_s += RECONCILE_S
    station.commit(2)
    assert station.version == "2"


def test_a_commit_that_the_disk_refuses_is_not_reported_and_comes_later(
    make_on_1: StationMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2))
    station.run_to(State.PROBATION, 2)
    station.now_s += PROBATION_S
    with monkeypatch.context() as full:

        def refuse(file: ChannelFile, record: ChannelRecord) -> None:
            raise StorageError("the disk is full")

        full.setattr(ChannelFile, "write", refuse)
        station.turn()
        assert station.reports[-1].state == "PROBATION"
        assert station.version == "2"
    station.run_to(State.COMMITTED, 2)


@pytest.mark.parametrize("state", BEFORE_THE_SWAP)
def test_a_crash_before_the_swap_resumes_and_comes_to_its_end(
    make_on_1: StationMaker, state: State
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    again = make_on_1()
    again.start()
    assert again.version == "1"
    again.commit(2)
    assert again.version == "2"
    assert again.record.quarantined == ()


def test_a_crash_in_mid_fetch_fetches_only_what_was_missing(make_on_1: StationMaker) -> None:
    station = make_on_1()
    station.start()
    described = release(2)
    file = file_of(described)
    station.publish(described, model_of(2), chunks=1)
    station.run_to(State.FETCHING, 2)
    station.settle()
    station.turn()
    # What the release before has in common is here already.
    common = chunks_in_common(file, [file_of(release(1))])
    missing = [index for index in range(1, len(file.chunks)) if index not in common]
    assert missing
    assert BlobStore(station.folder / "models" / CHANNEL).missing(file) == missing
    again = make_on_1()
    again.start()
    again.publish(described, model_of(2))
    again.commit(2)
    fetched = {topic.rsplit("/", 1)[1] for topic in again.link.subscribed if "/blobs/" in topic}
    assert fetched == set(map(str, missing))


def test_an_interrupted_update_that_was_superseded_meanwhile_gives_way(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2), chunks=1)
    station.run_to(State.FETCHING, 2)
    station.publish(release(3), model_of(3))
    again = make_on_1()
    again.start()
    again.commit(3)
    assert again.version == "3"


def test_an_interrupted_update_that_has_expired_meanwhile_is_rejected(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2), chunks=1)
    station.run_to(State.FETCHING, 2)
    again = make_on_1()
    again.utc_s = release(2).expires + 1
    again.start()
    again.settle()
    assert again.state == (State.REJECTED, 2)
    assert again.version == "1"


@pytest.mark.parametrize("state", AFTER_THE_SWAP)
def test_a_crash_after_the_swap_rolls_back_and_quarantines(
    make_on_1: StationMaker, state: State
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    again = make_on_1()
    again.start()
    assert again.version == "1"
    assert again.state == (State.ROLLED_BACK, 2)
    assert again.reports[-1].reason == "the node died while it was new"
    assert again.record.quarantined == (Quarantine(file_of(release(2)).sha256, 0),)
    again.settle()
    assert again.state == (State.ROLLED_BACK, 2)
    again.publish(release(2, seq=3), model_of(2))
    again.settle()
    assert again.state == (State.REJECTED, 3)


@pytest.mark.parametrize("state", AFTER_THE_SWAP)
def test_a_second_crash_right_after_the_first_changes_nothing_more(
    make_on_1: StationMaker, state: State
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    make_on_1().start()
    record = station.record
    again = make_on_1()
    again.start()
    assert again.version == "1"
    assert again.record == record


# What a restart may find


def test_a_damaged_active_artefact_lets_the_previous_one_serve(make_on_1: StationMaker) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2))
    station.commit(2)
    path = station.folder / "models" / CHANNEL / "blobs" / file_of(release(2)).sha256
    path.write_bytes(path.read_bytes()[:-1])
    again = make_on_1()
    again.start()
    assert again.version == "1"


def test_an_expired_manifest_does_not_stop_what_runs(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.utc_s = release(1).expires + 1
    station.start()
    assert station.version == "1"


def test_what_was_accepted_goes_on_serving_though_its_key_is_no_longer_trusted(
    make_on_1: StationMaker, caplog: pytest.LogCaptureFixture
) -> None:
    station = make_on_1()
    station.trusted.current = trust_in(Ed25519PrivateKey.generate())
    station.start()
    assert station.version == "1"
    station.publish(release(2), model_of(2))
    station.settle()
    assert (station.version, station.answers_rightly) == ("1", True)
    assert station.drops("release_refused") == 1
    assert "release refused: signed by 0 of the 1 keys that it takes" in caplog.text


def test_without_its_record_a_node_takes_the_retained_release_anew(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    (station.folder / "channels" / f"{CHANNEL}.record").write_bytes(b"{broken")
    station.start()
    assert station.version is None
    station.publish(release(1), model_of(1))
    station.commit(1)
    assert station.version == "1"


# A disk that fails


@pytest.mark.parametrize("step", WHOLE_COURSE[:-1])
def test_a_disk_that_does_not_take_one_step_costs_that_release_and_not_the_next(
    on_1: Station, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write, failed = ChannelFile.write, list[str]()

    def full_once(self: ChannelFile, record: ChannelRecord) -> None:
        if record.state == step and not failed:
            failed.append(step)
            raise StorageError("No space left on device")
        write(self, record)

    monkeypatch.setattr(ChannelFile, "write", full_once)
    on_1.publish(release(2), model_of(2))

    def failed_and_over() -> bool:
        on_1.turn()
        on_1.now_s += 0.01
        return bool(failed) and not on_1.updater.busy

    wait_until(failed_and_over, "the update ends")
    assert on_1.version == "1"
    assert on_1.active_envelope == sign_manifest(release(1), [on_1.key])
    on_1.publish(release(3), model_of(3))
    on_1.commit(3)
    assert on_1.version == "3"


# A release that nothing had proved


def committed_unwatched(station: Station) -> None:
    station.start()
    station.publish(release(2), model_of(2))
    station.commit(2)
    assert not station.record.proven


def test_a_node_that_dies_again_and_again_with_an_unproven_release_goes_back(
    make_on_1: StationMaker,
) -> None:
    committed_unwatched(make_on_1())
    for deaths in (1, 2):
        station = make_on_1()
        station.start()
        assert (station.version, station.record.deaths) == ("2", deaths)
    last = make_on_1()
    last.start()
    assert last.version == "1"
    assert last.state == (State.ROLLED_BACK, 2)
    assert "died 3 times with it" in last.reports[-1].reason
    assert last.record.knows(file_of(release(2)).sha256, retry_epoch=0)
    last.publish(release(2, seq=3), model_of(2))
    last.settle()
    assert last.state == (State.REJECTED, 3)


def test_a_death_with_an_unproven_release_after_another_was_rejected_goes_back_as_well(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    committed_unwatched(station)
    station.publish(release(3, expires=5.0), model_of(3))
    station.settle()
    assert station.state == (State.REJECTED, 3)
    for _ in range(DEADLY):
        station = make_on_1()
        station.start()
    assert station.version == "1"
    assert station.record.state is State.REJECTED


def test_samples_prove_a_release_and_no_death_speaks_against_it_any_more(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    committed_unwatched(station)
    station.turn()
    station.health = Health(batches=20, samples=20)
    station.turn()
    assert station.record.proven
    for _ in range(2 * DEADLY):
        again = make_on_1()
        again.start()
        assert again.version == "2"


def test_what_the_model_before_has_answered_proves_nothing_of_the_new_one(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.health = Health(batches=1000, samples=1000)
    committed_unwatched(station)
    station.turn()
    station.turn()
    assert not station.record.proven


def test_stops_on_purpose_do_not_speak_against_an_unproven_release(
    make_on_1: StationMaker,
) -> None:
    committed_unwatched(make_on_1())
    for _ in range(2 * DEADLY):
        station = make_on_1()
        station.start()
        assert station.version == "2"
        station.updater.farewell()


def test_after_a_stop_on_purpose_it_takes_three_deaths_as_before(make_on_1: StationMaker) -> None:
    station = make_on_1()
    committed_unwatched(station)
    station.updater.farewell()
    versions = []
    for _ in range(DEADLY + 1):  # the first start follows no death
        station = make_on_1()
        station.start()
        versions.append(station.version)
    assert versions == ["2", "2", "2", "1"]


def test_a_release_that_is_stopped_in_its_probation_again_and_again_is_rolled_back(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2), model_of(2))
    for _ in range(MAX_STOPS):
        station.run_to(State.PROBATION, 2)
        station.updater.farewell()
        assert station.record.state is State.SMOKE
        station = make_on_1()
        station.start()
    station.run_to(State.PROBATION, 2)
    station.updater.farewell()
    again = make_on_1()
    again.start()
    assert again.version == "1"
    assert again.state == (State.ROLLED_BACK, 2)
    assert "stopped 3 times in its probation" in again.reports[-1].reason


# Tried again


def test_what_fails_again_and_again_for_no_fault_of_its_own_is_tried_ever_more_seldom(
    on_1: Station,
) -> None:
    on_1.publish(release(2), model_of(2), chunks=0)
    for doubling in range(3):
        on_1.run_to(State.FETCHING, 2)
        on_1.now_s += DEADLINE_S
        on_1.run_to(State.TIMED_OUT, 2)
        on_1.now_s += RECONCILE_S * 2**doubling - 1
        on_1.settle()
        on_1.turn()
        assert on_1.state == (State.TIMED_OUT, 2)
        on_1.now_s += 1


def test_a_report_that_the_link_did_not_take_goes_out_later(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2))
    on_1.run_to(State.PROBATION, 2)
    on_1.link.full = True
    on_1.now_s += PROBATION_S
    on_1.turn()
    assert on_1.state == (State.PROBATION, 2)
    on_1.link.full = False
    on_1.turn()
    assert on_1.state == (State.COMMITTED, 2)


def test_what_failed_leaves_no_file_behind(on_1: Station) -> None:
    for seq, data in ((2, nan_onnx()), (3, diagonal_onnx(9.0))):
        on_1.publish(release(seq, data), data)
        on_1.run_to(State.FAILED_NO_STATE_CHANGE, seq)
        on_1.settle()
    assert on_1.blobs == {file_of(release(1)).sha256}


# A release that the disk has lost


def damage(station: Station, seq: int) -> None:
    path = station.folder / "models" / CHANNEL / "blobs" / file_of(release(seq)).sha256
    path.write_bytes(path.read_bytes()[:-1])


def test_a_damaged_release_is_fetched_again_though_its_manifest_has_expired(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(1), model_of(1))
    damage(station, 1)
    again = make_on_1()
    again.utc_s = release(1).expires + 1
    again.start()
    assert again.version is None
    again.commit(1)
    assert again.version == "1"


def test_a_damaged_release_is_fetched_again_once_the_update_under_way_has_ended(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.start()
    station.publish(release(2, nan_onnx()), nan_onnx())
    station.run_to(State.FETCHING, 2)
    damage(station, 1)
    again = make_on_1()
    again.start()
    again.publish_chunks(release(1), model_of(1))
    again.run_to(State.FAILED_NO_STATE_CHANGE, 2)
    assert again.version is None
    again.now_s += RECONCILE_S
    again.commit(1)
    assert again.version == "1"
