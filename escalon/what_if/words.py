"""The table of thresholds in words. Pure."""

from __future__ import annotations

import math

import numpy as np

from cloud.certificate.calibration import NOTHING_ACCEPTED
from cloud.certificate.estimate import Estimate
from cloud.certificate.what_if import Row
from escalon.release.versions import MISSING
from escalon.table import table
from escalon.what_if.report import Report, VersionCurve

HEADS = (
    "THRESHOLD", "COVERAGE", "RISK", "(INTERVAL)", "ACCURACY", "(INTERVAL)", "ESCALATED",
    "TO TIER-2", "UPLINK", "P50", "P99", "CERTIFIED",
)  # fmt: skip


def in_words(report: Report) -> str:
    """Returns a report for people."""
    found = report.what_if
    parts = [
        _head(report),
        table(HEADS, [_line(row) for row in found.rows]),
        _notes(report),
        table(("TIER-1", "SAMPLES", "AURC", "AUGRC"), [_version(each) for each in report.versions]),
    ]
    return "\n\n".join(parts)


def threshold_text(threshold: float) -> str:
    """Returns the shortest text that is this threshold to the gate, which compares in float32."""
    return np.format_float_positional(np.float32(threshold), unique=True, trim="-")


def percent(share: float) -> str:
    """Returns a share as a percentage, with more places the smaller it is."""
    if math.isnan(share):
        return MISSING
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.1f} %"


def _head(report: Report) -> str:
    found = report.what_if
    return (
        f"{report.pipeline}: {report.tier1_version} of tier-1 beside {report.tier2_version} of "
        f"tier-2. {found.samples:,} samples were sent, of about {found.gated:,.0f} that tier-1 "
        f"saw; it audits {percent(found.audit_share)}. {found.labelled:,} have a person's label."
    )


def _line(row: Row) -> tuple[str, ...]:
    latency = row.latency
    return (
        _name(row),
        percent(row.coverage.value),
        percent(row.risk.value),
        _interval(row.risk),
        percent(row.accuracy.value),
        _interval(row.accuracy),
        percent(row.escalated),
        _bytes(row.tier2_bytes),
        _bytes(row.uplink_bytes),
        f"{latency.p50_ms:.1f} ms" if latency else MISSING,
        f"{latency.p99_ms:.1f} ms" if latency else MISSING,
        _certificate(row),
    )


def _name(row: Row) -> str:
    if row.threshold == NOTHING_ACCEPTED:
        return "tier-2 alone"
    text = "tier-1 alone" if row.threshold == 0 else threshold_text(row.threshold)
    return f"{text} *" if row.runs else text


def _interval(estimate: Estimate) -> str:
    if not estimate.n:
        return MISSING
    return f"{100 * estimate.lower:.2f} to {100 * estimate.upper:.2f}"


def _bytes(count: float) -> str:
    return f"{count:.1f} B"


def _certificate(row: Row) -> str:
    certificate = row.certificate
    if certificate is None:
        return ""
    text = f"{certificate.disagreements} of {certificate.n}, <= {percent(certificate.bound)}"
    if certificate.label_bound is None:
        return text
    return f"{text}; labels {certificate.wrong} of {certificate.labelled}"


def _notes(report: Report) -> str:
    found = report.what_if
    promise = found.promise
    confidence = f"{100 * (1 - promise.delta):.4g} %"
    lines = [
        "* runs now. Bytes are those of a sample that tier-1 sees; if all were sent, "
        f"{_bytes(found.all_bytes)} would go to tier-2.",
        f"Intervals hold with {confidence} each. Certified: P(tier-1 disagrees with tier-2 | "
        f"accepted) <= {percent(promise.alpha)} with {confidence} for all of them at once, by a "
        f"uniform sample of {found.uniform:,}.",
    ]
    if found.why:
        lines.append(f"No more are certified: {found.why}.")
    if report.files > 1:
        lines.append(
            f"The version has {report.files} files, and telemetry does not say which one answered: "
            "all this is of their mixture, as it ran."
        )
    if found.rows[0].latency is None:
        lines.append("Latencies are not known: telemetry has none. Give recorded --predictions.")
    return "\n".join(lines)


def _version(each: VersionCurve) -> tuple[str, ...]:
    return (each.version, f"{each.samples:,}", f"{each.aurc:.5f}", f"{each.augrc:.5f}")
