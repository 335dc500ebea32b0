"""``escalon labels``."""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from cloud.config import CloudConfig
from cloud.store import LabelTally, Queued, TelemetryStore
from escalon.cloud_file import one_pipeline, read_cloud
from escalon.labels.csv_file import LabelFile, write_labels, write_queue
from escalon.output import as_json
from escalon.recorded import opened_store
from escalon.table import table
from shared.durable import disk_trouble, write_durably

AT_ONCE = 1000


def run_labels(
    arguments: argparse.Namespace, environment: Mapping[str, str], output: TextIO
) -> int:
    """Runs ``escalon labels``.

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
    config = read_cloud(arguments.config, environment)
    pipeline = one_pipeline(arguments.pipeline, config)
    # Labels may come before the first sample; without a store there is none to export.
    with opened_store(config, new=arguments.labels_command != "export") as store:
        match arguments.labels_command:
            case "queue":
                text = _queue(arguments, store, config, pipeline)
            case "import":
                text = _import(arguments, store, pipeline)
            case _:
                text = _export(arguments, store, pipeline)
    output.write(text)
    return 0


def _queue(
    arguments: argparse.Namespace, store: TelemetryStore, config: CloudConfig, pipeline: str
) -> str:
    of = config.pipelines[pipeline]
    queue = store.queue(pipeline, of.labelling.daily_limit, time.time())
    if arguments.to is not None:
        file = io.StringIO()
        write_queue(queue, file)
        write_durably(arguments.to, file.getvalue().encode())
    remark = ""
    if arguments.inputs is not None:
        remark = _write_inputs(arguments.inputs, queue, store, of.input.shape)
    if arguments.json:
        return as_json([asdict(each) for each in queue]) + "\n"
    if not queue:
        return f"{pipeline}: nothing is to be labelled today\n"
    return f"{_shown(queue)}\n{remark}"


def _write_inputs(
    path: Path, queue: Sequence[Queued], store: TelemetryStore, shape: tuple[int, ...]
) -> str:
    """Writes the inputs that have the pipeline's shape; returns what is to be said of the others.

    What came before the shape was changed may be asked for, and a node may be older than the cloud.
    """
    fits = store.fit([each.number for each in queue], shape)
    fitting = [each for each, fit in zip(queue, fits, strict=True) if fit]
    inputs = store.inputs([each.number for each in fitting], shape)
    sensors, ids = [each.sensor for each in fitting], [each.id for each in fitting]
    try:
        with path.open("wb") as file:
            np.savez(file, inputs=inputs, sensor=np.array(sensors, str), id=np.array(ids, str))
    except OSError as error:
        raise disk_trouble("write", path, error) from error
    others = len(queue) - len(fitting)
    return (
        f"{others} of them have inputs of another shape, which are not in {path}\n"
        if others
        else ""
    )


def _shown(queue: Sequence[Queued]) -> str:
    heads = ("SITE", "SENSOR", "ID", "MARGIN", "TIER-2 SAYS", "TIER-1 SAID")
    rows = [
        (
            each.site,
            each.sensor,
            each.id,
            f"{each.margin:.3f}",
            ", ".join(f"{label} {chance:.0%}" for label, chance in each.guesses),
            each.tier1_guess,
        )
        for each in queue
    ]
    return table(heads, rows)


def _import(arguments: argparse.Namespace, store: TelemetryStore, pipeline: str) -> str:
    now_s = time.time()
    file = LabelFile(arguments.file, pipeline, arguments.site, arguments.by, now_s)
    file.check(lambda label: store.check_label(pipeline, label))
    joined = waiting = repeated = dropped = 0
    labels = file.labels()
    while part := list(islice(labels, AT_ONCE)):
        tally = store.label(part, now_s)
        joined += tally.joined
        waiting += tally.waiting
        repeated += tally.repeated
        dropped += tally.dropped
    if arguments.json:
        return as_json(asdict(LabelTally(joined, waiting, repeated, 0, dropped))) + "\n"
    return (
        f"{pipeline}: {joined} samples labelled, {waiting} labels wait for their samples, "
        f"{repeated} were there or are older than what is\n"
    )


def _export(arguments: argparse.Namespace, store: TelemetryStore, pipeline: str) -> str:
    kept = store.labels(pipeline)
    if arguments.json and arguments.to is None:
        return as_json([asdict(each) for each in kept]) + "\n"
    if arguments.to is None:
        file = io.StringIO()
        write_labels(kept, file)
        return file.getvalue()
    try:
        with arguments.to.open("w", newline="", encoding="utf-8") as opened:
            write_labels(kept, opened)
    except OSError as error:
        raise disk_trouble("write", arguments.to, error) from error
    return (as_json({"file": str(arguments.to)}) if arguments.json else str(arguments.to)) + "\n"
