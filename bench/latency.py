"""Latency at a steady rate."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.ledger import Ledger
from bench.loops import Latency, offer
from bench.models import SMALL
from bench.rows import ratios
from bench.scenario import Figure, Outcome, Plan, Say, latency_figure
from bench.stand import Contestant, Stand
from bench.throughput import one_run

CALM_PER_S = 100.0
BUSY_SHARE = 0.9

Runs = dict[str, list[Latency]]


def calm(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """A hundred messages a second: the echo, a node that answers, a node that asks tier-2.

    The usual script and the yardstick run as well, for their figures: they show what a model costs
    that runs now and then.
    """
    contestants = (
        stand.echo(SMALL, 1),
        stand.ours(SMALL, 1),
        stand.cascade(SMALL),
        stand.naive(SMALL, 1),
        stand.floor(SMALL),
    )
    title = f"{CALM_PER_S:.0f} messages/s, QoS 1"
    with stand.running(*contestants):
        runs = _interleaved(stand, plan, say, contestants, title=title, rate_per_s=CALM_PER_S)
    echo, floor = ([run.p50_ms for run in runs[name]] for name in ("echo", "floor"))
    least = ratios(floor, echo)
    return Outcome(
        {
            "p50_vs_echo": ratios([run.p50_ms for run in runs["ours"]], echo),
            "escalation_vs_echo": ratios([run.p50_ms for run in runs["ours, escalated"]], echo),
        },
        _figures(title, runs),
        {
            "p50_vs_echo": f"floor ÷ echo: {_spread(least)}",
            "escalation_vs_echo": f"twice floor ÷ echo: {_spread([2 * each for each in least])}",
        },
    )


def busy(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """Nine tenths of what the usual script can take, for both."""
    contestants = naive, _ = stand.naive(SMALL, 1), stand.ours(SMALL, 1)
    title = "90 % of naive's saturation, QoS 1"
    with stand.running(*contestants):
        saturation = median(
            one_run(stand, plan.window, naive).messages_per_s for _ in range(min(3, plan.rounds))
        )
        rate_per_s = BUSY_SHARE * saturation
        say(f"naive saturates at {saturation:.0f} messages/s; offering {rate_per_s:.0f}")
        runs = _interleaved(stand, plan, say, contestants, title=title, rate_per_s=rate_per_s)
    ours, theirs = ([run.p99_ms for run in runs[name]] for name in ("ours", "naive"))
    return Outcome({"p99_vs_naive": ratios(ours, theirs)}, _figures(title, runs))


def _interleaved(
    stand: Stand,
    plan: Plan,
    say: Say,
    contestants: Sequence[Contestant],
    *,
    title: str,
    rate_per_s: float,
) -> Runs:
    runs: Runs = {contestant.name: [] for contestant in contestants}
    for number in range(plan.rounds):
        for contestant in contestants if number % 2 == 0 else contestants[::-1]:
            ledger = Ledger()
            with stand.load(contestant, ledger) as load:
                run = offer(load, ledger, rate_per_s, plan.warm_up_s, plan.steady_s)
            runs[contestant.name].append(run)
            say(
                f"{title}, round {number + 1}/{plan.rounds}, {contestant.name}: "
                f"p50 {run.p50_ms:.2f} ms, p99 {run.p99_ms:.2f} ms"
            )
    return runs


def _figures(title: str, runs: Runs) -> list[Figure]:
    return [latency_figure(title, name, each) for name, each in runs.items()]


def _spread(measured: Sequence[float]) -> str:
    return f"{median(measured):.2f} ({min(measured):.2f} to {max(measured):.2f})"
