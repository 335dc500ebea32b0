"""``escalon explain``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TextIO

from cloud.store import TelemetryStore
from escalon.cloud_file import known_pipeline, read_cloud
from escalon.explain.story import Story, told
from escalon.explain.words import in_words
from escalon.output import as_json
from escalon.recorded import opened_store
from escalon.release.scope import Scope
from shared.errors import EscalonError
from shared.model_spec import Calibration


class UnknownSampleError(EscalonError):
    """Nothing is recorded of a sample."""


def run_explain(
    arguments: argparse.Namespace, environment: Mapping[str, str], output: TextIO
) -> int:
    """Runs ``escalon explain``.

    Args:
        arguments: of the command line.
        environment: the process's.
        output: what is printed goes there.

    Returns:
        The exit code.

    Raises:
        UsageError: the command line does not say enough.
        EscalonError: nothing is recorded of the sample, or the store cannot be read.
    """
    scope = Scope(read_cloud(arguments.config, environment), channel=None)
    pipelines = list(scope.config.pipelines)
    if arguments.pipeline is not None:
        pipelines = [known_pipeline(arguments.pipeline, scope.config)]
    with opened_store(scope.config) as store:
        stories = [story for name in pipelines for story in _find(scope, store, name, arguments)]
    if not stories:
        raise UnknownSampleError(
            f"nothing is recorded of sample {arguments.id}. What tier-1 was sure of and the audit "
            "did not draw leaves no trace here, and what retention removed; a sensor that has sent "
            "nothing lately is found by --site and --sensor"
        )
    output.write((as_json(stories) if arguments.json else _newest(stories)) + "\n")
    return 0


def _find(
    scope: Scope, store: TelemetryStore, name: str, arguments: argparse.Namespace
) -> list[Story]:
    """Returns the stories of a pipeline's samples with the id, newest first."""
    config = scope.config.pipelines[name]
    found = store.find(name, arguments.id, site=arguments.site, sensor=arguments.sensor)
    return [
        told(
            each,
            pipeline=name,
            channels=(config.tier1_channel, config.tier2_channel),
            labels=config.labels,
            calibration=_calibration(scope, config.tier1_channel, each.tier1_version),
        )
        for each in found
    ]


def _calibration(scope: Scope, channel: str, version: str) -> Calibration | None:
    """Returns the calibration of a version, of its first file; None if it is not here."""
    known = scope.registry.version(channel, version)
    return known.release.variants[0].calibration if known else None


def _newest(stories: list[Story]) -> str:
    newest = max(stories, key=lambda each: each.received_s)
    others = len(stories) - 1
    if not others:
        return in_words(newest)
    return (
        f"{in_words(newest)}\n{others} more have this id: name --site and --sensor, or see --json"
    )
