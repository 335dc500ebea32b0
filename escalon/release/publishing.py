"""``escalon release publish``: files that people made become a version, and its rollout begins."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from cloud.channel import Channel
from cloud.director import new_ticket
from cloud.handmade import Handmade, draft
from cloud.releasing import register
from cloud.rollout.decision import Decision
from cloud.rollout.phases import IllegalCommandError
from cloud.version import Version
from escalon.release.scope import Scope
from escalon.usage import UsageError
from shared.errors import EscalonError, ManifestError
from shared.topics import NAME


@dataclass(frozen=True)
class Published:
    """A version whose rollout has begun.

    Attributes:
        version: the version.
        decision: on its rollout.
        is_new: whether it was not in the registry before.
    """

    version: Version
    decision: Decision
    is_new: bool


def publish(scope: Scope, arguments: argparse.Namespace) -> Published:
    """Makes a version of files and begins its rollout.

    Everything is looked at before anything is written, also whether a rollout may begin. Done again
    after it was cut off, it goes on with the version that is there.

    Raises:
        UsageError: the options do not say enough.
        EscalonError: the files do not fit, no rollout may begin now, or the same release is there
            already and something else was said of it.
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
        try:
            channel.check(fleet)
        except (IllegalCommandError, ManifestError) as error:
            raise EscalonError(f"not published: {error}") from error
        now_s = time.time()
        version = register(found, scope.registry, scope.config.chunk_bytes, now_s)
        is_new = version.made == now_s
        if not is_new:
            _refuse_other_words(version, arguments)
        decision = channel.offer(version.name, fleet, new_ticket(now_s))
    return Published(version, decision, is_new)


def _refuse_other_words(version: Version, arguments: argparse.Namespace) -> None:
    """Refuses to say something of a version that is there: what is kept of it never changes.

    Raises:
        EscalonError: other notes, figures or parents were given than it has.
    """
    said = {
        "notes": (arguments.notes, version.notes),
        "metrics": (dict(arguments.metric), version.metrics),
        "parents": (tuple(arguments.parent), version.parents),
    }
    other = [option for option, (given, kept) in said.items() if given and given != kept]
    if other:
        raise EscalonError(
            f"not published: {version.qualified} is this very release already, kept with other "
            f"{', '.join(other)}, and versions never change. Fix: `escalon release offer "
            f"{version.qualified}` rolls it out as it is, `--version NAME` makes another of it"
        )


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
    parent = channel.parent()
    parents = arguments.parent or ([f"{channel.name}/{parent}"] if parent else [])
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
