"""``python -m bench``: measures, says what it does meanwhile, and prints a table."""

from __future__ import annotations

import dataclasses
import gc
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from bench import compression, ingestion, latency, life, swap, throughput
from bench.arguments import Arguments, parse_arguments
from bench.errors import BenchError
from bench.machine import describe, require_linux
from bench.report import Report, as_text, machine_line, write_json, write_markdown
from bench.rows import BY_KEY, TARGETS, Row, not_measured, row
from bench.scenario import QUICK, THOROUGH, Outcome, Plan, Say, Scenario
from bench.stand import Stand
from shared.errors import EscalonError

SCENARIOS = (
    Scenario(("throughput_vs_naive", "throughput_vs_echo", "cpu_vs_naive"), throughput.qos1),
    Scenario(("throughput_q0_vs_naive",), throughput.qos0),
    Scenario(("throughput561_vs_naive",), throughput.large),
    Scenario(("packs_vs_naive",), throughput.packs),
    Scenario(("p50_vs_echo", "escalation_vs_echo"), latency.calm),
    Scenario(("p99_vs_naive",), latency.busy),
    Scenario(("start_s", "rss_mib"), life.start),
    Scenario(("swap_p99",), swap.swap),
    Scenario(compression.KEYS, compression.compress),
    Scenario(("lost",), life.lost),
    Scenario(("ingestion",), ingestion.ingestion),
)


def main() -> int:
    """Measures; returns the exit code.

    It is 0, or 1 where nothing could be measured or ``--check`` found a missed target.
    """
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    # A pass over a hundred thousand objects would stand in the latencies as the contestants'.
    gc.disable()
    try:
        require_linux()
        report = measure(arguments, _say)
        for write, path in ((write_json, arguments.json), (write_markdown, arguments.markdown)):
            if path is not None:
                write(path, report)
    except EscalonError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    sys.stdout.write("\n" + as_text(report))
    return 1 if arguments.check and not report.all_ok else 0


def measure(arguments: Arguments, say: Say) -> Report:
    """Runs the scenarios that were asked for.

    Args:
        arguments: which, and how often.
        say: takes a line on the progress.

    Raises:
        EscalonError: the broker does not start.
    """
    plan = QUICK if arguments.quick else THOROUGH
    if arguments.runs is not None:
        plan = dataclasses.replace(plan, rounds=arguments.runs, starts=arguments.runs)
    with (
        tempfile.TemporaryDirectory(prefix="escalon-bench-") as folder,
        Stand(Path(folder)) as stand,
    ):
        machine = describe(stand.broker.name, stand.cpus)
        say(machine_line(machine))
        outcomes = [
            _attempt(scenario, stand, plan, say)
            for scenario in SCENARIOS
            if set(scenario.keys) & set(arguments.only)
        ]
    rows = {each.key: each for rows, _ in outcomes for each in rows}
    wanted = [rows[target.key] for target in TARGETS if target.key in arguments.only]
    return Report(
        machine, wanted, [figure for _, outcome in outcomes for figure in outcome.figures]
    )


def _attempt(scenario: Scenario, stand: Stand, plan: Plan, say: Say) -> tuple[list[Row], Outcome]:
    """Runs a scenario; what cannot be measured becomes a row that says so."""
    try:
        outcome = scenario.run(stand, plan, say)
    except BenchError as error:
        say(f"not measured: {error}")
        return [not_measured(BY_KEY[key], str(error)) for key in scenario.keys], Outcome()
    rows = [
        row(BY_KEY[key], outcome.measurements[key], outcome.notes.get(key, ""))
        for key in scenario.keys
    ]
    return rows, outcome


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
