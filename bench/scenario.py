"""What a scenario is: some rows that are measured together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import msgspec

from bench.loops import Latency, Saturation, Window
from bench.stand import Stand


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: interleaved runs of each contestant.
        window: the course of a saturation run.
        steady_s: length of a latency run.
        warm_up_s: what of it is not measured at its start.
        starts: how often the start is measured.
        kills: how often a node is killed.
        kill_messages: samples sent around each kill.
        telemetry_messages: of each gateway, a run.
    """

    rounds: int
    window: Window
    steady_s: float
    warm_up_s: float
    starts: int
    kills: int
    kill_messages: int
    telemetry_messages: int


THOROUGH = Plan(
    rounds=5,
    window=Window(messages=500, warm_up_s=0.7, seconds=2.5),
    steady_s=3.0,
    warm_up_s=0.5,
    starts=7,
    kills=3,
    kill_messages=30_000,
    telemetry_messages=100,
)
QUICK = Plan(
    rounds=2,
    window=Window(messages=500, warm_up_s=0.3, seconds=0.7),
    steady_s=1.0,
    warm_up_s=0.2,
    starts=2,
    kills=1,
    kill_messages=6_000,
    telemetry_messages=20,
)


class Figure(msgspec.Struct, frozen=True):
    """Absolute figures of one contestant in one scenario: medians of its runs.

    Attributes:
        scenario: what was done.
        contestant: who did it.
        values: by name with unit.
    """

    scenario: str
    contestant: str
    values: dict[str, float]


@dataclass
class Outcome:
    """What a scenario brought.

    Attributes:
        measurements: by the key of their row.
        figures: absolute ones.
        notes: what else is to be known, by key.
    """

    measurements: dict[str, list[float]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


Say = Callable[[str], None]


@dataclass(frozen=True)
class Scenario:
    """Rows that are measured together.

    Attributes:
        keys: the rows.
        run: measures them; it may raise ``BenchError``.
    """

    keys: tuple[str, ...]
    run: Callable[[Stand, Plan, Say], Outcome]


def saturation_figure(scenario: str, contestant: str, runs: Sequence[Saturation]) -> Figure:
    """Returns the medians of a contestant's saturation runs."""
    return Figure(
        scenario,
        contestant,
        {
            "k messages/s": median(run.messages_per_s for run in runs) / 1000,
            "CPU µs/message": median(run.cpu_us for run in runs),
            "% of its CPU": median(run.cpu_us * run.messages_per_s / 1e4 for run in runs),
            "broker's CPU µs": median(run.broker_us for run in runs),
            "generator's CPU µs": median(run.generator_us for run in runs),
        },
    )


def latency_figure(scenario: str, contestant: str, runs: Sequence[Latency]) -> Figure:
    """Returns the medians of a contestant's latency runs."""
    return Figure(
        scenario,
        contestant,
        {
            "messages/s": median(run.rate_per_s for run in runs),
            "p50 ms": median(run.p50_ms for run in runs),
            "p99 ms": median(run.p99_ms for run in runs),
        },
    )
