"""Configuration of a tier-1 node."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.config import BrokerConfig, Name, NodeConfig, PipelineConfig, Section


class EscalationConfig(Section):
    """How tier-2 is asked."""

    deadline_ms: float = Field(default=500.0, gt=0, le=600_000)
    """Without an answer for so long, tier-1 decides by itself (``decided_by: fallback``)."""
    audit_share: float = Field(default=0.01, ge=0, le=1)
    """Share of all samples that tier-2 sees too, whatever the gate says of them."""


class Tier1PipelineConfig(PipelineConfig):
    """One classification task on a tier-1 node."""

    sensors: tuple[Name, ...] | None = None
    """The sensors that this node answers; left out, every sensor of the site."""
    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
    """Whether a sample is acknowledged only after its prediction was, or lost in a crash."""
    escalation: EscalationConfig = EscalationConfig()
    """How tier-2 is asked."""
    probabilities: bool = False
    """Whether predictions carry the probability of every label."""
    max_payload_bytes: int = Field(default=256 * 2**10, ge=1, le=256 * 2**20)
    """A larger sample is refused unread."""


class Tier1Config(NodeConfig):
    """A tier-1 node: answers its sensors, asks tier-2 where it is not sure."""

    role: Literal["tier1"]
    """What this node is."""
    broker: BrokerConfig
    """The site's broker."""
    pipelines: dict[Name, Tier1PipelineConfig] = Field(min_length=1)
    """What this node answers, by the pipeline's name."""
