"""What became of one sample, as names and values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud.store import FoundSample
from shared.model_spec import Calibration
from shared.scores import Floats, certainty

SHOWN_GUESSES = 3


@dataclass(frozen=True)
class Guess:
    """What a model holds for possible."""

    label: str
    probability: float


@dataclass(frozen=True)
class Rule:
    """What the gate went by.

    Attributes:
        score: the certainty that the threshold is held against.
        certainty: of the sample; None where what is stored does not say.
        threshold: accepts from this certainty on.
        certificate: what is promised of it, in words; empty for nothing.
    """

    score: str
    certainty: float | None
    threshold: float
    certificate: str


@dataclass(frozen=True)
class Story:
    """One sample's story.

    Attributes:
        pipeline: the pipeline.
        site: whence it comes.
        node: the tier-1 node.
        sensor: who sent it.
        id: what its sensor calls it.
        timestamp: as its sensor wrote it: seconds since 1970, or a text.
        received_s: when the cloud stored it, seconds since 1970.
        reason: why it was sent on.
        audit: whether the audit drew it.
        inclusion_probability: the chance that such a sample is sent on.
        tier1_version: of the model that answered first, as ``channel/version``.
        tier2_version: of the model that answered then.
        tier1: its best guesses; none where malformed.
        tier2: its best guesses.
        rule: None where the version is not in the registry.
        label: a person's; None for none.
        has_input: whether its input is in the store.
    """

    pipeline: str
    site: str
    node: str
    sensor: str
    id: str
    timestamp: str
    received_s: float
    reason: str
    audit: bool
    inclusion_probability: float
    tier1_version: str
    tier2_version: str
    tier1: tuple[Guess, ...]
    tier2: tuple[Guess, ...]
    rule: Rule | None
    label: str | None
    has_input: bool


def told(
    found: FoundSample,
    *,
    pipeline: str,
    channels: tuple[str, str],
    labels: Sequence[str],
    calibration: Calibration | None,
) -> Story:
    """Returns the story of a sample that the store holds.

    Args:
        found: the sample.
        pipeline: the pipeline.
        channels: tier-1's and tier-2's.
        labels: of the pipeline.
        calibration: of tier-1's version; None where that is not in the registry.
    """
    return Story(
        pipeline=pipeline,
        site=found.site,
        node=found.node,
        sensor=found.sensor,
        id=found.id,
        timestamp=found.timestamp,
        received_s=found.received_s,
        reason=found.reason,
        audit=found.audit,
        inclusion_probability=found.inclusion_probability,
        tier1_version=f"{channels[0]}/{found.tier1_version}",
        tier2_version=f"{channels[1]}/{found.tier2_version}",
        tier1=_guesses(found.tier1, labels),
        tier2=_guesses(found.tier2, labels),
        rule=_rule(found.tier1, calibration) if calibration else None,
        label=found.label,
        has_input=found.has_input,
    )


def _guesses(scores: Floats, labels: Sequence[str]) -> tuple[Guess, ...]:
    if not np.isfinite(scores).all():
        return ()
    # Another model may have had other labels.
    names = labels if len(labels) == len(scores) else [str(place) for place in range(len(scores))]
    best = np.argsort(-scores, kind="stable")[:SHOWN_GUESSES]
    return tuple(Guess(names[place], round(float(scores[place]), 6)) for place in best.tolist())


def _rule(scores: Floats, calibration: Calibration) -> Rule:
    row = scores[None, :]
    name = calibration.score
    known = name != "energy" and bool(np.isfinite(scores).all())
    return Rule(
        score=name,
        certainty=float(certainty(row, row, name)[0]) if known else None,
        threshold=calibration.threshold,
        certificate=_promised(calibration),
    )


def _promised(calibration: Calibration) -> str:
    certificate = calibration.certificate
    if certificate is None:
        return calibration.reason
    return (
        f"P(tier-1 disagrees with tier-2 | accepted) <= {100 * certificate.alpha:.3g} % with "
        f"{100 * (1 - certificate.delta):.4g} % confidence"
    )
