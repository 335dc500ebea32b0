"""Throughput and CPU at saturation."""

from __future__ import annotations

from collections.abc import Sequence

from bench.loops import Saturation, Window, saturate
from bench.models import LARGE, SMALL
from bench.rows import ratios
from bench.scenario import Outcome, Plan, Say, saturation_figure
from bench.stand import Contestant, Stand

PACK = 32

Runs = dict[str, list[Saturation]]


def qos1(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """Samples of 64 floats in JSON, at least once."""
    contestants = stand.naive(SMALL, 1), stand.echo(SMALL, 1), stand.ours(SMALL, 1)
    title = "QoS 1, JSON of 64 floats"
    runs = interleaved(stand, plan, say, title, contestants)
    outcome = _outcome(title, runs)
    ours, naive, echo = runs["ours"], runs["naive"], runs["echo"]
    outcome.measurements = {
        "throughput_vs_naive": _throughput(ours, naive),
        "throughput_vs_echo": _throughput(ours, echo),
        "cpu_vs_naive": ratios([run.cpu_us for run in ours], [run.cpu_us for run in naive]),
    }
    return outcome


def qos0(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """The same, at most once."""
    contestants = stand.naive(SMALL, 0), stand.echo(SMALL, 0), stand.ours(SMALL, 0)
    title = "QoS 0, JSON of 64 floats"
    runs = interleaved(stand, plan, say, title, contestants)
    outcome = _outcome(title, runs)
    outcome.measurements["throughput_q0_vs_naive"] = _throughput(runs["ours"], runs["naive"])
    return outcome


def large(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """Samples of 561 floats in JSON and a larger model, at least once."""
    contestants = stand.naive(LARGE, 1), stand.ours(LARGE, 1)
    title = "QoS 1, JSON of 561 floats"
    runs = interleaved(stand, plan, say, title, contestants)
    outcome = _outcome(title, runs)
    outcome.measurements["throughput561_vs_naive"] = _throughput(runs["ours"], runs["naive"])
    return outcome


def packs(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """Packs of 32 samples as raw float32, at least once, against the usual script's JSON."""
    contestants = stand.naive(SMALL, 1), stand.ours(SMALL, 1, pack=PACK)
    title = f"QoS 1, ours in packs of {PACK} as raw float32"
    runs = interleaved(stand, plan, say, title, contestants)
    outcome = _outcome(title, runs)
    per_message = _throughput(runs["ours"], runs["naive"])
    outcome.measurements["packs_vs_naive"] = [ratio * PACK for ratio in per_message]
    return outcome


def interleaved(
    stand: Stand, plan: Plan, say: Say, title: str, contestants: Sequence[Contestant]
) -> Runs:
    """Runs contestants in turn, every second round backwards; returns the runs by name."""
    runs: Runs = {contestant.name: [] for contestant in contestants}
    with stand.running(*contestants):
        for number in range(plan.rounds):
            for contestant in contestants if number % 2 == 0 else contestants[::-1]:
                run = one_run(stand, plan.window, contestant)
                runs[contestant.name].append(run)
                say(f"{title}, round {number + 1}/{plan.rounds}, {contestant.name}: {_said(run)}")
    return runs


def one_run(stand: Stand, window: Window, contestant: Contestant) -> Saturation:
    """Saturates a running contestant once."""
    with stand.load(contestant) as load:
        return saturate(load, window, lambda: (contestant.cpu_s, stand.broker_cpu_s))


def _said(run: Saturation) -> str:
    return f"{run.messages_per_s / 1000:.2f} k messages/s, {run.cpu_us:.0f} µs CPU"


def _outcome(title: str, runs: Runs) -> Outcome:
    return Outcome(figures=[saturation_figure(title, name, each) for name, each in runs.items()])


def _throughput(above: Sequence[Saturation], below: Sequence[Saturation]) -> list[float]:
    return ratios([run.messages_per_s for run in above], [run.messages_per_s for run in below])
