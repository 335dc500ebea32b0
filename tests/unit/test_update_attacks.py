"""Who signs what, in which order and at which time: attack → the exact error → nothing changed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.releases.clock import BUILT_S
from shared.releases.envelope import MAGIC, Role, body_of, seal
from shared.releases.health import Health
from shared.releases.keys import public_hex
from shared.releases.machine import BEFORE_THE_SWAP, State
from shared.releases.manifest import MAX_MANIFEST_BYTES, Manifest, sign_manifest
from shared.releases.reconciliation import RECONCILE_S
from shared.releases.rollout import Rollout
from shared.releases.trust import Trust, found_trust, open_first, sign_trust
from tests.builders import file_of, trust_in
from tests.unit.conftest import StationMaker
from tests.update_station import PROBATION_S, TOPICS, Station, model_of, release

YEAR_S = 365 * 86_400.0
STRANGER, SECOND = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def standing(station: Station) -> tuple[Any, ...]:
    """Returns all that a refused manifest must leave as it is."""
    assert station.answers_rightly
    return station.record, station.blobs, station.version, station.reports


# Signatures and order

Forge = Callable[[Manifest, Ed25519PrivateKey], bytes]


def with_signatures(envelope: bytes, count: int) -> bytes:
    """Returns an envelope that holds its first signature so many times."""
    start = len(MAGIC) + 1
    return MAGIC + bytes([count]) + envelope[start : start + 72] * count + body_of(envelope)


ATTACKS: dict[str, tuple[Forge, str]] = {
    "wrong-key": (
        lambda it, key: sign_manifest(it, [STRANGER, Ed25519PrivateKey.generate()]),
        "signed by 0 of the 2 keys that it takes; key .* is not trusted here",
    ),
    "no-envelope": (lambda it, key: body_of(sign_manifest(it, [key])), "it is not signed"),
    "no-signature": (
        lambda it, key: with_signatures(sign_manifest(it, [key]), 0),
        "it is not signed: no signatures",
    ),
    "below-threshold": (lambda it, key: sign_manifest(it, [key]), "signed by 1 of the 2"),
    "one-signature-twice": (
        lambda it, key: with_signatures(sign_manifest(it, [key]), 2),
        "signed by 1 of the 2",
    ),
    "one-key-twice": (lambda it, key: sign_manifest(it, [key, key]), "signed by 1 of the 2"),
    "for-another-purpose": (
        lambda it, key: seal(b"escalon trust v1\0", msgspec.json.encode(it), [key, SECOND]),
        "signed by 0 of the 2 keys that it takes; wrong signature in the name of key",
    ),
    "oversized": (
        lambda it, key: sign_manifest(it, [key, SECOND]) + b" " * MAX_MANIFEST_BYTES,
        f"bytes are more than the {MAX_MANIFEST_BYTES} of the largest",
    ),
    "older-seq": (
        lambda it, key: sign_manifest(release(1, seq=4), [key, SECOND]),
        "seq 4 of epoch 1 is older than seq 5 of epoch 1",
    ),
    "epoch-to-come": (
        lambda it, key: sign_manifest(msgspec.structs.replace(it, key_epoch=2), [key, SECOND]),
        "it is of key epoch 2, in force is epoch 1",
    ),
    "another-channel": (
        lambda it, key: sign_manifest(msgspec.structs.replace(it, channel="o"), [key, SECOND]),
        "it is for channel o, this is channel meter-tier1",
    ),
}


@pytest.fixture
def two_must_sign(on_1: Station) -> Station:
    """A station at seq 5, whose releases take the signatures of two keys."""
    station = on_1
    keys = (public_hex(station.key), public_hex(SECOND))
    station.trusted.current = trust_in(station.key, releases=Role(keys=keys, threshold=2))
    hand_over(station, release(1, seq=5))
    assert station.record.seq == 5
    return station


def hand_over(station: Station, described: Manifest) -> None:
    """Hands a manifest over that both keys have signed."""
    station.updater.on_manifest(sign_manifest(described, [station.key, SECOND]), station.now_s)
    station.turn()


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_for_its_reason_and_changes_nothing(
    two_must_sign: Station, caplog: pytest.LogCaptureFixture, attack: str
) -> None:
    station = two_must_sign
    forge, reason = ATTACKS[attack]
    before = standing(station)
    station.hub.publish(TOPICS.releases("meter-tier1"), forge(release(6), station.key), retain=True)
    station.settle()
    assert standing(station) == before
    assert station.drops("release_refused") == 1
    assert [record for record in caplog.records if _matches(reason, record.getMessage())]
    hand_over(station, release(6))
    assert station.state == (State.OFFERED, 6)


def _matches(reason: str, text: str) -> bool:
    return re.search(f"release refused: .*{reason}", text) is not None


# Keys that are rotated and revoked

ROOT = Ed25519PrivateKey.generate()
NEW_KEY = Ed25519PrivateKey.generate()


def next_trust(station: Station, **changes: Any) -> Trust:
    current = station.follower.current
    return msgspec.structs.replace(current, version=current.version + 1, **changes)


def publish_trust(station: Station, trust: Trust) -> None:
    envelope = sign_trust(trust, [ROOT])
    station.hub.publish(TOPICS.trust(trust.version), envelope, retain=True)
    station.turn()
    assert station.follower.current == trust


def rotate(station: Station) -> None:
    """Puts the new key in the place of the station's."""
    publish_trust(station, next_trust(station, releases=Role(keys=(public_hex(NEW_KEY),))))


def revoke(station: Station) -> None:
    """Does the same in a new key epoch."""
    epoch = station.follower.current.key_epoch + 1
    role = Role(keys=(public_hex(NEW_KEY),))
    publish_trust(station, next_trust(station, releases=role, key_epoch=epoch))


@pytest.fixture
def make_following(make_on_1: StationMaker, release_key: Ed25519PrivateKey) -> StationMaker:
    """Makes stations that run release 1 and follow a trust document."""
    trust = found_trust([ROOT], [release_key], 1000.0)
    return lambda **config: make_on_1(trust=trust, **config)


@pytest.fixture
def following(make_following: StationMaker) -> Station:
    station = make_following()
    station.start()
    return station


def test_a_key_that_was_rotated_out_signs_nothing_any_more_and_the_new_one_does(
    following: Station,
) -> None:
    station = following
    rotate(station)
    before = standing(station)
    station.publish(release(2), model_of(2))
    station.settle()
    assert standing(station) == before
    assert station.drops("release_refused") == 1
    station.key = NEW_KEY
    station.publish(release(3), model_of(3))
    station.commit(3)
    assert station.answers_rightly


@pytest.mark.parametrize("restarts", [False, True], ids=["at-once", "after-a-restart"])
@pytest.mark.parametrize("withdraw", [rotate, revoke])
def test_the_manifest_of_before_the_change_of_keys_is_no_error_until_the_new_one_comes(
    make_following: StationMaker,
    caplog: pytest.LogCaptureFixture,
    withdraw: Callable[[Station], None],
    restarts: bool,
) -> None:
    station = make_following()
    station.start()
    station.publish(release(2), model_of(2))
    station.commit(2)
    if restarts:
        station.updater.close()
        station = make_following()
        station.start()
    caplog.clear()
    withdraw(station)
    for _ in range(3):
        station.turn()
        station.updater.reconcile(station.now_s)
    (said,) = troubles(caplog)
    assert said.levelname == "WARNING"
    assert "the keys have changed since this manifest was accepted" in said.getMessage()
    assert (station.version, station.drops("release_refused") > 0) == ("2", True)
    caplog.clear()
    forged = sign_manifest(release(9), [STRANGER])
    station.hub.publish(TOPICS.releases("meter-tier1"), forged, retain=True)
    station.turn()
    (said,) = troubles(caplog)
    assert said.levelname == "ERROR"


def test_an_older_manifest_that_was_accepted_once_is_an_error_as_before(
    following: Station, caplog: pytest.LogCaptureFixture
) -> None:
    station = following
    station.publish(release(2), model_of(2))
    station.commit(2)
    old = station.active_envelope
    assert old is not None
    # what serves is still of the old one, and its number is not
    station.publish(release(2, seq=3, state="halted"), model_of(2))
    station.turn()
    assert station.record.seq == 3
    station.updater.on_manifest(old, station.now_s)
    (said,) = troubles(caplog)
    assert (said.levelname, "older than" in said.getMessage()) == ("ERROR", True)


def troubles(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.levelno >= logging.WARNING
            and "is in force" not in each.getMessage()]  # fmt: skip


def test_a_manifest_that_came_before_its_key_is_taken_once_the_key_is_trusted(
    following: Station,
) -> None:
    station, old = following, following.key
    station.key = NEW_KEY
    station.publish(release(2), model_of(2))
    station.settle()
    assert station.drops("release_refused") == 1
    station.key = old
    rotate(station)
    station.commit(2)
    assert station.version == "2"


@pytest.mark.parametrize("state", BEFORE_THE_SWAP)
@pytest.mark.parametrize("withdraw", [rotate, revoke])
def test_what_is_not_in_place_yet_ends_with_the_key_that_signed_it(
    following: Station, withdraw: Callable[[Station], None], state: State
) -> None:
    station = following
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    withdraw(station)
    assert station.state == (State.FAILED_NO_STATE_CHANGE, 2)
    assert "signed by 0 of the 1 keys that it takes" in station.reports[-1].reason
    assert station.version == "1"
    assert station.answers_rightly
    station.settle()
    assert station.state == (State.FAILED_NO_STATE_CHANGE, 2)
    station.key = NEW_KEY
    epoch = station.follower.current.key_epoch
    station.publish(release(2, seq=3, key_epoch=epoch), model_of(2))
    station.commit(3)
    assert station.version == "2"


def test_what_a_crash_has_cut_off_is_not_taken_up_if_its_key_was_revoked_meanwhile(
    make_following: StationMaker,
) -> None:
    first = make_following()
    first.start()
    first.publish(release(2), model_of(2), chunks=0)
    first.run_to(State.FETCHING, 2)
    again = make_following()
    role = Role(keys=(public_hex(NEW_KEY),))
    second = msgspec.structs.replace(open_first_of(again), version=2, key_epoch=2, releases=role)
    (again.folder / "trust").mkdir(exist_ok=True)
    (again.folder / "trust" / "2.trust").write_bytes(sign_trust(second, [ROOT]))
    again.publish(release(2), model_of(2))
    again.start()
    again.settle()
    assert again.follower.current.version == 2
    assert again.state == (State.FAILED_NO_STATE_CHANGE, 2)
    assert again.version == "1"


def open_first_of(station: Station) -> Trust:
    return open_first((station.folder / "trust.signed").read_bytes())


def test_a_model_in_its_probation_stays_though_its_key_was_revoked(following: Station) -> None:
    station = following
    station.publish(release(2), model_of(2))
    station.run_to(State.PROBATION, 2)
    revoke(station)
    station.commit(2)
    assert station.version == "2"
    assert station.answers_rightly


def test_what_had_been_committed_and_the_disk_has_lost_is_fetched_though_its_key_was_revoked(
    make_following: StationMaker,
) -> None:
    first = make_following()
    first.start()
    revoke(first)
    first.publish(release(1), model_of(1))
    blob = first.folder / "models" / "meter-tier1" / "blobs" / file_of(release(1)).sha256
    blob.write_bytes(b"damaged")
    again = make_following()
    again.start()
    assert again.follower.current.key_epoch == 2
    assert again.model is None
    again.commit(1)
    assert (again.version, again.answers_rightly) == ("1", True)


def test_after_a_stolen_key_ran_ahead_in_numbers_and_time_a_new_epoch_begins_anew(
    make_following: StationMaker,
) -> None:
    station = make_following()
    station.start()
    stolen = release(2, seq=2**53, issued=BUILT_S + 300 * YEAR_S, expires=BUILT_S + 400 * YEAR_S)
    station.publish(stolen, model_of(2))
    station.commit(2**53)
    station.publish(release(3), model_of(3))
    station.settle()
    assert station.version == "2"
    revoke(station)
    station.key = NEW_KEY
    sound: dict[str, Any] = {
        "key_epoch": 2,
        "issued": BUILT_S + 2000.0,
        "expires": BUILT_S + YEAR_S,
    }
    station.publish(release(4, seq=1, **sound), model_of(4))
    station.commit(1)
    assert station.version == "4"
    assert "REJECTED" not in {report.state for report in station.reports}
    assert (station.record.order, station.record.issued) == ((2, 1), sound["issued"])
    again = make_following()
    again.key = NEW_KEY
    again.start()
    assert again.version == "4"
    again.publish(release(5, seq=2, **sound), model_of(5))
    again.commit(2)


def test_of_the_epoch_before_nothing_is_taken_any_more_whatever_its_number(
    following: Station,
) -> None:
    station = following
    revoke(station)
    before = standing(station)
    for seq in (2, 2**53):
        station.publish(release(2, seq=seq), model_of(2))
        station.settle()
    assert standing(station) == before
    assert station.drops("release_refused") == 2


# Time


def test_a_clock_at_1970_takes_what_is_good_and_not_what_has_expired_for_sure(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.utc_s = 0.0
    station.start()
    station.publish(release(2, expires=BUILT_S - 1), model_of(2))
    station.settle()
    assert station.state == (State.REJECTED, 2)
    assert station.reports[-1].reason == "it has expired"
    station.publish(release(3, expires=BUILT_S + YEAR_S), model_of(3))
    station.commit(3)
    assert station.answers_rightly


def test_a_clock_ten_years_ahead_blocks_until_it_is_put_right_and_stops_nothing(
    on_1: Station, caplog: pytest.LogCaptureFixture
) -> None:
    station = on_1
    right_s = station.utc_s
    station.utc_s += 10 * YEAR_S
    station.publish(release(2, expires=right_s + YEAR_S), model_of(2))
    station.settle()
    assert station.state == (State.REJECTED, 2)
    assert station.reports[-1].reason == "it has expired"
    assert station.version == "1"
    reports = len(station.reports)
    for _ in range(3):
        station.now_s += RECONCILE_S
        station.settle()
    assert len(station.reports) == reports
    assert "the newest manifest that came has expired" in caplog.text
    station.utc_s = right_s
    station.now_s += RECONCILE_S
    station.commit(2)
    assert station.version == "2"


def test_a_clock_that_was_stepped_back_brings_nothing_back_that_has_expired(
    on_1: Station,
) -> None:
    station = on_1
    issued = station.utc_s + YEAR_S
    station.publish(release(2, issued=issued), model_of(2))
    station.commit(2)
    station.utc_s -= 10 * YEAR_S
    station.publish(release(3, expires=issued - 1), model_of(3))
    station.settle()
    assert station.state == (State.REJECTED, 3)
    assert station.reports[-1].reason == "it has expired"
    assert station.version == "2"


def test_where_newer_manifests_are_withheld_it_is_said_and_what_runs_goes_on(
    make_on_1: StationMaker, caplog: pytest.LogCaptureFixture
) -> None:
    station = make_on_1()
    station.start()
    expires = station.utc_s + YEAR_S
    station.publish(release(2, expires=expires), model_of(2))
    station.commit(2)

    def stale() -> float | None:
        labels = {"channel": "meter-tier1"}
        return station.metrics.registry.get_sample_value("edge_release_stale", labels)

    assert stale() == 0
    before = standing(station)
    station.utc_s = expires
    for _ in range(3):
        station.now_s += RECONCILE_S
        station.settle()
    assert stale() == 1
    assert caplog.text.count("or something withholds it. What runs goes on running") == 1
    assert standing(station) == before
    station.publish(release(2, seq=3, expires=expires + YEAR_S), model_of(2))
    station.settle()
    station.now_s += RECONCILE_S
    station.settle()
    assert stale() == 0


# Waves


def wave(share: float, *nodes: str) -> Rollout:
    return Rollout(id="rollout-1", salt="salt", share=share, nodes=nodes)


def test_a_wave_of_others_is_noted_and_the_next_one_is_taken(on_1: Station) -> None:
    station = on_1
    before = (station.blobs, station.version, station.reports)
    station.publish(release(2, rollout=wave(0.0)), model_of(2))
    station.settle()
    assert (station.blobs, station.version, station.reports) == before
    assert station.record.seq == 2
    station.publish(release(2, seq=3, rollout=wave(0.0, "site-a/tier1-a")), model_of(2))
    station.commit(3)
    assert station.version == "2"


def test_a_wave_of_others_is_written_down_once(on_1: Station) -> None:
    station = on_1
    station.publish(release(2, rollout=wave(0.0)), model_of(2))
    station.settle()
    path = station.folder / "channels" / "meter-tier1.record"
    written = path.stat().st_mtime_ns
    for _ in range(3):
        station.now_s += RECONCILE_S
        station.settle()
    assert path.stat().st_mtime_ns == written


@pytest.mark.parametrize("state", BEFORE_THE_SWAP)
def test_a_halt_ends_what_is_not_in_place_yet_and_a_resume_takes_it_up(
    on_1: Station, state: State
) -> None:
    station = on_1
    station.publish(release(2), model_of(2))
    station.run_to(state, 2)
    station.publish(release(2, seq=3, state="halted"), model_of(2))
    station.settle()
    assert station.state == (State.SUPERSEDED, 2)
    assert station.reports[-1].reason == "seq 3 halts it"
    assert station.version == "1"
    assert station.answers_rightly
    station.publish(release(2, seq=4), model_of(2))
    station.commit(4)
    assert station.version == "2"


def test_a_halt_in_the_same_second_lets_nothing_begin(on_1: Station) -> None:
    station = on_1
    for described in (release(2), release(3, seq=3), release(3, seq=4, state="halted")):
        station.updater.on_manifest(sign_manifest(described, [station.key]), station.now_s)
    station.settle()
    course = [(report.seq, report.state) for report in station.reports[-4:]]
    assert course == [(2, "OFFERED"), (2, "SUPERSEDED"), (3, "OFFERED"), (3, "SUPERSEDED")]
    assert station.version == "1"
    assert station.record.seq == 4


@pytest.mark.parametrize("order", [(2, 3), (3, 2)])
def test_of_two_manifests_in_one_second_the_newer_one_is_taken_whichever_comes_first(
    on_1: Station, order: tuple[int, int]
) -> None:
    station = on_1
    for seq in order:
        station.publish(release(seq), model_of(seq))
    station.commit(3)
    assert station.version == "3"
    assert (2, "FETCHING") not in {(report.seq, report.state) for report in station.reports}
    station.settle()
    assert station.version == "3"


def test_a_newer_release_that_waited_is_taken_at_once_when_the_one_before_lost_its_upstream(
    on_1: Station,
) -> None:
    station = on_1
    station.turn()
    station.health = Health(asked=1000, lost=10)
    station.publish(release(2), model_of(2))
    station.run_to(State.PROBATION, 2)
    station.publish(release(3), model_of(3))
    station.turn()
    station.health = Health(asked=1100, lost=110)
    station.now_s += PROBATION_S
    station.run_to(State.OFFERED, 3)
    assert (2, "ROLLED_BACK") in {(report.seq, report.state) for report in station.reports}
    station.health = Health()
    station.commit(3)


def test_a_node_that_was_away_for_three_versions_takes_the_newest_alone(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    for seq in (2, 3, 4):
        station.publish(release(seq), model_of(seq))
    station.start()
    station.commit(4)
    assert {report.seq for report in station.reports} == {1, 4}
    fetched = {topic.split("/")[-2] for topic in station.link.subscribed if "/blobs/" in topic}
    assert fetched == {file_of(release(4)).sha256}
