"""Configuration of the cloud node."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from cloud.rollout.plan import RolloutPlan
from cloud.store_config import StoreConfig
from cloud.training.config import TrainingConfig
from cloud.training.network import planes_of
from cloud.watching.config import RetrainConfig
from shared.config import (
    AnyPath,
    BrokerConfig,
    Name,
    NodeConfig,
    Section,
    ShapeConfig,
    TrustFile,
)
from shared.errors import ConfigError


class CertificateConfig(Section):
    """What the threshold of a release must hold."""

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Bound on P(tier-1 disagrees with tier-2 | accepted)."""
    delta: float = Field(default=0.05, gt=0, lt=1)
    """Chance that the bound does not hold."""
    escalation_budget: float = Field(default=0.2, ge=0, le=1)
    """Share of the samples that tier-2 can take. The certificate goes before it."""


class LabellingConfig(Section):
    """What people are asked to label."""

    daily_limit: int = Field(default=50, ge=0, le=100_000)
    """At most so many samples a day, of those that tier-2 is least sure of; 0 for none."""


class CloudPipelineConfig(Section):
    """One classification task in the cloud."""

    input: ShapeConfig
    """What one sample is."""
    labels: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    """The labels, in the order of the models' outputs."""
    tier1_channel: Name
    """The channel of tier-1's model."""
    tier2_channel: Name
    """The channel of tier-2's model."""
    training: TrainingConfig | None = None
    """What the models are trained from; left out, people publish all of them."""
    certificate: CertificateConfig = CertificateConfig()
    """What the threshold of a release must hold."""
    retrain: RetrainConfig = RetrainConfig()
    """When tier-1 is trained again."""
    rollout: RolloutPlan = RolloutPlan()
    """How releases of both channels reach the fleet."""
    labelling: LabellingConfig = LabellingConfig()
    """What people are asked to label."""

    @model_validator(mode="after")
    def _samples_fit_the_training(self) -> Self:
        training, shape = self.training, self.input.shape
        if training is None:
            return self
        image_shape = training.image_shape
        if image_shape is not None and self.input.size % math.prod(image_shape):
            raise PydanticCustomError(
                "image_shape",
                "training.image_shape {image_shape} does not fit samples of shape {shape}",
                {
                    "image_shape": list(image_shape),
                    "shape": list(shape),
                    "fix": "write the height and width of these images, or leave it out",
                },
            )
        for tier, model in (("tier1", training.tier1), ("tier2", training.tier2)):
            if planes_of(model.architecture, shape, image_shape) is None:
                dimensions = 1 if model.architecture == "cnn1d" else 2
                raise PydanticCustomError(
                    "architecture",
                    "training.{tier} is a {kind}, which does not take samples of shape {shape}",
                    {
                        "tier": tier,
                        "kind": model.architecture,
                        "shape": list(shape),
                        "fix": f"give samples {dimensions} dimensions, with or without channels "
                        "before them; images that come as a row of numbers need "
                        "`training.image_shape`",
                    },
                )
        return self


def _as_section(value: object) -> object:
    """Takes ``store: URL`` as well as a section."""
    return {"url": value} if isinstance(value, str) else value


class CloudConfig(NodeConfig):
    """The cloud node: stores telemetry, retrains, signs and publishes."""

    role: Literal["cloud"]
    """What this node is."""
    duty: Literal["all", "ingest"] = "all"
    """``all`` for the one process that trains, directs and signs; ``ingest`` for others that only
    store telemetry beside it, in the same store."""
    broker: BrokerConfig
    """The cloud's broker."""
    store: Annotated[StoreConfig, BeforeValidator(_as_section)] = StoreConfig()
    """Where telemetry is kept, and for how long."""
    group: Name = "escalon-cloud"
    """Cloud processes of one group share the telemetry, where the broker can do that."""
    signing_key: AnyPath | None = None
    """The release key: an Ed25519 private key, PEM. Another one is noticed while the node runs.
    Needed but for ``duty: ingest``."""
    trust: TrustFile | None = None
    """The newest trust file, as ``escalon keys`` writes it; a newer one is noticed while the node
    runs. Every version that was ever here is handed down. Needed but for ``duty: ingest``."""
    chunk_bytes: int = Field(default=64 * 2**10, ge=1024, le=64 * 2**10)
    """Size of the chunks in which artefacts travel."""
    release_days: float = Field(default=90.0, gt=0, le=3650)
    """How long a release may be accepted. What runs goes on running."""
    pipelines: dict[Name, CloudPipelineConfig] = Field(min_length=1)
    """What is trained, by the pipeline's name."""

    @model_validator(mode="after")
    def _who_leads_has_keys(self) -> Self:
        missing = [key for key in ("signing_key", "trust") if getattr(self, key) is None]
        if self.duty == "all" and missing:
            raise PydanticCustomError(
                "no_keys",
                "a cloud that signs has no {missing}",
                {
                    "missing": " and no ".join(missing),
                    "fix": "name the files that `escalon keys init` made, or write `duty: ingest` "
                    "for a process that only stores telemetry",
                },
            )
        return self

    @model_validator(mode="after")
    def _ingestion_beside_another_has_its_store(self) -> Self:
        if self.duty == "ingest" and self.store.url == "sqlite":
            raise PydanticCustomError(
                "store_of_its_own",
                "a process with `duty: ingest` would have a store of its own",
                {
                    "fix": "name the store of the process that leads: `store: sqlite:////path` on "
                    "its host, or PostgreSQL's URL"
                },
            )
        return self

    @property
    def keys(self) -> tuple[Path, Path]:
        """The release key and the trust file.

        Raises:
            ConfigError: it has none, as it only stores telemetry.
        """
        if self.signing_key is None or self.trust is None:
            raise ConfigError(f"{self.node} has no keys. Fix: name `signing_key` and `trust`")
        return self.signing_key, self.trust

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """The labels of each pipeline."""
        return {name: pipeline.labels for name, pipeline in self.pipelines.items()}

    @model_validator(mode="after")
    def _one_channel_one_model(self) -> Self:
        channels = Counter(
            channel
            for pipeline in self.pipelines.values()
            for channel in (pipeline.tier1_channel, pipeline.tier2_channel)
        )
        for channel, count in channels.items():
            if count > 1:
                raise PydanticCustomError(
                    "shared_channel",
                    "channel {channel} is named {count} times",
                    {
                        "channel": channel,
                        "count": count,
                        "fix": "give each model of each pipeline a channel of its own",
                    },
                )
        return self
