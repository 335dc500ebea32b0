"""Four models made smaller and faster: what is kept, beside the float32 model it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from bench.errors import BenchError
from bench.four_shapes import SHAPES, Trained
from bench.report import number
from bench.scenario import Figure, Outcome, Plan, Say
from bench.stand import Stand
from cloud.optimize.optimizer import Optimized, Samples, optimize
from cloud.optimize.rows import Figures, Row
from shared.errors import ArtefactError
from shared.inputs import Inputs

KEYS = ("small_speed_1", "small_speed_32", "small_size", "small_points_lost")


def compress(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """Optimises each shape several times; one thread, on the contestants' CPU."""
    outcome = Outcome({key: [] for key in KEYS})
    for name, made in SHAPES.items():
        say(f"{name}: training")
        trained = made()
        with stand.cpus.running_on(stand.cpus.contestant):
            runs = [_optimized(trained) for _ in range(plan.rounds)]
        for run in runs:
            say(f"{name}: {run.report.why}")
        for key, value in zip(KEYS, _medians([_measured(run.kept) for run in runs]), strict=True):
            outcome.measurements[key].append(value)
        outcome.figures += _figures(name, runs)
    outcome.notes = {key: _of_each(key, outcome) for key in KEYS}
    return outcome


def _optimized(trained: Trained) -> Optimized:
    samples = Samples(trained.calibration, trained.test, trained.labels)
    try:
        return optimize(trained.model, samples, Inputs.plain(trained.test.shape[1:]))
    except ArtefactError as error:
        raise BenchError(str(error)) from error


Values = tuple[float, float, float, float]


def _measured(row: Row) -> Values:
    found = _found(row)
    return found.speed_1, found.speed_32, row.size, found.points_lost


def _found(row: Row) -> Figures:
    if row.figures is None:
        raise BenchError(f"{row.name} was not measured: {row.reason}")
    return row.figures


def _medians(values: Sequence[Values]) -> list[float]:
    return [median(column) for column in zip(*values, strict=True)]


def _of_each(key: str, outcome: Outcome) -> str:
    pairs = zip(SHAPES, outcome.measurements[key], strict=True)
    return ", ".join(f"{name} {number(value)}" for name, value in pairs)


def _figures(shape: str, runs: Sequence[Optimized]) -> list[Figure]:
    """Returns what is kept, and the candidate that is fastest at a batch, with their medians."""
    by_name = [{row.name: row for row in run.report.rows if row.loads} for run in runs]
    common = set.intersection(*map(set, by_name))
    kept = Counter(run.kept.name for run in runs).most_common(1)[0][0]
    fastest = max(common, key=lambda name: median(_found(each[name]).speed_32 for each in by_name))
    return [
        _figure(shape, f"{name}{' (kept)' * (name == kept)}", [each[name] for each in by_name])
        for name in dict.fromkeys(("fp32", kept, fastest))
    ]


def _figure(shape: str, name: str, rows: Sequence[Row]) -> Figure:
    speed_1, speed_32, size, lost = _medians([_measured(row) for row in rows])
    values = {
        "x at one sample": speed_1,
        "x at a batch of 32": speed_32,
        "of the size": size,
        "points lost": lost,
        "µs one sample": 1000 * median(_found(row).latency_1_ms for row in rows),
        "µs a batch": 1000 * median(_found(row).latency_32_ms for row in rows),
    }
    return Figure(f"{shape}, smaller", name, values)
