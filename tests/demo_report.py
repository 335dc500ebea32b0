"""Holds a demo's report against what it must show: ``python -m tests.demo_report FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from escalon.demo.report import DemoReport, PhaseReport

MAX_STEADY_ESCALATION = 0.25
MIN_GAIN = 0.9
MAX_INT8_SHARE = 1 / 3
MAX_INT8_LOSS = 0.01


def shortcomings(report: DemoReport) -> list[str]:
    """Returns what a report does not show of what it must; empty if it shows all."""
    steady, drift, after = (report.phases[name] for name in ("steady", "drift", "after"))
    first, release = report.first_models, report.release
    checks = {
        "a sample was lost": all(phase.lost == 0 for phase in report.phases.values()),
        "a sample was answered twice": all(
            phase.duplicates == 0 for phase in report.phases.values()
        ),
        "a phase had no samples": all(phase.samples > 0 for phase in report.phases.values()),
        f"steady escalated {steady.escalation_rate}": steady.escalation_rate is not None
        and 0 < steady.escalation_rate <= MAX_STEADY_ESCALATION,
        f"{report.unacknowledged} samples never reached the broker": report.unacknowledged == 0,
        "a phase has no latencies": all(
            phase.p50_ms is not None and phase.p99_ms is not None
            for phase in report.phases.values()
        ),
        "a node committed another version": all(
            node.version == release.new_version for node in release.nodes
        ),
        f"the cascade reaches {gain(steady):.0%} of the way to tier-2": gain(steady) >= MIN_GAIN,
        f"accuracy after ({after.accuracy}) is not above drift's ({drift.accuracy})": (
            after.accuracy or 0
        )
        > (drift.accuracy or 1),
        f"escalation after ({after.escalation_rate}) is not below drift's": (
            after.escalation_rate or 1
        )
        < (drift.escalation_rate or 0),
        f"int8 takes {first.tier1_int8_bytes} of {first.tier1_fp32_bytes} bytes": (
            first.tier1_int8_bytes <= MAX_INT8_SHARE * first.tier1_fp32_bytes
        ),
        "int8 loses more than a point": first.tier1_int8_accuracy
        >= first.tier1_fp32_accuracy - MAX_INT8_LOSS,
        "the new release is larger than a third": release.int8_bytes
        <= MAX_INT8_SHARE * release.fp32_bytes,
        "the new release loses more than a point to int8": release.int8_accuracy
        >= release.fp32_accuracy - MAX_INT8_LOSS,
        "the new release has no certificate": release.certificate is not None,
        "not every node committed": [node.state for node in release.nodes] == ["COMMITTED"] * 3,
    }
    return [problem for problem, holds in checks.items() if not holds]


def gain(phase: PhaseReport) -> float:
    """Returns how much of the way from tier-1 alone to tier-2 alone the cascade goes."""
    own, full = phase.tier1_accuracy or 0.0, phase.tier2_accuracy or 0.0
    return ((phase.accuracy or 0.0) - own) / (full - own) if full > own else 0.0


def main(path: Path) -> int:
    """Prints what is missing; returns 1 if anything is."""
    report = msgspec.json.decode(path.read_bytes(), type=DemoReport)
    missing = shortcomings(report)
    for problem in missing:
        sys.stdout.write(f"not shown: {problem}\n")
    if not missing:
        sys.stdout.write(f"{path}: it shows everything that the demo must show\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
