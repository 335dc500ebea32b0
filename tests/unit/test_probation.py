"""A model that does worse than the one before goes; noise and silence are no reason."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.probation_config import ProbationConfig
from shared.releases.baseline import Baseline, Promise
from shared.releases.criteria import CRITERIA
from shared.releases.health import Counts, Health, place
from shared.releases.probation import (
    LOOK_S,
    RSS_READINGS,
    RSS_STEP_S,
    STALL_S,
    Decision,
    Probation,
    Verdict,
    judge,
)

PROBATION_S = 10.0
LIMITS = ProbationConfig()
MIB = 2**20
NO_PROMISE = Promise()
QUICK_S, SLOW_S = 0.002, 0.02


def health(batches: int, *, took_s: float = QUICK_S, **counted: int) -> Health:
    """Returns what a model counts that runs lone samples, all alike."""
    values = {"samples": batches, "gated_samples": batches, **counted}
    return Health(batches=batches, run_times={place(1, took_s): batches}, **values)


BASELINE = Baseline(
    health(5000, unsure_samples=900, asked=900, lost=9), rss_bytes=100 * MIB
)  # fmt: skip
GOOD = health(240, unsure_samples=43, asked=43, lost=1, rss_bytes=110 * MIB)


def verdict(
    seen: Health,
    elapsed_s: float = PROBATION_S,
    *,
    baseline: Baseline | None = BASELINE,
    limits: ProbationConfig = LIMITS,
    promise: Promise = NO_PROMISE,
    before: Health = Health(),  # noqa: B008 - it is frozen
) -> Verdict:
    return judge(
        baseline, before, seen, elapsed_s, probation_s=PROBATION_S, limits=limits, promise=promise
    )


# Each criterion


def test_a_model_like_the_one_before_is_watched_and_then_committed() -> None:
    assert verdict(GOOD, PROBATION_S - 0.1) == Verdict(Decision.WATCH)
    assert verdict(GOOD) == Verdict(Decision.COMMIT)


BAD: dict[str, dict[str, Any]] = {
    "errors": {"broken_batches": 13, "failed_batches": 13},
    "invalid_scores": {"broken_batches": 13},
    "escalations": {"unsure_samples": 146},
    "latency": {"took_s": SLOW_S},
    "memory": {"rss_bytes": 300 * MIB},
    "lost_upstream": {"lost": 40},
}
REASONS = {
    "errors": "13 of 240 batches that it cannot run",
    "invalid_scores": "13 of 240 batches without sound scores",
    "escalations": "escalation rate 0.61 after 240 samples, at most 0.30 expected: 0.18 before",
    "latency": "p95 latency: 240 of 240 batches are slow; most of these took more than 4.09 ms, "
    "where 95 % took at most 2.05 ms before",
    "memory": "RSS: the process takes 300 MiB, at most 214 MiB expected: 100 MiB before",
    "lost_upstream": "lost upstream 0.93 after 43 questions, at most 0.13 expected: 0.01 before",
}


def test_each_criterion_has_its_bad_model_here() -> None:
    assert BAD.keys() == REASONS.keys() == CRITERIA.keys()


def bad(criterion: str) -> Health:
    counted = {"unsure_samples": 43, "asked": 43, "lost": 1, "rss_bytes": 110 * MIB}
    return health(240, **{**counted, **BAD[criterion]})


@pytest.mark.parametrize("criterion", BAD)
def test_a_model_that_is_bad_in_one_respect_is_rolled_back_with_figures(criterion: str) -> None:
    assert verdict(bad(criterion)) == Verdict(
        Decision.ROLL_BACK, REASONS[criterion], criterion, criterion != "lost_upstream"
    )


@pytest.mark.parametrize(
    ("criterion", "from_s"),
    [
        ("errors", 0.0), ("invalid_scores", 0.0), ("escalations", 0.0), ("memory", 0.0),
        ("latency", PROBATION_S / 2), ("lost_upstream", PROBATION_S),
    ],
)  # fmt: skip
def test_what_is_bad_is_told_early_where_the_machine_or_the_link_may_not_be_at_fault(
    criterion: str, from_s: float
) -> None:
    assert verdict(bad(criterion), from_s).criterion == criterion
    if from_s:
        assert verdict(bad(criterion), from_s - 0.01) == Verdict(Decision.WATCH)


@pytest.mark.parametrize("criterion", BAD)
def test_what_was_as_bad_before_is_no_reason(criterion: str) -> None:
    seen = bad(criterion)
    usual = {
        name: getattr(seen, name) * 20
        for name in msgspec.structs.asdict(seen)
        if name not in ("run_times", "rss_bytes", "under_way")
    }
    times = {at: count * 20 for at, count in seen.run_times.items()}
    before = Baseline(Health(**usual, run_times=times), seen.rss_bytes)
    assert verdict(seen, baseline=before) == Verdict(Decision.COMMIT)


@pytest.mark.parametrize("criterion", BAD)
def test_what_was_counted_before_the_swap_does_not_count(criterion: str) -> None:
    before = msgspec.structs.replace(bad(criterion), rss_bytes=None)
    now = Health(
        batches=before.batches + GOOD.batches,
        broken_batches=before.broken_batches,
        failed_batches=before.failed_batches,
        samples=before.samples + GOOD.samples,
        gated_samples=before.gated_samples + GOOD.gated_samples,
        unsure_samples=before.unsure_samples + GOOD.unsure_samples,
        asked=before.asked + GOOD.asked,
        lost=before.lost + GOOD.lost,
        run_times={
            at: before.run_times.get(at, 0) + GOOD.run_times.get(at, 0)
            for at in {*before.run_times, *GOOD.run_times}
        },
        rss_bytes=GOOD.rss_bytes,
    )
    assert verdict(now, before=before) == Verdict(Decision.COMMIT)


# Malformed scores


def test_a_single_batch_that_is_malformed_is_enough_where_nothing_was_before() -> None:
    assert verdict(health(1, broken_batches=1), 0.0).reason == "1 of 1 batches without sound scores"


def test_a_few_broken_batches_are_forgiven() -> None:
    assert verdict(health(100, broken_batches=5)).decision is Decision.COMMIT
    assert verdict(health(100, broken_batches=6)).decision is Decision.ROLL_BACK


def test_samples_that_broke_the_model_before_as_well_do_not_speak_against_this_one() -> None:
    before = Baseline(health(5000, broken_batches=400))
    assert verdict(health(1000, broken_batches=90), baseline=before).decision is Decision.COMMIT
    worse = verdict(health(100, broken_batches=40), baseline=before)
    assert worse.reason == "40 of 100 batches without sound scores: 400 of 5,000 before"


# Escalations


def test_a_release_may_escalate_as_much_as_it_promises() -> None:
    seen = health(240, unsure_samples=146)
    assert verdict(seen, promise=Promise(0.6)).decision is Decision.COMMIT
    told = verdict(seen, promise=Promise(0.3)).reason
    assert told.endswith("at most 0.40 expected: 0.18 before, 0.30 promised")


def test_a_promise_to_escalate_less_than_before_is_no_reason_to_roll_back() -> None:
    assert verdict(GOOD, promise=Promise(0.01)).decision is Decision.COMMIT


def test_a_rate_of_few_samples_is_no_evidence_on_either_side() -> None:
    assert verdict(health(3, unsure_samples=3)).decision is Decision.COMMIT
    young = Baseline(health(3, unsure_samples=0))
    assert verdict(health(30, unsure_samples=20), baseline=young).decision is Decision.COMMIT


# Latency


def test_larger_batches_of_the_same_model_are_not_slow() -> None:
    seen = Health(batches=300, samples=9600, run_times={place(32, 16 * QUICK_S): 300})
    assert verdict(seen).decision is Decision.COMMIT


def test_a_slow_model_is_told_by_its_own_size_of_batches() -> None:
    times = {place(1, QUICK_S): 1000, place(32, 16 * QUICK_S): 1000}
    before = Baseline(Health(batches=2000, samples=33_000, run_times=times))
    # As slow for one sample as the model before was for 32.
    seen = Health(batches=300, samples=300, run_times={place(1, 16 * QUICK_S): 300})
    assert verdict(seen, baseline=before).criterion == "latency"


def test_a_short_burst_of_other_work_on_the_machine_is_forgiven() -> None:
    times = {place(1, QUICK_S): 920, place(1, 50 * QUICK_S): 80}
    assert verdict(Health(batches=1000, samples=1000, run_times=times)).decision is Decision.COMMIT


def test_a_microsecond_more_is_not_slow() -> None:
    before = Baseline(health(1000, took_s=50e-6))
    assert verdict(health(300, took_s=900e-6), baseline=before).decision is Decision.COMMIT


# Memory


def test_a_large_model_may_take_the_memory_of_both() -> None:
    seen = msgspec.structs.replace(GOOD, rss_bytes=600 * MIB)
    assert verdict(seen, promise=Promise(None, 100 * MIB)).decision is Decision.COMMIT
    assert verdict(seen, promise=Promise(None, 10 * MIB)).criterion == "memory"


def test_memory_that_cannot_be_read_is_not_judged() -> None:
    seen = msgspec.structs.replace(bad("memory"), rss_bytes=None)
    assert verdict(seen).decision is Decision.COMMIT
    unread = Baseline(BASELINE.counted, None)
    assert verdict(bad("memory"), baseline=unread).decision is Decision.COMMIT


# Without a baseline, without traffic


@pytest.mark.parametrize("criterion", BAD)
def test_a_first_release_is_judged_by_what_is_bad_in_itself(criterion: str) -> None:
    told = verdict(bad(criterion), baseline=None)
    is_bad_in_itself = criterion in ("errors", "invalid_scores")
    assert told.decision is (Decision.ROLL_BACK if is_bad_in_itself else Decision.COMMIT)


def test_a_first_release_is_held_to_its_promise() -> None:
    told = verdict(bad("escalations"), baseline=None, promise=Promise(0.2))
    assert told.reason == (
        "escalation rate 0.61 after 240 samples, at most 0.30 expected: 0.20 promised"
    )


@pytest.mark.parametrize("baseline", [None, BASELINE], ids=["no-baseline", "baseline"])
def test_without_traffic_a_release_is_committed_and_says_so(baseline: Baseline | None) -> None:
    assert verdict(Health(), PROBATION_S - 0.1, baseline=baseline) == Verdict(Decision.WATCH)
    assert verdict(Health(), baseline=baseline) == Verdict(
        Decision.COMMIT, "committed unwatched: 0 samples in 10 s"
    )
    assert verdict(health(3), baseline=baseline).reason == "committed unwatched: 3 samples in 10 s"


def test_a_probation_may_wait_for_traffic_but_not_for_ever() -> None:
    limits = ProbationConfig(max_extension_s=50.0)
    assert verdict(health(19), 59.9, limits=limits) == Verdict(Decision.WATCH)
    assert verdict(health(20), 20.0, limits=limits) == Verdict(Decision.COMMIT)
    assert verdict(health(19), 60.0, limits=limits).reason == (
        "committed unwatched: 19 samples in 60 s"
    )


def test_a_model_that_hangs_on_its_first_batch_is_never_committed() -> None:
    hangs = Health(under_way=1)
    assert verdict(hangs, STALL_S - 0.1) == Verdict(Decision.WATCH)
    told = verdict(hangs, STALL_S)
    assert (told.decision, told.criterion) == (Decision.ROLL_BACK, "stalled")
    assert told.blames_model


# Statistics


def course(
    rng: random.Random, samples: int, unsure: float, lost: float, slower: float = 1.0
) -> Health:
    """Returns what a model counts of so many random samples on a machine that is not quiet."""
    counts = Counts()
    for _ in range(samples):
        counts.batch(1, 0, slower * rng.lognormvariate(-6.2, 0.4), failed=False)
        is_unsure = rng.random() < unsure
        counts.gate(1, int(is_unsure))
        counts.asked += is_unsure
        counts.lost += is_unsure and rng.random() < lost
    return counts.snapshot()


@pytest.mark.parametrize("samples", [5, 50, 500])
@pytest.mark.parametrize("history", [30, 1000])
def test_a_model_that_is_no_worse_is_not_rolled_back_by_noise(samples: int, history: int) -> None:
    for seed in range(100):
        rng = random.Random(seed)
        before = Baseline(course(rng, history, 0.2, 0.05))
        told = verdict(course(rng, samples, 0.2, 0.05), baseline=before)
        assert told.decision is Decision.COMMIT, f"seed {seed}: {told.reason}"


@pytest.mark.parametrize(
    ("criterion", "values"),
    [
        ("escalations", {"unsure": 0.6}),
        ("latency", {"slower": 5.0}),
        ("lost_upstream", {"lost": 0.9}),
    ],
)
def test_a_model_that_is_clearly_worse_is_rolled_back_whatever_the_noise(
    criterion: str, values: dict[str, float]
) -> None:
    for seed in range(50):
        rng = random.Random(seed)
        before = Baseline(course(rng, 1000, 0.2, 0.05))
        told = verdict(course(rng, 250, **{"unsure": 0.2, "lost": 0.05, **values}), baseline=before)
        assert told.criterion == criterion, f"seed {seed}: {told}"


RANKS = [Decision.COMMIT, Decision.WATCH, Decision.ROLL_BACK]
COUNTS = st.integers(0, 300)


@st.composite
def healths(draw: st.DrawFn) -> Health:
    total = draw(COUNTS)
    part = st.integers(0, total)
    broken, slow, asked = draw(part), draw(part), draw(COUNTS)
    return Health(
        batches=total,
        broken_batches=broken,
        failed_batches=draw(st.integers(0, broken)),
        samples=total,
        gated_samples=total,
        unsure_samples=draw(part),
        asked=asked,
        lost=draw(st.integers(0, asked)),
        run_times={place(1, QUICK_S): total - slow, place(1, SLOW_S): slow},
        rss_bytes=draw(st.none() | st.integers(0, 400 * MIB)),
    )


def worse_at(seen: Health, criterion: str, by: int) -> Health:
    """Returns the same with so much more of what a criterion looks at."""
    quick = seen.run_times[place(1, QUICK_S)]
    slower = min(by, quick)
    changes: dict[str, dict[str, object]] = {
        "errors": {"failed_batches": min(seen.failed_batches + by, seen.batches)},
        "invalid_scores": {"broken_batches": min(seen.broken_batches + by, seen.batches)},
        "escalations": {"unsure_samples": min(seen.unsure_samples + by, seen.gated_samples)},
        "latency": {
            "run_times": {
                place(1, QUICK_S): quick - slower,
                place(1, SLOW_S): seen.run_times[place(1, SLOW_S)] + slower,
            }
        },
        "memory": {"rss_bytes": None if seen.rss_bytes is None else seen.rss_bytes + by * MIB},
        "lost_upstream": {"lost": min(seen.lost + by, seen.asked)},
    }
    return msgspec.structs.replace(seen, **changes[criterion])


def baselines() -> st.SearchStrategy[Baseline | None]:
    return st.none() | st.builds(Baseline, healths(), st.none() | st.integers(0, 200 * MIB))


@given(
    seen=healths(),
    judged_by=st.fixed_dictionaries(
        {
            "elapsed_s": st.floats(0, 2 * PROBATION_S),
            "baseline": baselines(),
            "promise": st.builds(Promise, st.none() | st.floats(0, 1)),
        }
    ),
    criterion=st.sampled_from(sorted(CRITERIA)),
    by=st.integers(1, 300),
)
def test_what_is_worse_is_never_judged_better(
    seen: Health, judged_by: dict[str, Any], criterion: str, by: int
) -> None:
    def rank(case: Health) -> int:
        return RANKS.index(verdict(case, **judged_by).decision)

    assert rank(worse_at(seen, criterion, by)) >= rank(seen)


# Turn by turn


def probation(
    baseline: Baseline | None = BASELINE,
    before: Health = Health(),  # noqa: B008 - it is frozen
) -> Probation:
    return Probation(
        baseline=baseline,
        promise=NO_PROMISE,
        limits=LIMITS,
        probation_s=PROBATION_S,
        before=before,
        now_s=100.0,
    )


def no_memory() -> None:
    return None


def test_malformed_scores_end_it_in_the_same_turn() -> None:
    watch = probation()
    assert watch.poll(health(10), 100.0, no_memory).decision is Decision.WATCH
    told = watch.poll(health(11, broken_batches=1), 100.0 + LOOK_S / 100, no_memory)
    assert told.decision is Decision.ROLL_BACK


def test_all_else_is_looked_at_now_and_then() -> None:
    watch = probation()
    assert watch.poll(Health(), 100.0, no_memory).decision is Decision.WATCH
    unsure = health(240, unsure_samples=240)
    assert watch.poll(unsure, 100.0 + LOOK_S / 2, no_memory).decision is Decision.WATCH
    assert watch.poll(unsure, 100.0 + LOOK_S, no_memory).criterion == "escalations"


def test_it_ends_when_its_time_is_over_and_not_before() -> None:
    watch = probation()
    assert watch.poll(GOOD, 100.0 + PROBATION_S - 0.01, no_memory).decision is Decision.WATCH
    assert watch.poll(GOOD, 100.0 + PROBATION_S, no_memory) == Verdict(Decision.COMMIT)


def polled(read_rss: Callable[[], int | None], seconds: int) -> list[Verdict]:
    """Polls it without traffic, so often that the memory is due now and then only."""
    watch = probation()
    return [
        watch.poll(Health(), 100.0 + turn * RSS_STEP_S / 4, read_rss) for turn in range(4 * seconds)
    ]


def test_a_process_that_swells_is_rolled_back_and_its_memory_is_read_once_a_second() -> None:
    readings = [300 * MIB] * 9
    told = polled(readings.pop, RSS_READINGS)
    assert len(readings) == 9 - RSS_READINGS
    assert told[-5].decision is Decision.WATCH
    assert told[-1].criterion == "memory"


def test_a_short_peak_of_memory_is_forgiven() -> None:
    readings = iter([110, 300, 300, 110, 300, 300, 110, 110])
    told = polled(lambda: next(readings) * MIB, 8)
    assert all(each.decision is Decision.WATCH for each in told)


def test_the_last_counts_of_the_model_before_do_not_end_it() -> None:
    before = health(100, broken_batches=100)
    watch = probation(before=before)
    assert watch.poll(before, 100.0, no_memory).decision is Decision.WATCH
    assert watch.poll(before, 100.0 + PROBATION_S, no_memory).decision is Decision.COMMIT
