"""The fastest artefact on this node serves, and the report says why."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.errors import SmokeError
from shared.releases.choice import MIB, ChoiceLimits, choose
from shared.releases.trial import TrialResult

FP32 = TrialResult(
    "f" * 64, "fp32", True, latency_ms=2.0, memory_bytes=8 * MIB, network_isolated=True
)
INT8 = TrialResult(
    "8" * 64, "int8", True, latency_ms=1.0, memory_bytes=3 * MIB, network_isolated=True
)
RUNNING = TrialResult(
    "a" * 64, "fp32", True, latency_ms=1.5, memory_bytes=7 * MIB, network_isolated=True
)


def changed(result: TrialResult, **changes: Any) -> TrialResult:
    return msgspec.structs.replace(result, **changes)


def failed(result: TrialResult, reason: str) -> TrialResult:
    return TrialResult(result.sha256, result.precision, False, reason, network_isolated=True)


@pytest.mark.parametrize(
    ("fp32_ms", "int8_ms", "expected"),
    [
        pytest.param(2.0, 1.0, INT8, id="int8-is-faster"),
        pytest.param(1.0, 2.0, FP32, id="fp32-is-faster"),
        pytest.param(1.0, 1.0, INT8, id="level"),
        pytest.param(1.0, 1.05, INT8, id="slower-by-no-more-than-the-tie"),
        pytest.param(1.0, 1.06, FP32, id="slower-by-more-than-the-tie"),
        pytest.param(0.0, 0.0, INT8, id="too-fast-to-be-measured"),
    ],
)
@pytest.mark.parametrize("reverse", [False, True], ids=["fp32-first", "int8-first"])
def test_the_fastest_serves_and_int8_where_they_are_level(
    fp32_ms: float, int8_ms: float, expected: TrialResult, reverse: bool
) -> None:
    results = [changed(FP32, latency_ms=fp32_ms), changed(INT8, latency_ms=int8_ms)]
    choice = choose(results[::-1] if reverse else results, None)
    assert choice.chosen.sha256 == expected.sha256
    assert choice.reason.startswith(f"{expected.precision} is taken")


def test_the_reason_names_every_figure() -> None:
    assert choose([FP32, INT8], RUNNING).reason == (
        "int8 is taken: fp32: 2 ms a sample, 8.0 MiB; int8: 1 ms a sample, 3.0 MiB; "
        "the running model: 1.5 ms a sample, 7.0 MiB"
    )


def test_what_failed_is_never_taken_and_the_reason_says_why() -> None:
    choice = choose([FP32, failed(INT8, "it answers NaN")], RUNNING)
    assert choice.chosen == FP32
    assert "int8: it answers NaN" in choice.reason


@pytest.mark.parametrize(
    ("running", "words"),
    [
        pytest.param(None, "no running model to compare with", id="none"),
        pytest.param(
            failed(RUNNING, "it crashed"),
            "the running model could not be measured: it crashed",
            id="failed",
        ),
    ],
)
def test_without_a_measured_running_model_any_speed_will_do(
    running: TrialResult | None, words: str
) -> None:
    choice = choose([changed(FP32, latency_ms=900.0)], running)
    assert choice.reason.endswith(words)


@pytest.mark.parametrize(
    ("running_ms", "new_ms", "refused"),
    [
        pytest.param(1.5, 6.0, False, id="four-times-as-slow"),
        pytest.param(1.5, 6.01, True, id="slower-than-that"),
        pytest.param(0.01, 1.0, False, id="a-hundred-times-as-slow-within-a-millisecond"),
        pytest.param(0.01, 1.01, True, id="beyond-that-millisecond"),
    ],
)
def test_a_model_much_slower_than_the_running_one_is_refused(
    running_ms: float, new_ms: float, refused: bool
) -> None:
    results, baseline = [changed(FP32, latency_ms=new_ms)], changed(RUNNING, latency_ms=running_ms)
    if not refused:
        assert choose(results, baseline).chosen == results[0]
        return
    with pytest.raises(SmokeError, match=r"more than 4 times the .* ms of the running model"):
        choose(results, baseline)


def test_a_slow_artefact_leaves_the_place_to_one_that_is_not() -> None:
    slow = changed(FP32, latency_ms=7.0)
    choice = choose([slow, changed(INT8, latency_ms=5.0)], RUNNING)
    assert choice.chosen.precision == "int8"
    assert "fp32: it takes 7 ms a sample, more than 4 times the 1.5 ms" in choice.reason


def test_an_artefact_larger_than_the_memory_that_is_left_is_refused() -> None:
    limits = ChoiceLimits(available_bytes=5 * MIB)
    fastest = changed(FP32, latency_ms=0.5)
    choice = choose([fastest, INT8], RUNNING, limits)
    assert choice.chosen == INT8
    assert "fp32: it takes 8.0 MiB, and 5.0 MiB are left" in choice.reason


def test_where_nothing_may_serve_the_error_says_why_of_each() -> None:
    with pytest.raises(SmokeError) as raised:
        choose([FP32, failed(INT8, "it answers NaN")], None, ChoiceLimits(available_bytes=MIB))
    assert str(raised.value) == (
        "no artefact may serve here: fp32: it takes 8.0 MiB, and 1.0 MiB are left; "
        "int8: it answers NaN"
    )
    with pytest.raises(SmokeError, match="there is none"):
        choose([], RUNNING)


def test_a_trial_with_the_network_in_reach_is_said_to_be_one() -> None:
    assert (
        "with the network in reach" in choose([changed(FP32, network_isolated=False)], None).reason
    )
    assert "network" not in choose([FP32], None).reason
