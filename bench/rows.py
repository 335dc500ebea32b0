"""The rows of the result: what is measured, what is aimed at, and what came out."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

Comparator = Literal[">=", "<=", "=="]
HOLDS = {">=": operator.ge, "<=": operator.le, "==": operator.eq}


class Target(msgspec.Struct, frozen=True):
    """What a row aims at.

    Attributes:
        key: its name in the JSON.
        what: what is measured, in words.
        comparator: how the value must stand to the target.
        target: the number.
        unit: of value and target.
        worst: the value is the measurement that is furthest from the target, not their median.
    """

    key: str
    what: str
    comparator: Comparator
    target: float
    unit: str = "ratio"
    worst: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What came out.

    Attributes:
        key: the target's.
        what: the target's.
        comparator: the target's.
        target: the target's.
        unit: the target's.
        value: median of the measurements, or one of them where only the worst counts; None where
            it could not be measured.
        low: the smallest measurement.
        high: the largest.
        ok: whether the value holds against the target.
        measurements: one for each pair of runs, or each run.
        note: what else is to be known.
    """

    key: str
    what: str
    comparator: Comparator
    target: float
    unit: str
    value: float | None
    low: float | None
    high: float | None
    ok: bool
    measurements: list[float]
    note: str = ""


TARGETS = (
    Target("throughput_vs_naive", "throughput, QoS 1, JSON of 64 floats: ours ÷ naive", ">=", 3.0),
    Target("throughput_q0_vs_naive", "the same at QoS 0: ours ÷ naive", ">=", 4.5),
    Target("throughput561_vs_naive", "QoS 1, JSON of 561 floats: ours ÷ naive", ">=", 4.0),
    Target("throughput_vs_echo", "throughput, QoS 1: ours ÷ stock-paho echo", ">=", 1.4),
    Target("cpu_vs_naive", "CPU a sample, QoS 1: ours ÷ naive", "<=", 0.33),
    Target("p50_vs_echo", "p50 at 100 messages/s: ours ÷ stock-paho echo", "<=", 1.15),
    Target("p99_vs_naive", "p99 at 90 % of naive's saturation: ours ÷ naive", "<=", 0.3),
    Target("packs_vs_naive", "samples/s in packs of 32 raw float32 ÷ naive", ">=", 50.0),
    Target("escalation_vs_echo", "p50 of escalated samples, 100/s ÷ stock-paho echo", "<=", 2.2),
    Target("rss_mib", "memory of a tier-1 node, some thousand samples old", "<=", 80.0, "MiB"),
    Target("start_s", "process start to first prediction", "<=", 0.6, "s"),
    Target("swap_p99", "p99 while a release comes ÷ before, 1,000 messages/s", "<=", 2.0),
    Target("ingestion", "telemetry into SQLite, each commit synced", ">=", 20.0, "k samples/s"),
    Target(
        "small_speed_1", "smaller models, one sample: speed ÷ fp32, worst of four shapes",
        ">=", 0.99, worst=True,
    ),
    Target(
        "small_speed_32", "smaller models, batches of 32: speed ÷ fp32, worst of four shapes",
        ">=", 1.7, worst=True,
    ),
    Target(
        "small_size", "smaller models: file ÷ fp32's, worst of four shapes", "<=", 0.31, worst=True
    ),
    Target(
        "small_points_lost", "smaller models: accuracy lost to fp32, worst of four shapes",
        "<=", 0.5, "points", worst=True,
    ),
    Target("lost", "kill -9 at saturation: acknowledged, never answered", "==", 0, "samples", True),
)  # fmt: skip
BY_KEY = {target.key: target for target in TARGETS}


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Returns the ratio of each pair of interleaved runs.

    Raises:
        ValueError: the runs do not pair up.
    """
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def row(target: Target, measurements: Sequence[float], note: str = "") -> Row:
    """Returns a row from at least one measurement."""
    furthest = min if target.comparator == ">=" else max
    value = furthest(measurements) if target.worst else statistics.median(measurements)
    return _row(
        target,
        value=value,
        low=min(measurements),
        high=max(measurements),
        ok=bool(HOLDS[target.comparator](value, target.target)),
        measurements=list(measurements),
        note=note,
    )


def not_measured(target: Target, why: str) -> Row:
    """Returns the row of what could not be measured; it is not ok."""
    return _row(target, value=None, low=None, high=None, ok=False, measurements=[], note=why)


def _row(
    target: Target,
    *,
    value: float | None,
    low: float | None,
    high: float | None,
    ok: bool,
    measurements: list[float],
    note: str,
) -> Row:
    return Row(
        key=target.key,
        what=target.what,
        comparator=target.comparator,
        target=target.target,
        unit=target.unit,
        value=value,
        low=low,
        high=high,
        ok=ok,
        measurements=measurements,
        note=note,
    )
