"""``escalon train``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from cloud.config import CloudConfig
from cloud.orders import first_order
from cloud.training.job import TrainingJob
from cloud.training.order import Order, Report
from cloud.training.progress import Progress
from escalon.cloud_file import read_cloud
from escalon.output import as_json
from shared.errors import EscalonError
from shared.model_spec import Calibration

POLL_S = 0.05


def run_train(
    arguments: argparse.Namespace, environment: Mapping[str, str], output: TextIO, news: TextIO
) -> int:
    """Runs ``escalon train``; returns the exit code.

    Args:
        arguments: of the command line.
        environment: the process's.
        output: what came of it goes there.
        news: how far it is goes there.

    Raises:
        EscalonError: the configuration cannot be used, or the training failed.
    """
    config = read_cloud(arguments.config, environment)
    order = _order(config, arguments.pipeline)
    training = TrainingJob(arguments.folder, order)
    training.start(time.monotonic())
    try:
        report = _watched(training, news)
    finally:
        training.stop()
    text = as_json(report) if arguments.json else in_words(report, training.candidate)
    output.write(text + "\n")
    return 0


def _order(config: CloudConfig, pipeline: str | None) -> Order:
    trained = {name: each for name, each in config.pipelines.items() if each.training}
    names = ", ".join(trained) or "none"
    if pipeline is None and len(trained) != 1:
        raise EscalonError(f"which pipeline? Trained are: {names}. Fix: --pipeline")
    name = pipeline or next(iter(trained))
    if name not in trained or (training := trained[name].training) is None:
        raise EscalonError(f"no pipeline {name} is trained; trained are: {names}")
    return first_order(name, trained[name], training)


def _watched(training: TrainingJob, news: TextIO) -> Report:
    """Waits for the training; shows its progress, on a terminal in one line."""
    shown, end = Progress(), "\r" if news.isatty() else "\n"
    while True:
        report = training.poll(time.monotonic())
        if training.progress != shown:
            shown = training.progress
            loss = "" if shown.loss is None else f"   loss {shown.loss:.4g}"
            news.write(f"{f'{shown}{loss}':50}{end}" if end == "\r" else f"{shown}{loss}\n")
            news.flush()
        if report is not None:
            news.write("\n" if end == "\r" else "")
            return report
        time.sleep(POLL_S)


def in_words(report: Report, candidate: Path) -> str:
    """Returns a report for a person."""
    said = [
        f"{tier}: " + ", ".join(_words(each.epochs, each.loss, each.weights, each.notes))
        for tier, each in sorted(report.trained.items(), reverse=True)
    ]
    lines = [
        f"candidate in {candidate}, trained by {report.trainer} in {report.seconds:.1f} s",
        *said,
        f"int8: {report.int8_bytes:,} bytes, agrees with tier-2 on {report.int8_agreement:.1%} of "
        f"the held-out samples; {_certificate(report.calibration)}",
        f"fp32: {report.fp32_bytes:,} bytes, {report.fp32_agreement:.1%}; "
        f"{_certificate(report.fp32_calibration)}",
    ]
    return "\n".join(lines)


def _words(epochs: int | None, loss: float | None, weights: int | None, notes: str) -> list[str]:
    found = [
        "" if epochs is None else f"{epochs} epochs",
        "" if loss is None else f"loss {loss:.4g}",
        "" if weights is None else f"{weights:,} weights",
        notes,
    ]
    return [each for each in found if each] or ["nothing said"]


def _certificate(calibration: Calibration) -> str:
    certificate = calibration.certificate
    if certificate is None:
        return "no threshold can be certified"
    return (
        f"at threshold {calibration.threshold:.4f} it accepts {certificate.coverage:.1%}, and "
        f"disagrees on at most {certificate.bound:.2%} of those (alpha {certificate.alpha:g}, "
        f"confidence {1 - certificate.delta:g})"
    )
