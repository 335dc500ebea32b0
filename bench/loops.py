"""How load is offered: as much as is answered, or so many messages a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.ledger import Ledger
from bench.load import Load

PAUSE_S = 0.002
"""Between two looks of the closed loop. It costs no throughput while hundreds of messages wait, and
keeps the generator from waking for each answer, on the CPU that the broker needs."""


@dataclass(frozen=True)
class Meter:
    """Readings at one moment.

    Attributes:
        at_s: when, by ``perf_counter``.
        answered: answers so far.
        contestant_cpu_s: CPU time of the contestant's processes.
        broker_cpu_s: CPU time of the broker.
        generator_cpu_s: CPU time of this process.
    """

    at_s: float
    answered: int
    contestant_cpu_s: float
    broker_cpu_s: float
    generator_cpu_s: float


@dataclass(frozen=True)
class Saturation:
    """What a contestant does under all the load that it takes.

    Attributes:
        messages_per_s: answers a second.
        cpu_us: the contestant's CPU time a message, in µs.
        broker_us: the broker's.
        generator_us: the load generator's.
    """

    messages_per_s: float
    cpu_us: float
    broker_us: float
    generator_us: float


@dataclass(frozen=True)
class Window:
    """The course of a saturation run.

    Attributes:
        messages: at most so many are unanswered.
        warm_up_s: at first nothing is measured.
        seconds: then this long is.
    """

    messages: int
    warm_up_s: float
    seconds: float


def saturate(
    load: Load, window: Window, read_cpu_s: Callable[[], tuple[float, float]]
) -> Saturation:
    """Offers as much as is answered: a closed loop.

    Args:
        load: connected.
        window: how much and how long.
        read_cpu_s: returns the CPU time of the contestant and of the broker.

    Raises:
        StalledError: the contestant stopped answering.
    """

    def read() -> Meter:
        contestant_s, broker_s = read_cpu_s()
        at_s = time.perf_counter()
        return Meter(at_s, load.answered, contestant_s, broker_s, time.process_time())

    _keep_full(load, window.messages, window.warm_up_s)
    before = read()
    _keep_full(load, window.messages, window.seconds)
    after = read()
    load.drain()
    return difference(before, after)


def _keep_full(load: Load, window: int, seconds: float) -> None:
    ends_s = time.perf_counter() + seconds
    while time.perf_counter() < ends_s:
        fill(load, window)
        load.turn(0)
        time.sleep(PAUSE_S)


def fill(load: Load, window: int) -> None:
    """Sends what the window still takes."""
    if not load.backed_up and load.unanswered < window:
        load.send(window - load.unanswered)


def difference(before: Meter, after: Meter) -> Saturation:
    """Returns what happened between two readings, a second and a message."""
    messages = max(1, after.answered - before.answered)
    return Saturation(
        messages_per_s=messages / (after.at_s - before.at_s),
        cpu_us=(after.contestant_cpu_s - before.contestant_cpu_s) / messages * 1e6,
        broker_us=(after.broker_cpu_s - before.broker_cpu_s) / messages * 1e6,
        generator_us=(after.generator_cpu_s - before.generator_cpu_s) / messages * 1e6,
    )


@dataclass(frozen=True)
class Latency:
    """How long answers took at a steady rate, from the sensor's send to the audience's receipt.

    Attributes:
        rate_per_s: messages offered a second.
        p50_ms: median.
        p99_ms: 99th percentile.
        samples: how many were measured.
    """

    rate_per_s: float
    p50_ms: float
    p99_ms: float
    samples: int


def offer(
    load: Load, ledger: Ledger, rate_per_s: float, warm_up_s: float, seconds: float
) -> Latency:
    """Offers so many messages a second, evenly spaced, whatever is answered: an open loop.

    Args:
        load: connected, with the ledger.
        ledger: of the load.
        rate_per_s: messages a second.
        warm_up_s: at first nothing is measured.
        seconds: then this long is.

    Raises:
        StalledError: the contestant stopped answering.
    """
    began_s = time.perf_counter()
    total = max(1, round(rate_per_s * (warm_up_s + seconds)))
    while load.sent < total:
        elapsed_s = time.perf_counter() - began_s
        due = min(total, int(elapsed_s * rate_per_s) + 1) - load.sent
        if due > 0:
            load.send(due)
        load.turn(load.sent / rate_per_s - (time.perf_counter() - began_s))
    load.drain()
    taken_ms = np.fromiter(ledger.latencies_ms(began_s + warm_up_s), np.float64)
    p50_ms, p99_ms = np.percentile(taken_ms, (50, 99))
    return Latency(rate_per_s, float(p50_ms), float(p99_ms), len(taken_ms))
