"""One sample's story in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from escalon.explain.story import Guess, Rule, Story
from escalon.release.versions import moment

WIDTH = 10

WHY_SENT = {
    "low_confidence": "tier-1 was not sure, and asked",
    "audit": "tier-1 was sure and answered at once; the audit drew it, so tier-2 looked as well",
    "invalid_scores": "tier-1's scores were malformed, which is never an easy sample; it asked",
    "offline": "tier-1 was not sure and could not ask when it came; it answered by itself "
    "(fallback), and handed the sample in later",
}


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
    return ", ".join(f"{each.label} ({each.probability:.4f})" for each in guesses)


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
