"""What became of one sample, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloud.store import FoundSample
from escalon.release.versions import moment
from shared.model_spec import Calibration
from shared.scores import Floats, certainty

SHOWN_GUESSES = 3
WIDTH = 10

WHY_SENT = {
    "low_confidence": "tier-1 was not sure, and asked",
    "audit": "tier-1 was sure and answered at once; the audit drew it, so tier-2 looked as well",
    "invalid_scores": "tier-1's scores were malformed, which is never an easy sample; it asked",
    "offline": "tier-1 was not sure and could not ask when it came; it answered by itself "
    "(fallback), and handed the sample in later",
}


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


def in_words(story: Story) -> str:
    """Returns a story for people, in the order in which it happened."""
    lines = [
        ("sensor", f"{story.sensor} at {story.site} sends {story.id} ({_time(story.timestamp)})"),
        ("tier-1", f"{story.node}, {story.tier1_version}: {_said(story.tier1)}"),
        ("rule", _rule_in_words(story.rule, story.tier1_version)),
        ("why", f"{WHY_SENT.get(story.reason, story.reason)} ({story.reason})"),
        ("chance", _chance(story)),
        ("tier-2", f"{story.tier2_version}: {_said(story.tier2)}{_compared(story)}"),
        ("answer", _answer(story)),
        ("cloud", f"stored {moment(story.received_s)}, {_input(story)}"),
        ("label", _label(story)),
    ]
    head = f"{story.pipeline}: {story.sensor} -> {story.node} -> tier-2 -> cloud"
    return "\n".join([head, *(f"  {name:<{WIDTH}}{text}" for name, text in lines)])


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


def _rule_in_words(rule: Rule | None, version: str) -> str:
    if rule is None:
        return f"not known: {version} is not in the registry"
    promised = f"; {rule.certificate}" if rule.certificate else ""
    if rule.certainty is None:
        return f"accepts from a {rule.score} of {rule.threshold:.6g} on{promised}"
    relation = (
        "at or above" if np.float32(rule.certainty) >= np.float32(rule.threshold) else "below"
    )
    held = f"the threshold {rule.threshold:.6g}"
    return f"{rule.score} {rule.certainty:.6g} is {relation} {held}{promised}"


def _said(guesses: Sequence[Guess]) -> str:
    if not guesses:
        return "malformed scores"
    return ", ".join(f"{each.label} {each.probability:.4f}" for each in guesses)


def _compared(story: Story) -> str:
    if not story.tier1 or not story.tier2:
        return ""
    agrees = story.tier1[0].label == story.tier2[0].label
    return "; it agrees" if agrees else "; it disagrees"


def _chance(story: Story) -> str:
    drawn = "the audit drew it" if story.audit else "the audit did not draw it"
    share = 100 * story.inclusion_probability
    return f"{share:.3g} % of such samples are sent on, so it counts for {100 / share:.4g}; {drawn}"


def _answer(story: Story) -> str:
    if story.reason in ("audit", "offline"):
        said = story.tier1[0].label if story.tier1 else "something"
        return f"{said}, by tier-1"
    said = story.tier2[0].label if story.tier2 else "something"
    return (
        f"{said}, by tier-2, if that came within the deadline: `decided_by` of the prediction says"
    )


def _label(story: Story) -> str:
    if story.label is None:
        return "none by a person"
    right = [
        name
        for name, guesses in (("tier-1", story.tier1), ("tier-2", story.tier2))
        if guesses and guesses[0].label == story.label
    ]
    return f"{story.label}, by a person: right was {' and '.join(right) or 'neither'}"


def _input(story: Story) -> str:
    return "with its input" if story.has_input else "without its input"


def _time(timestamp: str) -> str:
    try:
        return f"its own time: {moment(float(timestamp))}"
    except (ValueError, OverflowError, OSError):
        return f"its own time: {timestamp}"
