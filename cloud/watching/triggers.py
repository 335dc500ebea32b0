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
        trained_s: when the last training began, seconds since 1970; None if there was none.
        drift: what was found, in words; empty for nothing.
        samples: new ones in the store since the last training, or since the watch began.
        labels: new ones, of the audit or of people, since the drift and the last training.
    """

    now_s: float
    began_s: float
    trained_s: float | None
    drift: str
    samples: int
    labels: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to train now.

    Attributes:
        act: ``rest``: nothing calls for it; ``cool_down``: it is too soon after the last;
            ``collect``: there are too few new labels; ``train``.
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
    """Decides on a training: for a cause, not too soon after the last, on enough new labels."""
    found = causes(facts, config)
    if not found:
        return Decision("rest", ())
    if facts.trained_s is not None and facts.now_s < facts.trained_s + config.cool_down_s:
        return Decision("cool_down", found)
    return Decision("collect" if facts.labels < config.audits else "train", found)


def in_words(found: Sequence[str]) -> str:
    """Returns causes as one text."""
    return "; ".join(found)


def _span(seconds: float) -> str:
    for unit_s, name in ((DAY_S, "days"), (HOUR_S, "hours"), (MINUTE_S, "minutes")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:g} {name}"
    return f"{seconds:g} seconds"
