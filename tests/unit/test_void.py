"""A manifest voids the certificates of what runs: nothing is fetched, tried, watched or reported.

And one that is not genuine, or older than what was accepted, voids nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ManifestError, StorageError
from shared.releases.envelope import seal
from shared.releases.machine import State
from shared.releases.manifest import (
    DOMAIN,
    MAX_REASON,
    Manifest,
    Void,
    read_manifest,
    sign_manifest,
)
from shared.releases.record import ChannelFile
from shared.releases.standing import DEADLY
from tests.builders import CHANNEL, diagonal_onnx, manifest
from tests.unit.conftest import StationMaker
from tests.update_station import PROBATION_S, TOPICS, Station, model_of, release

VOID = Void(reason="the escalation rate has drifted", since=1_700_000_123.0)
OTHER = Void(reason="tier-2 disagrees", since=1_700_000_456.0)


def again(seq: int, **changes: Any) -> Manifest:
    """Returns a later manifest of release 1."""
    return release(1, seq=seq, **{"version": "1", **changes})


def publish(station: Station, described: Manifest) -> None:
    """Publishes a manifest alone: its files are there."""
    station.publish(described, model_of(1), chunks=0)
    station.settle()


# The manifest


def test_a_manifest_without_the_field_is_read_and_voids_nothing() -> None:
    key = Ed25519PrivateKey.generate()
    old = msgspec.json.decode(msgspec.json.encode(manifest(diagonal_onnx(1.0))))
    del old["void"]
    assert read_manifest(seal(DOMAIN, msgspec.json.encode(old), [key])).void is None


def test_it_is_read_back_with_its_reason_and_its_time() -> None:
    described = manifest(diagonal_onnx(1.0), void=VOID)
    assert read_manifest(sign_manifest(described, [Ed25519PrivateKey.generate()])).void == VOID


@pytest.mark.parametrize(
    ("void", "problem"),
    [
        (Void(reason="x" * (MAX_REASON + 1), since=1.0), "more than 500 characters"),
        (Void(reason="x", since=1e400), "null"),
    ],
    ids=["long", "no-time"],
)
def test_one_that_makes_no_sense_is_refused(void: Void, problem: str) -> None:
    with pytest.raises(ManifestError, match=problem):
        sign_manifest(manifest(diagonal_onnx(1.0), void=void), [Ed25519PrivateKey.generate()])


# On the node


def test_it_voids_and_nothing_else_happens(on_1: Station) -> None:
    reports, model = on_1.reports, on_1.model
    on_1.link.subscribed.clear()
    publish(on_1, again(2, void=VOID))
    assert on_1.updater.void == VOID
    assert on_1.reports == reports
    assert on_1.model is model
    assert not on_1.updater.busy
    assert not [topic for topic in on_1.link.subscribed if "/blobs/" in topic]
    assert on_1.record.seq == 2
    assert on_1.record.state is State.COMMITTED


def test_a_later_manifest_without_it_restores(on_1: Station) -> None:
    publish(on_1, again(2, void=VOID))
    publish(on_1, again(3))
    assert on_1.updater.void is None
    assert on_1.record.seq == 3


def test_another_reason_takes_the_place_of_the_first(on_1: Station) -> None:
    publish(on_1, again(2, void=VOID))
    publish(on_1, again(3, void=OTHER))
    assert on_1.updater.void == OTHER


def test_the_next_life_still_knows(make_on_1: StationMaker) -> None:
    station = make_on_1()
    station.start()
    publish(station, again(2, void=VOID))
    second = make_on_1()
    second.start()
    assert second.updater.void == VOID
    publish(second, again(3))
    third = make_on_1()
    third.start()
    assert third.updater.void is None


def test_it_stays_while_another_release_goes_out_to_others(on_1: Station) -> None:
    publish(on_1, again(2, void=VOID))
    nobody = msgspec.structs.replace(release(2).rollout, share=0.0)
    on_1.publish(release(2, seq=3, rollout=nobody), model_of(2))
    on_1.settle()
    assert on_1.updater.void == VOID
    assert on_1.record.seq == 3


def test_a_halted_manifest_voids_what_runs_as_well(on_1: Station) -> None:
    publish(on_1, again(2, state="halted", void=VOID))
    assert on_1.updater.void == VOID


def test_another_release_is_not_void_and_coming_back_is_as_its_manifest_says(
    on_1: Station,
) -> None:
    publish(on_1, again(2, void=VOID))
    on_1.publish(release(2, seq=3), model_of(2))
    on_1.commit(3)
    assert on_1.updater.void is None
    on_1.publish(again(4), model_of(1), chunks=0)
    on_1.commit(4)
    assert (on_1.version, on_1.updater.void) == ("1", None)


def test_what_is_rolled_back_to_is_as_void_as_it_was(on_1: Station) -> None:
    publish(on_1, again(2, void=VOID))
    on_1.publish(release(2, seq=3), model_of(2))
    on_1.run_to(State.PROBATION, 3)
    on_1.publish(again(4, void=VOID), model_of(1), chunks=0)
    on_1.run_to(State.COMMITTED, 4)
    assert on_1.version == "1"
    assert on_1.updater.void == VOID


def test_a_release_that_is_void_when_it_comes_is_void_when_it_serves(on_1: Station) -> None:
    on_1.publish(release(2, void=VOID), model_of(2))
    on_1.commit(2)
    assert (on_1.version, on_1.updater.void) == ("2", VOID)


def test_it_reaches_a_release_in_its_probation(on_1: Station) -> None:
    on_1.publish(release(2), model_of(2))
    on_1.run_to(State.PROBATION, 2)
    assert on_1.updater.void is None
    on_1.publish(release(2, seq=3, void=VOID), model_of(2), chunks=0)
    on_1.settle()
    assert on_1.updater.void == VOID
    on_1.now_s += PROBATION_S
    on_1.run_to(State.COMMITTED, 3)
    assert on_1.updater.void == VOID


def test_a_node_that_joins_a_rollout_reports_though_the_manifest_is_void(on_1: Station) -> None:
    """The rollout counts its nodes by their reports."""
    other = msgspec.structs.replace(release(1).rollout, id="rollout-2")
    publish(on_1, again(2, rollout=other, void=VOID))
    assert on_1.state == (State.COMMITTED, 2)
    assert on_1.reports[-1].rollout == "rollout-2"
    assert on_1.updater.void == VOID


def test_after_its_deaths_the_release_before_is_as_void_as_it_was(
    make_on_1: StationMaker,
) -> None:
    station = make_on_1()
    station.start()
    publish(station, again(2, void=VOID))
    station.publish(release(2, seq=3), model_of(2))
    station.run_to(State.PROBATION, 3)
    station.now_s += 1e6  # past all extensions: committed unwatched
    station.run_to(State.COMMITTED, 3)
    for _ in range(DEADLY):
        station = make_on_1()
        station.start()
    assert (station.version, station.updater.void) == ("1", VOID)


def test_a_disk_that_does_not_take_it_leaves_all_as_it_was_and_it_comes_again(
    on_1: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("no space")

    with monkeypatch.context() as context:
        context.setattr(ChannelFile, "write", full)
        publish(on_1, again(2, void=VOID))
        assert on_1.updater.void is None
    assert on_1.record.seq == 1
    on_1.updater.reconcile(on_1.now_s)
    on_1.settle()
    assert on_1.updater.void == VOID


# Not from us, or from before


def flipped(envelope: bytes, text: bytes) -> bytes:
    """Returns an envelope with a letter of its signed bytes changed."""
    at = envelope.index(text)
    return envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :]


def test_what_was_tampered_with_voids_nothing(on_1: Station) -> None:
    envelope = sign_manifest(again(2, void=VOID), [on_1.key])
    refused = on_1.metrics.drops.labels(reason="release_refused")
    for number, forged in enumerate(
        (
            flipped(envelope, b"drifted"),
            flipped(envelope, b'"void"'),
            sign_manifest(again(2, void=VOID), [Ed25519PrivateKey.generate()]),
        ),
        1,
    ):
        on_1.hub.publish(TOPICS.releases(CHANNEL), forged, retain=True)
        on_1.settle()
        assert refused._value.get() == number
        assert on_1.updater.void is None
    assert on_1.record.seq == 1


def test_a_signature_cannot_be_kept_and_the_void_taken_out(on_1: Station) -> None:
    publish(on_1, again(2, void=VOID))
    envelope = sign_manifest(again(3, void=VOID), [on_1.key])
    body = msgspec.json.encode(again(3))
    on_1.hub.publish(TOPICS.releases(CHANNEL), envelope[: envelope.index(b"{")] + body, retain=True)
    on_1.settle()
    assert on_1.updater.void == VOID
    assert on_1.record.seq == 2


def test_an_older_manifest_that_is_replayed_restores_nothing(on_1: Station) -> None:
    publish(on_1, again(2))
    publish(on_1, again(3, void=VOID))
    publish(on_1, again(2))
    assert on_1.updater.void == VOID
    assert on_1.record.seq == 3
