"""``escalon what-if``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import TextIO

import numpy as np

from cloud.certificate.message_bytes import MessageBytes
from cloud.certificate.what_if import WhatIf, what_if
from cloud.rollout.decision import Decision
from cloud.version import Version
from escalon.output import as_json
from escalon.recorded import opened_store
from escalon.release.scope import Scope
from escalon.what_if.look import Look, look
from escalon.what_if.picture import check_picture, draw
from escalon.what_if.predictions import read_latencies
from escalon.what_if.report import Report
from escalon.what_if.words import in_words, threshold_text
from escalon.what_if.writing import chosen, offer, with_threshold

SEED = 1
"""Of the draw of the uniform sample. No option changes it: who tries several picks a result."""


def run_what_if(
    arguments: argparse.Namespace, environment: Mapping[str, str], output: TextIO
) -> int:
    """Runs ``escalon what-if``.

    Args:
        arguments: of the command line.
        environment: the process's.
        output: what is printed goes there.

    Returns:
        The exit code.

    Raises:
        UsageError: the command line does not say enough.
        EscalonError: it is refused, or fails.
    """
    scope = Scope.of(arguments, environment)
    if arguments.plot is not None:
        check_picture(arguments.plot)
    with opened_store(scope.config) as store:
        seen = look(
            scope, store, named=arguments.tier1_version, since_s=arguments.since,
            now_s=time.time(),
        )  # fmt: skip
    report = _report(seen, _table(seen, arguments))
    if arguments.plot is not None:
        draw(report, arguments.plot)
    if arguments.write is None:
        output.write((as_json(report.facts()) if arguments.json else in_words(report)) + "\n")
        return 0
    version, decision = _write(scope, seen, report.what_if, arguments)
    facts = {"version": version.qualified, "rollout": decision.record.id, **report.facts()}
    output.write(as_json(facts) + "\n" if arguments.json else _written(version, decision))
    return 0


def _table(seen: Look, arguments: argparse.Namespace) -> WhatIf:
    config = seen.config
    latencies = read_latencies(arguments.predictions) if arguments.predictions else None
    return what_if(
        seen.observed,
        running=seen.running,
        promise=seen.promise,
        message=MessageBytes.of(
            config.input.shape, len(config.labels), arguments.samples_a_message
        ),
        rng=np.random.default_rng(SEED),
        latencies=latencies,
    )


def _report(seen: Look, found: WhatIf) -> Report:
    return Report(
        pipeline=seen.pipeline,
        tier1_version=seen.version.qualified,
        tier2_version=f"{seen.config.tier2_channel}/{seen.tier2_version}",
        what_if=found,
        files=len(seen.running),
        versions=seen.curves,
    )


def _write(
    scope: Scope, seen: Look, found: WhatIf, arguments: argparse.Namespace
) -> tuple[Version, Decision]:
    threshold, certificate = chosen(found, arguments.write, uncertified=arguments.uncertified)
    before = " and ".join(sorted({threshold_text(each) for each in seen.running}))
    draft = with_threshold(
        seen.version,
        threshold,
        certificate,
        by=arguments.by,
        notes=f"threshold {threshold_text(threshold)} instead of {before}, by what-if on "
        f"{found.samples} samples",
        made=time.time(),
    )
    return offer(scope, seen.version, draft)


def _written(version: Version, decision: Decision) -> str:
    calibration = version.release.variants[0].calibration
    certificate = calibration.certificate
    promised = (
        f"certified: at most {100 * certificate.alpha:.3g} % with "
        f"{100 * (1 - certificate.delta):.4g} %, {certificate.disagreements} of {certificate.n} "
        "in the test"
        if certificate
        else "not certified"
    )
    return (
        f"{version.qualified}: threshold {threshold_text(calibration.threshold)}, {promised}; "
        f"rollout {decision.record.id} {decision.reason}, see `escalon release status`\n"
    )
