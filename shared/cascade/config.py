"""How the next tier is asked, as a configuration says it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from shared.cascade.sizes import MAX_HEAD_BYTES, MAX_SAMPLE_BYTES
from shared.config_section import Section


def _check_delays(retry_s: float, max_retry_s: float) -> None:
    if retry_s > max_retry_s:
        raise PydanticCustomError(
            "retry_delays",
            "retry_s is {retry_s}, above max_retry_s, which is {max_retry_s}",
            {
                "retry_s": retry_s,
                "max_retry_s": max_retry_s,
                "fix": "retry_s is the first delay and max_retry_s the longest: swap or raise them",
            },
        )


class BreakerConfig(Section):
    """When a tier that does not answer is left alone, and for how long."""

    failures: int = Field(default=5, ge=1, le=1000)
    """After so many messages in a row without an answer in time, nothing is asked any more."""
    retry_s: float = Field(default=1.0, gt=0, le=3600)
    """The first trial comes after so long; each that fails doubles the delay."""
    max_retry_s: float = Field(default=60.0, gt=0, le=86_400)
    """The delay between two trials grows to this."""

    @model_validator(mode="after")
    def _delays(self) -> Self:
        _check_delays(self.retry_s, self.max_retry_s)
        return self


class BudgetConfig(Section):
    """How much may be asked. A minute's worth may be spent at once."""

    samples_per_minute: int | None = Field(default=None, ge=1, le=100_000_000)
    """At most so many samples a minute; left out, any number."""
    bytes_per_minute: int | None = Field(default=None, ge=1, le=2**40)
    """At most so many bytes a minute; left out, any number."""


class BacklogConfig(Section):
    """What waits on the disk until it can be sent: hard samples that could not be asked."""

    max_bytes: int = Field(default=64 * 2**20, ge=0, le=2**40)
    """At most so many bytes; past it the oldest go. 0 keeps none."""
    max_age_s: float = Field(default=7 * 86_400.0, gt=0)
    """How long a sample may wait."""
    retry_s: float = Field(default=10.0, gt=0, le=3600)
    """A message that tier-2 has not confirmed is sent again after so long; the delay doubles."""
    max_retry_s: float = Field(default=120.0, gt=0, le=86_400)
    """The delay between two tries grows to this."""

    @model_validator(mode="after")
    def _delays(self) -> Self:
        _check_delays(self.retry_s, self.max_retry_s)
        return self


class EscalationConfig(Section):
    """How the next tier is asked."""

    deadline_ms: float = Field(default=500.0, gt=0, le=600_000)
    """Without an answer for so long, a node decides by itself (``decided_by: fallback``)."""
    audit_share: float = Field(default=0.01, ge=0, le=1)
    """Share of all samples that the next tier sees too, whatever the gate says of them."""
    max_inflight: int = Field(default=1000, ge=1, le=1_000_000)
    """At most so many samples wait for an answer. Audits are never held back by it."""
    max_batch_samples: int = Field(default=256, ge=1, le=65_536)
    """At most so many samples a message."""
    max_message_bytes: int = Field(default=512 * 2**10, ge=1024, le=256 * 2**20)
    """A message stays below this, and below what a packet may be (``broker.max_packet_bytes``);
    one sample that is larger travels alone."""
    breaker: BreakerConfig = BreakerConfig()
    """When a tier that does not answer is left alone."""
    budget: BudgetConfig = BudgetConfig()
    """How much may be asked."""
    backlog: BacklogConfig = BacklogConfig()
    """What waits on the disk because it could not be asked."""

    def part(self, processes: int, max_message_bytes: int) -> Self:
        """Returns what one of several processes goes by that are one node to the next tier.

        Args:
            processes: among how many the budget, the room for what waits and the backlog's disk
                are divided.
            max_message_bytes: what a message to the next tier's broker may hold.
        """
        budget = self.budget.model_copy(
            update={
                key: None if limit is None else max(1, limit // processes)
                for key, limit in self.budget
            }
        )
        backlog = {"max_bytes": self.backlog.max_bytes // processes}
        return self.model_copy(
            update={
                "max_inflight": max(1, self.max_inflight // processes),
                "max_message_bytes": min(self.max_message_bytes, max_message_bytes),
                "budget": budget,
                "backlog": self.backlog.model_copy(update=backlog),
            }
        )

    def samples_a_message(self, sample_bytes: int) -> int:
        """Returns how many samples a message may hold, at least one, whatever their names.

        Args:
            sample_bytes: of one sample's numbers and scores.
        """
        room = self.max_message_bytes - MAX_HEAD_BYTES
        fit = room // (sample_bytes + MAX_SAMPLE_BYTES)
        return max(1, min(self.max_batch_samples, fit))
