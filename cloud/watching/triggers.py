"""When to train again, and why, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cloud.watching.config import DAY_S, RetrainConfig

HOUR_S, MINUTE_S = 3600, 60


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known when it is asked.

    Attributes:
        now_s: seconds since 1970.
        began_s: since when the release is watched, seconds since 1970.
        tried_s: when the last training began, seconds since 1970; None if there was none.
        trained_s: when the last one began that made a candidate to decide on.
        drift: what was found, in words; empty for nothing.
        samples: new ones in the store since that training, or since the watch began.
        audits: new audited ones, since the drift and that training.
    """

    now_s: float
    began_s: float
    tried_s: float | None
    trained_s: float | None
    drift: str
    samples: int
    audits: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to train now.

    Attributes:
        act: ``rest``: nothing calls for it; ``cool_down``: it is too soon after the last;
            ``collect``: there are too few new audited samples; ``train``.
        causes: what calls for it, in words.
    """

    act: Literal["rest", "cool_down", "collect", "train"]
    causes: tuple[str, ...]


def causes(facts: Facts, config: RetrainConfig) -> tuple[str, ...]:
    """Returns what calls for a training, in words."""
    found = [f"drift: {facts.drift}"] if facts.drift else []
    if config.after_samples is not None and facts.samples >= config.after_samples:
        found.append(f"{config.after_samples} new samples")
    since_s = facts.began_s if facts.trained_s is None else facts.trained_s
    if config.every_s is not None and facts.now_s >= since_s + config.every_s:
        found.append(f"{_span(config.every_s)} have passed")
    return tuple(found)


def decide(facts: Facts, config: RetrainConfig) -> Decision:
    """Decides on a training: for a cause, not too soon after the last, on enough to certify."""
    found = causes(facts, config)
    if not found:
        return Decision("rest", ())
    began_s = [each for each in (facts.tried_s, facts.trained_s) if each is not None]
    if began_s and facts.now_s < max(began_s) + config.cool_down_s:
        return Decision("cool_down", found)
    return Decision("collect" if facts.audits < config.audits else "train", found)


def in_words(found: Sequence[str]) -> str:
    """Returns causes as one text."""
    return "; ".join(found)


def _span(seconds: float) -> str:
    for unit_s, name in ((DAY_S, "days"), (HOUR_S, "hours"), (MINUTE_S, "minutes")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:g} {name}"
    return f"{seconds:g} seconds"
