"""Configuration of a tier-2 node."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from shared.cascade.config import EscalationConfig
from shared.config import BrokerConfig, Name, PipelineConfig, Section, TrustFile
from shared.topics import MAX_NAME
from shared.workers.config import TierConfig
from shared.workers.worker import ALONE, Worker


class UplinkConfig(Section):
    """What of a pipeline may leave the site."""

    inputs: Literal["all", "hard", "none"] = "all"
    """Which escalated inputs the cloud gets: all, only those that tier-1 was not sure of, or none.
    Scores always go: they are what drift is seen by."""


class UpstreamConfig(Section):
    """The tier-2 node above this one, a regional one for example."""

    site: Name
    """The site under whose topics it is asked."""
    broker: BrokerConfig | None = None
    """Its broker; left out, the cloud's, or the site's where one broker serves both."""
    threshold: float | None = None
    """This node answers by itself from this certainty on. Left out, its model's own threshold,
    which is 0 in the releases of a full model: they are always sure."""


class Tier2PipelineConfig(PipelineConfig):
    """One classification task on a tier-2 node."""

    group: Name = "escalon-tier2"
    """Nodes of one group share the escalations of the site, where the broker can do that."""
    uplink: UplinkConfig = UplinkConfig()
    """What of it may leave the site."""
    upstream: UpstreamConfig | None = None
    """Whom to ask what this node is not sure of either; left out, nobody."""
    escalation: EscalationConfig = EscalationConfig()
    """How ``upstream`` is asked. The deadline is never longer than that of the node which waits."""

    @model_validator(mode="after")
    def _escalation_has_somebody_to_ask(self) -> Self:
        if self.upstream is None and "escalation" in self.model_fields_set:
            raise PydanticCustomError(
                "escalation_without_upstream",
                "this pipeline has `escalation:` and nobody to ask",
                {"fix": "add `upstream: {site: NAME}`, or take `escalation:` out"},
            )
        if "backlog" in self.escalation.model_fields_set:
            raise PydanticCustomError(
                "backlog_on_tier2",
                "a tier-2 node keeps no backlog: its telemetry holds every sample it answered",
                {"fix": "take `backlog:` out; `telemetry: {max_spool_bytes: …}` bounds the disk"},
            )
        return self


class RelayConfig(Section):
    """Releases that this gateway hands down to its site."""

    channels: tuple[Name, ...] = Field(min_length=1)
    """The channels."""
    trust: TrustFile
    """The trust file, as ``escalon keys`` writes it. Nothing unsigned is handed down."""


class TelemetryConfig(Section):
    """How telemetry goes to the cloud."""

    max_records: int = Field(default=256, ge=1, le=10_000)
    """At most so many records a message."""
    max_message_bytes: int = Field(default=512 * 2**10, ge=2**14, le=256 * 2**20)
    """A message stays below this, and below what a packet may be (``max_packet_bytes`` of the
    cloud's broker); a record that is larger is dropped, and counted."""
    max_delay_s: float = Field(default=1.0, gt=0, le=3600)
    """How long a first record waits for company."""
    retry_s: float = Field(default=10.0, gt=0, le=3600)
    """A message that the cloud has not confirmed is sent again after so long."""
    max_spool_bytes: int = Field(default=256 * 2**20, ge=2**16)
    """What may wait on the disk while the cloud is away; past it the oldest goes."""
    max_spool_age_s: float = Field(default=14 * 86_400.0, gt=0)
    """How long it may wait."""


class Tier2Config(TierConfig):
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

    def part(self, worker: Worker) -> Self:
        """Returns what one of the node's workers goes by: its part of what the node may use."""
        pipelines = {
            name: pipeline.model_copy(
                update={"escalation": self._escalation_part(pipeline, worker.count)}
            )
            for name, pipeline in self.pipelines.items()
        }
        largest = (self.cloud or self.broker).max_message_bytes
        telemetry = self.telemetry.model_copy(
            update={
                "max_spool_bytes": self.telemetry.max_spool_bytes // worker.count,
                "max_message_bytes": min(self.telemetry.max_message_bytes, largest),
            }
        )
        return self.model_copy(
            update={
                "pipelines": pipelines,
                "telemetry": telemetry,
                "metrics": self.metrics_of(worker),
            }
        )

    def name_upstream(self, worker: Worker = ALONE) -> str:
        """Returns the name under which this node asks above its site: there are many sites."""
        return f"{self.site}.{worker.name(self.node)}"

    def upstream_broker(self, upstream: UpstreamConfig) -> BrokerConfig:
        """Returns the broker on which an upstream node is asked."""
        return upstream.broker or self.cloud or self.broker

    def _escalation_part(self, pipeline: Tier2PipelineConfig, processes: int) -> EscalationConfig:
        above = pipeline.upstream
        asked = self.broker if above is None else self.upstream_broker(above)
        return pipeline.escalation.part(processes, asked.max_message_bytes)

    @model_validator(mode="after")
    def _upstream_is_another(self) -> Self:
        asking = [each.upstream for each in self.pipelines.values() if each.upstream is not None]
        for upstream in asking:
            if upstream.site == self.site and self.upstream_broker(upstream) == self.broker:
                raise PydanticCustomError(
                    "upstream_is_own_site",
                    "site {site} would ask itself",
                    {
                        "site": self.site,
                        "fix": "give `upstream: site:` the name of the site above, or its broker",
                    },
                )
        longest = self.name_upstream(Worker(self.workers - 1, self.workers))
        if (asking or self.relay is not None) and len(longest) > MAX_NAME:
            raise PydanticCustomError(
                "name_upstream",
                "{name}, the name under which this node asks upstream, is longer than {limit}",
                {
                    "name": longest,
                    "limit": MAX_NAME,
                    "fix": "shorten the name of the site or of the node",
                },
            )
        return self
