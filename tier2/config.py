"""Configuration of a tier-2 node."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.config import BrokerConfig, ExistingFile, Name, NodeConfig, PipelineConfig, Section


class UplinkConfig(Section):
    """What of a pipeline may leave the site."""

    inputs: Literal["all", "hard", "none"] = "all"
    """Which escalated inputs the cloud gets: all, only those that tier-1 was not sure of, or none.
    Scores always go: they are what drift is seen by."""


class Tier2PipelineConfig(PipelineConfig):
    """One classification task on a tier-2 node."""

    uplink: UplinkConfig = UplinkConfig()
    """What of it may leave the site."""


class RelayConfig(Section):
    """Releases that this gateway hands down to its site."""

    channels: tuple[Name, ...] = Field(min_length=1)
    """The channels."""
    trust: ExistingFile
    """The release key: an Ed25519 public key, PEM. Nothing unsigned is handed down."""


class TelemetryConfig(Section):
    """How telemetry goes to the cloud."""

    max_records: int = Field(default=256, ge=1, le=10_000)
    """At most so many records a message."""
    max_delay_s: float = Field(default=1.0, gt=0, le=3600)
    """How long a first record waits for company."""
    retry_s: float = Field(default=10.0, gt=0, le=3600)
    """A message that the cloud has not confirmed is sent again after so long."""
    max_spool_bytes: int = Field(default=256 * 2**20, ge=2**16)
    """What may wait on the disk while the cloud is away; past it the oldest goes."""
    max_spool_age_s: float = Field(default=14 * 86_400.0, gt=0)
    """How long it may wait."""


class Tier2Config(NodeConfig):
    """A tier-2 node: answers its site's escalations; the gateway to the cloud."""

    role: Literal["tier2"]
    """What this node is."""
    broker: BrokerConfig
    """The site's broker."""
    cloud: BrokerConfig | None = None
    """The cloud's broker; left out, the site's broker serves both."""
    pipelines: dict[Name, Tier2PipelineConfig] = Field(min_length=1)
    """What this node answers, by the pipeline's name."""
    relay: RelayConfig | None = None
    """Releases that this gateway hands down."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """How telemetry goes to the cloud."""
