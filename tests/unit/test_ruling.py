"""What a node does about a manifest: the whole table of cases, without disk, clock or broker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ManifestError
from shared.messages import UpdateReport
from shared.releases.clock import BUILT_S, not_before
from shared.releases.machine import AFTER_THE_SWAP, BEFORE_THE_SWAP, Event, State
from shared.releases.manifest import Manifest, Void
from shared.releases.record import ChannelRecord, Quarantine
from shared.releases.release import Needs, Release
from shared.releases.rollout import Rollout
from shared.releases.ruling import Host, Ruling, check_order, rule, unfit
from tests.builders import CHANNEL, SHAPE, diagonal_onnx, file_of, manifest, trust_in

TRUST = trust_in(Ed25519PrivateKey.generate())
HOST = Host("site-a", "edge-1", CHANNEL, "meter", SHAPE, 10_000, "1.22.0", 2**30)
NOW_S = BUILT_S
NOBODY = Rollout(id="r", salt="s", share=0.0)


def of(number: int, **changes: Any) -> Manifest:
    """Returns the manifest with this seq, of the release of that number."""
    data = diagonal_onnx(float(number))
    return manifest(data, **{"seq": number, "version": str(number), **changes})


ACTIVE, UNDER_WAY = of(5).release, of(6).release
RECORD = ChannelRecord(key_epoch=1, seq=6)


def ruling(
    described: Manifest,
    record: ChannelRecord = RECORD,
    under_way: Release | None = None,
    *,
    serves: bool = True,
) -> Ruling:
    return rule(described, record, under_way, ACTIVE, HOST, serves=serves, now_s=NOW_S)


def in_state(state: State) -> ChannelRecord:
    return ChannelRecord(key_epoch=1, seq=6, state=state)


# Order


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"channel": "other"}, "for channel other", id="another-channel"),
        pytest.param({"seq": 5}, "seq 5 of epoch 1 is older than seq 6", id="older"),
        pytest.param({"seq": 1}, "seq 1 of epoch 1 is older than seq 6", id="much-older"),
        pytest.param({"key_epoch": 2, "seq": 9}, "in force is epoch 1", id="epoch-to-come"),
    ],
)
def test_what_is_replayed_or_made_for_something_else_is_refused(
    changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ManifestError, match=problem):
        check_order(of(7, **changes), TRUST, RECORD, CHANNEL)


def test_the_present_and_any_later_number_pass() -> None:
    for seq in (6, 7, 2**62):
        check_order(of(1, seq=seq), TRUST, RECORD, CHANNEL)


def test_a_new_key_epoch_begins_its_numbers_anew_and_so_recovers_from_a_number_far_ahead() -> None:
    fast_forwarded = ChannelRecord(key_epoch=1, seq=2**62)
    recovered = trust_in(Ed25519PrivateKey.generate(), version=2, key_epoch=2)
    check_order(of(1, key_epoch=2), recovered, fast_forwarded, CHANNEL)
    with pytest.raises(ManifestError, match="in force is epoch 2"):
        check_order(of(1, seq=2**62 + 1), recovered, fast_forwarded, CHANNEL)


def test_what_was_accepted_in_a_later_epoch_is_not_undone_by_an_earlier_trust() -> None:
    later = ChannelRecord(key_epoch=2, seq=1)
    with pytest.raises(ManifestError, match="is older than seq 1 of epoch 2"):
        check_order(of(9), TRUST, later, CHANNEL)


# The clock


@pytest.mark.parametrize(
    ("clock_s", "issued_s", "expected_s"),
    [
        pytest.param(0.0, 0.0, BUILT_S, id="1970-and-nothing-accepted"),
        pytest.param(0.0, BUILT_S + 5, BUILT_S + 5, id="1970-and-something-accepted"),
        pytest.param(BUILT_S + 9, BUILT_S + 5, BUILT_S + 9, id="right"),
        pytest.param(BUILT_S + 3, BUILT_S + 5, BUILT_S + 5, id="stepped-back"),
        pytest.param(BUILT_S + 3e8, BUILT_S, BUILT_S + 3e8, id="ten-years-ahead"),
    ],
)
def test_it_is_never_earlier_than_is_known(
    clock_s: float, issued_s: float, expected_s: float
) -> None:
    assert not_before(clock_s, issued_s) == expected_s


# What a manifest does


def test_a_newer_release_is_offered() -> None:
    assert ruling(of(7)) == Ruling("offer")


def test_the_present_manifest_that_comes_at_each_connect_is_ignored() -> None:
    assert ruling(of(6)) == Ruling("ignore")
    assert ruling(of(6), in_state(State.FETCHING), UNDER_WAY) == Ruling("ignore")


def test_the_present_manifest_is_taken_again_where_the_disk_or_the_network_had_failed() -> None:
    again = ChannelRecord(key_epoch=1, seq=6, state=State.TIMED_OUT, retry=True)
    assert ruling(of(6), again) == Ruling("offer")


@pytest.mark.parametrize("state", BEFORE_THE_SWAP)
def test_a_newer_release_supersedes_what_has_not_been_swapped_in(state: State) -> None:
    expected = Ruling("offer", (Event.SUPERSEDE, "seq 7 is newer"))
    assert ruling(of(7), in_state(state), UNDER_WAY) == expected


@pytest.mark.parametrize("state", AFTER_THE_SWAP)
def test_a_newer_release_waits_for_the_end_of_a_probation(state: State) -> None:
    assert ruling(of(7), in_state(state), UNDER_WAY) == Ruling("hold")


@pytest.mark.parametrize("state", BEFORE_THE_SWAP)
def test_a_halt_ends_what_has_not_been_swapped_in(state: State) -> None:
    expected = Ruling("note", (Event.SUPERSEDE, "seq 7 halts it"))
    halted = of(6, seq=7, state="halted")
    assert ruling(halted, in_state(state), UNDER_WAY) == expected


@pytest.mark.parametrize("state", AFTER_THE_SWAP)
def test_a_halt_lets_a_probation_come_to_its_end(state: State) -> None:
    halted = of(6, seq=7, state="halted")
    assert ruling(halted, in_state(state), UNDER_WAY) == Ruling("note")


def test_a_halt_of_what_is_committed_leaves_it_running() -> None:
    assert ruling(of(5, seq=7, state="halted")) == Ruling("note")


@pytest.mark.parametrize("state", [*BEFORE_THE_SWAP, *AFTER_THE_SWAP])
def test_the_next_wave_of_what_is_under_way_does_not_begin_it_anew(state: State) -> None:
    assert ruling(of(6, seq=7), in_state(state), UNDER_WAY) == Ruling("adopt")


def test_the_next_wave_of_what_is_committed_changes_nothing() -> None:
    assert ruling(of(5, seq=7)) == Ruling("confirm")


@pytest.mark.parametrize(
    ("state", "event"),
    [
        *((state, Event.SUPERSEDE) for state in BEFORE_THE_SWAP),
        *((state, Event.FAIL) for state in AFTER_THE_SWAP),
    ],
)
def test_a_rollback_to_what_is_committed_ends_what_is_under_way(state: State, event: Event) -> None:
    expected = Ruling("confirm", (event, "seq 7 keeps version 5"))
    assert ruling(of(5, seq=7), in_state(state), UNDER_WAY) == expected


def test_a_node_that_is_not_asked_yet_remembers_the_number_and_no_more() -> None:
    assert ruling(of(7, rollout=NOBODY)) == Ruling("note")


def test_a_node_that_is_named_takes_part_whatever_the_share() -> None:
    named = Rollout(id="r", salt="s", share=0.0, nodes=("site-a/edge-1",))
    assert ruling(of(7, rollout=named)) == Ruling("offer")


def test_a_node_without_any_model_takes_part_in_every_wave() -> None:
    assert ruling(of(7, rollout=NOBODY), serves=False) == Ruling("offer")


@pytest.mark.parametrize("state", BEFORE_THE_SWAP)
def test_a_release_that_this_node_is_not_asked_to_take_leaves_its_update_alone(
    state: State,
) -> None:
    assert ruling(of(7, rollout=NOBODY), in_state(state), UNDER_WAY) == Ruling("note")


# What does not fit


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"expires": NOW_S}, "it has expired", id="expired"),
        pytest.param({"pipeline": "gauge"}, "made for pipeline gauge", id="pipeline"),
        pytest.param(
            {"input_shape": (4,)}, r"inputs of shape \[4\], this pipeline has \[3\]", id="shape"
        ),
        pytest.param(
            {"needs": Needs(runtime="1.23")}, "needs ONNX Runtime 1.23, this node has", id="runtime"
        ),
        pytest.param(
            {"needs": Needs(memory_bytes=2**30 + 1)}, "1073741825 bytes of memory", id="memory"
        ),
    ],
)
def test_a_release_that_is_not_for_this_node_is_refused_with_the_reason(
    changes: dict[str, Any], problem: str
) -> None:
    found = ruling(of(7, **changes))
    assert found.act == "offer"
    with pytest.raises(ManifestError, match=problem):
        raise ManifestError(found.refusal)


@pytest.mark.parametrize("runtime", ["", "1", "1.22", "1.9.3", "1.22.0"])
def test_a_runtime_as_old_as_it_may_be_will_do(runtime: str) -> None:
    assert unfit(of(7, needs=Needs(runtime=runtime)), RECORD, HOST, NOW_S) == ""


def test_a_node_that_cannot_tell_its_memory_takes_the_release() -> None:
    unknown = replace(HOST, memory_bytes=None)
    assert unfit(of(7, needs=Needs(memory_bytes=2**40)), RECORD, unknown, NOW_S) == ""


def test_a_file_that_is_too_large_is_refused_before_it_is_fetched() -> None:
    small = replace(HOST, max_artifact_bytes=file_of(of(7)).size - 1)
    assert "more than this node takes" in unfit(of(7), RECORD, small, NOW_S)


def test_what_failed_here_is_tried_again_only_if_the_manifest_asks_for_it() -> None:
    failed = ChannelRecord(
        key_epoch=1, seq=6, quarantined=(Quarantine(file_of(of(7)).sha256, retry_epoch=1),)
    )
    for retry_epoch in (0, 1):
        assert "failed on this node before" in unfit(
            of(7, retry_epoch=retry_epoch), failed, HOST, NOW_S
        )
    assert unfit(of(7, retry_epoch=2), failed, HOST, NOW_S) == ""


def test_what_was_rejected_is_offered_once_nothing_speaks_against_it_any_more() -> None:
    rejected, heavy = in_state(State.REJECTED), of(6, needs=Needs(memory_bytes=2**29))
    full = replace(HOST, memory_bytes=2**28)
    asked: dict[str, Any] = {"serves": True, "now_s": NOW_S}
    assert rule(heavy, rejected, None, ACTIVE, full, **asked) == Ruling("ignore")
    assert rule(heavy, rejected, None, ACTIVE, HOST, **asked) == Ruling("offer")


@pytest.mark.parametrize("changes", [{"rollout": NOBODY}, {"state": "halted"}])
@pytest.mark.parametrize("retry", [False, True])
def test_what_is_known_and_asks_nothing_of_this_node_is_not_noted_again(
    changes: dict[str, Any], retry: bool
) -> None:
    for state in (State.REJECTED, State.TIMED_OUT, State.COMMITTED):
        record = ChannelRecord(key_epoch=1, seq=6, state=state, retry=retry)
        assert ruling(of(6, **changes), record) == Ruling("ignore")


# Void certificates

VOID = Void(reason="drift", since=1.0)
COMMITTED = ChannelRecord(
    key_epoch=1,
    seq=6,
    state=State.COMMITTED,
    report=UpdateReport(
        node="edge-1",
        channel=CHANNEL,
        seq=5,
        version="5",
        state="COMMITTED",
        reason="",
        since=1.0,
        steps=[],
        rollout="rollout-1",
    ),
)


def marking(described: Manifest, record: ChannelRecord, void: Void | None) -> Ruling:
    asked: dict[str, Any] = {"serves": True, "now_s": NOW_S, "void": void}
    return rule(described, record, None, ACTIVE, HOST, **asked)


@pytest.mark.parametrize(("before", "after"), [(None, VOID), (VOID, None)])
def test_what_only_voids_or_restores_is_noted_and_not_reported(
    before: Void | None, after: Void | None
) -> None:
    assert marking(of(5, seq=7, void=after), COMMITTED, before) == Ruling("note", marks=True)


def test_the_next_wave_of_what_is_void_is_confirmed_as_ever() -> None:
    assert marking(of(5, seq=7, void=VOID), COMMITTED, VOID) == Ruling("confirm")


def test_where_the_rollout_waits_for_a_report_it_voids_and_reports() -> None:
    for record in (in_state(State.COMMITTED), replace_state(COMMITTED, State.ROLLED_BACK)):
        assert marking(of(5, seq=7, void=VOID), record, None) == Ruling("confirm", marks=True)


def test_a_halt_voids_what_is_committed_too() -> None:
    halted = of(5, seq=7, state="halted", void=VOID)
    assert marking(halted, COMMITTED, None) == Ruling("note", marks=True)


def test_a_void_release_that_another_node_has_says_nothing_of_the_one_here() -> None:
    elsewhere = of(7, rollout=NOBODY, void=VOID)
    assert marking(elsewhere, COMMITTED, None) == Ruling("note")


def test_a_void_manifest_that_is_known_is_ignored() -> None:
    assert marking(of(5, seq=6, void=VOID), COMMITTED, VOID) == Ruling("ignore")


def replace_state(record: ChannelRecord, state: State) -> ChannelRecord:
    return msgspec.structs.replace(record, state=state)
