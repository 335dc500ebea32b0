"""What a new model may do worse than the one before, as a configuration says it."""

from __future__ import annotations

from pydantic import Field

from shared.config_section import Section


class ProbationConfig(Section):
    """What a new model may do worse than the one before it, until it is rolled back."""

    max_broken_share: float = Field(default=0.05, ge=0, lt=1)
    """More than this share of the batches with malformed scores, or that the model cannot run, is
    too much, at once. A few are forgiven: a sample may be at fault."""
    escalation_margin: float = Field(default=0.1, ge=0, le=1)
    """The share of samples that the gate does not accept may be so much above the one before, or
    above the one that the release promises. What comes in ten seconds is less varied than what came
    in a quarter of an hour."""
    lost_margin: float = Field(default=0.1, ge=0, le=1)
    """The share of questions to the next tier that get no answer may be so much above the one
    before."""
    latency_factor: float = Field(default=2.0, ge=1, le=1000)
    """A batch is slow that takes so many times what 95 % of the batches of its size took before.
    One in ten may be: the machine has other work."""
    latency_slack_ms: float = Field(default=1.0, ge=0, le=600_000)
    """No batch is slow that takes at most so much longer than 95 % did before."""
    rss_factor: float = Field(default=1.5, ge=1, le=1000)
    """The process may take so many times the memory that it took before, ..."""
    rss_slack_bytes: int = Field(default=64 * 2**20, ge=0, le=2**40)
    """... and so many bytes more, and four times the size of the model's file: both models are in
    memory, and ONNX Runtime keeps its own arrangement of the weights."""
    min_samples: int = Field(default=20, ge=0, le=1_000_000)
    """With fewer samples a release is committed as unwatched, which the report says."""
    max_extension_s: float = Field(default=0.0, ge=0, le=86_400)
    """So much longer than ``probation_s`` it waits for that many samples. By default not at all: a
    node without traffic would hold up a rollout."""
    false_alarm: float = Field(default=1e-4, ge=1e-12, le=0.05)
    """The chance that a share which is at its limit is taken for one above it, in a whole
    probation, however long."""
