"""What a new model may be rolled back for: each criterion says what is wrong, or nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from shared.probation_config import ProbationConfig
from shared.releases.baseline import Baseline, Promise, usual_at
from shared.releases.evidence import highest, is_above
from shared.releases.health import Health, bucket, by_size

SLOW_SHARE = 0.1
"""So many batches may be slow. A burst of other work on the machine is not the model's."""
ARTEFACT_COPIES = 4
"""Two models are in memory, each with its weights and what ONNX Runtime makes of them."""
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """What is known of a new model.

    Attributes:
        baseline: what the one before did; None if there was none.
        promise: what the release says of itself.
        seen: what was counted since the new one serves.
        progress: how much of its probation is over; 1 at the end.
        limits: what it may do worse.
    """

    baseline: Baseline | None
    promise: Promise
    seen: Health
    progress: float
    limits: ProbationConfig


class Rate(NamedTuple):
    """A share that was counted.

    Attributes:
        name: in words.
        bad: how many were so.
        total: of how many.
        unit: what was counted.
    """

    name: str
    bad: int
    total: int
    unit: str


def errors(case: Case) -> str:
    """Batches that the model cannot run."""
    before = case.baseline.counted.failed_batches if case.baseline is not None else 0
    bad = case.seen.failed_batches
    if not _breaks(case, bad, before):
        return ""
    return f"{bad:,} of {case.seen.batches:,} batches that it cannot run{_were(case, before)}"


def invalid_scores(case: Case) -> str:
    """Batches with malformed scores."""
    before = case.baseline.counted.broken_batches if case.baseline is not None else 0
    bad = case.seen.broken_batches
    if not _breaks(case, bad, before):
        return ""
    return f"{bad:,} of {case.seen.batches:,} batches without sound scores{_were(case, before)}"


def escalations(case: Case) -> str:
    """Samples that the gate does not accept."""
    seen, promised = case.seen, case.promise.escalation_share
    references, words = [], []
    if case.baseline is not None and case.baseline.counted.gated_samples > 0:
        was, total = case.baseline.counted.unsure_samples, case.baseline.counted.gated_samples
        references.append(highest(was, total))
        words.append(f"{was / total:.2f} before")
    if promised is not None:
        references.append(promised)
        words.append(f"{promised:.2f} promised")
    if not references:
        return ""
    rate = Rate("escalation rate", seen.unsure_samples, seen.gated_samples, "samples")
    return _above(rate, max(references) + case.limits.escalation_margin, words, case.limits)


def lost_upstream(case: Case) -> str:
    """Questions without an answer. A short outage is not the model's: it is judged at the end."""
    if case.baseline is None or case.progress < 1:
        return ""
    before = case.baseline.counted
    lost = min(before.lost, before.asked)
    limit = highest(lost, before.asked) + case.limits.lost_margin
    words = [f"{lost / max(before.asked, 1):.2f} before"]
    asked = case.seen.asked
    rate = Rate("lost upstream", min(case.seen.lost, asked), asked, "questions")
    return _above(rate, limit, words, case.limits)


def latency(case: Case) -> str:
    """Batches that take longer than they took. Judged from half of the time on.

    The share of the batches that are slow is held against ``SLOW_SHARE``: where it is above, the
    90th percentile of the new model, and so its 95th, is beyond the limit. This is a quantile test
    (Conover, Practical Nonparametric Statistics, 3rd edition, 1999, section 3.2).
    """
    if case.baseline is None or case.progress < 0.5:
        return ""
    slow = total = 0
    usual_s, worst = case.baseline.usual_s(), (0, 0.0)
    for size, times in by_size(case.seen.run_times).items():
        usual = usual_at(usual_s, size)
        if usual is not None:
            slow_here = _slower_than(times, _limit_s(usual, case.limits))
            slow, total = slow + slow_here, total + sum(times.values())
            worst = max(worst, (slow_here, usual))
    if not is_above(slow, total, SLOW_SHARE, case.limits.false_alarm):
        return ""
    usual_ms, limit_ms = worst[1] * 1000, _limit_s(worst[1], case.limits) * 1000
    return (
        f"p95 latency: {slow:,} of {total:,} batches are slow; most of these took more than "
        f"{limit_ms:.3g} ms, where 95 % took at most {usual_ms:.3g} ms before"
    )


def memory(case: Case) -> str:
    """Resident memory of the process."""
    if case.baseline is None or case.baseline.rss_bytes is None or case.seen.rss_bytes is None:
        return ""
    limits, before, now = case.limits, case.baseline.rss_bytes, case.seen.rss_bytes
    limit = (
        limits.rss_factor * before
        + limits.rss_slack_bytes
        + ARTEFACT_COPIES * case.promise.artefact_bytes
    )
    if now <= limit:
        return ""
    return (
        f"RSS: the process takes {now / MIB:.0f} MiB, at most {limit / MIB:.0f} MiB expected: "
        f"{before / MIB:.0f} MiB before"
    )


CRITERIA: Mapping[str, Callable[[Case], str]] = {
    "errors": errors,
    "invalid_scores": invalid_scores,
    "escalations": escalations,
    "latency": latency,
    "memory": memory,
    "lost_upstream": lost_upstream,
}
"""What is looked at, in this order."""


def _breaks(case: Case, bad: int, before: int) -> bool:
    """Whether a model breaks too many batches, at once where the one before broke none."""
    limit = case.limits.max_broken_share
    if bad <= limit * case.seen.batches:
        return False
    if not before:
        return True
    # The samples are at fault, too: then it must be worse than chance would have it.
    usual = highest(before, _batches_before(case))
    return is_above(bad, case.seen.batches, max(limit, usual), case.limits.false_alarm)


def _above(rate: Rate, limit: float, words: list[str], limits: ProbationConfig) -> str:
    if not is_above(rate.bad, rate.total, limit, limits.false_alarm):
        return ""
    return (
        f"{rate.name} {rate.bad / rate.total:.2f} after {rate.total:,} {rate.unit}, "
        f"at most {limit:.2f} expected: {', '.join(words)}"
    )


def _were(case: Case, before: int) -> str:
    return f": {before:,} of {_batches_before(case):,} before" if before else ""


def _batches_before(case: Case) -> int:
    return case.baseline.counted.batches if case.baseline is not None else 0


def _limit_s(usual_s: float, limits: ProbationConfig) -> float:
    return max(limits.latency_factor * usual_s, usual_s + limits.latency_slack_ms / 1000)


def _slower_than(times: Mapping[int, int], limit_s: float) -> int:
    return sum(count for at, count in times.items() if at > bucket(limit_s))
