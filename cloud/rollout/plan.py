"""How a rollout goes: its waves, and what stops it, as a configuration says it."""

from __future__ import annotations

import itertools
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from shared.config_section import Section

DAY_S = 86_400.0


class Wave(Section):
    """One step of a rollout."""

    share: float = Field(ge=0, le=1)
    """Share of all nodes that the release is offered to; 0 means the canaries alone."""
    soak_s: float = Field(default=600.0, ge=0, le=30 * DAY_S)
    """How long enough nodes of the wave must have committed before it is over."""


DEFAULT_WAVES = tuple(Wave(share=share) for share in (0.0, 0.05, 0.25, 1.0))


class RolloutPlan(Section):
    """How a release reaches the fleet."""

    waves: tuple[Wave, ...] = Field(default=DEFAULT_WAVES, min_length=1, max_length=20)
    """The steps, each with a larger share than the one before; the last is everybody."""
    canaries_per_class: int = Field(default=1, ge=0, le=10)
    """So many nodes of each hardware class come first, whatever the share."""
    deadline_s: float = Field(default=3600.0, gt=0, le=30 * DAY_S)
    """A node that was offered the release and has not ended by then counts as TIMED_OUT."""
    min_success: float = Field(default=0.9, gt=0, le=1)
    """Share of a wave's nodes that must commit before the next one begins. Canaries: all."""
    abort_share: float = Field(default=0.1, gt=0, le=1)
    """From this share of failures among the nodes that have ended on, the rollout is aborted."""
    abort_min_executed: int = Field(default=10, ge=1, le=1_000_000)
    """Not before so many nodes have ended."""

    @model_validator(mode="after")
    def _waves_grow(self) -> Self:
        shares = [wave.share for wave in self.waves]
        for share, following in itertools.pairwise(shares):
            if following <= share:
                raise PydanticCustomError(
                    "waves_shrink",
                    "a wave of share {share} is followed by one of {following}",
                    {
                        "share": share,
                        "following": following,
                        "fix": "give the waves in growing order: a release cannot be un-offered",
                    },
                )
        if shares[-1] != 1:
            raise PydanticCustomError(
                "waves_end_early",
                "the last wave has a share of {share}, so some nodes would never be offered it",
                {"share": shares[-1], "fix": "end with `{share: 1}`; to stop before it, pause"},
            )
        return self

    @model_validator(mode="after")
    def _somebody_begins(self) -> Self:
        if self.waves[0].share == 0 and not self.canaries_per_class:
            raise PydanticCustomError(
                "empty_wave",
                "a wave of share 0 means the canaries alone, and canaries_per_class is 0",
                {"fix": "leave that wave out, or set canaries_per_class to 1"},
            )
        return self

    def number(self, share: float) -> int:
        """Returns the wave that a share has reached, from 0. The plan may have changed meanwhile.

        Args:
            share: of all nodes, 0 to 1.
        """
        return max(0, sum(wave.share <= share for wave in self.waves) - 1)
