"""``escalon release publish``: files that people made become a version, and its rollout begins."""

from __future__ import annotations

import argparse
import time

from cloud.channel import Channel
from cloud.director import new_ticket
from cloud.handmade import Handmade, draft
from cloud.releasing import Draft, register
from cloud.rollout.decision import Decision
from cloud.version import Version
from escalon.release.scope import Scope, UsageError
from shared.errors import EscalonError
from shared.topics import NAME


def publish(scope: Scope, arguments: argparse.Namespace) -> tuple[Version, Decision]:
    """Makes a version of files and begins its rollout.

    Everything is looked at before anything is written. Done again after it was cut off, it goes on
    with the version that is there.

    Raises:
        UsageError: the options do not say enough.
        EscalonError: the files do not fit, or no rollout may begin now.
    """
    channel = scope.only
    pipeline, config, tier = scope.pipeline(channel.name)
    if config.training is not None and arguments.scores != "logits":
        raise EscalonError(
            f"pipeline {pipeline} is retrained from logits. Fix: publish a model that answers "
            "logits, or leave `training:` out of the cloud's YAML"
        )
    made = _handmade(arguments, tier, channel)
    found = draft(made, config, pipeline, channel.name)
    fleet = scope.fleet(channel.name)
    with channel.lock.claimed():
        if reason := channel.refusal():
            raise EscalonError(f"not published: {reason}")
        version = _version(scope, found)
        return version, channel.offer(version.name, fleet, new_ticket(time.time()))


def _version(scope: Scope, found: Draft) -> Version:
    return register(found, scope.registry, scope.config.chunk_bytes, time.time())


def _handmade(arguments: argparse.Namespace, tier: int, channel: Channel) -> Handmade:
    if tier == 1 and arguments.threshold is None:
        raise UsageError(
            "a model of tier-1 needs --threshold: from which certainty on it decides by itself"
        )
    if arguments.version is not None and not NAME.fullmatch(arguments.version):
        raise UsageError(
            f"--version {arguments.version} is no name: letters, digits, '.', '_' and '-', at most "
            "64"
        )
    models = [*arguments.models, *([arguments.fp32] if arguments.fp32 else [])]
    standing = channel.standing()
    parents = arguments.parent or ([f"{channel.name}/{standing}"] if standing else [])
    return Handmade(
        models=models,
        golden=arguments.golden,
        by=arguments.by,
        labels=arguments.labels,
        threshold=arguments.threshold or 0.0,
        temperature=arguments.temperature,
        scores=arguments.scores,
        version=arguments.version,
        notes=arguments.notes,
        parents=tuple(parents),
        metrics=dict(arguments.metric),
        url_prefix=arguments.url or "",
    )
