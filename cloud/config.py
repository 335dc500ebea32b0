"""Configuration of the cloud node."""

from __future__ import annotations

from collections import Counter
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from cloud.rollout.plan import RolloutPlan
from cloud.watching.config import RetrainConfig
from shared.config import (
    AnyPath,
    BrokerConfig,
    ExistingFile,
    Name,
    NodeConfig,
    Section,
    ShapeConfig,
)


class TrainingConfig(Section):
    """What the pipeline's models are trained from."""

    base: AnyPath
    """Folder with ``train.npz`` and ``calibration.npz``: inputs ``x`` and labels ``y``."""
    first_job: AnyPath
    """Folder in which the first models are trained, once; a finished candidate in it is used."""
    input_maximum: float = Field(default=1.0, gt=0)
    """Largest value of an input; the smallest is 0."""
    image_shape: tuple[int, int] | None = None
    """Height and width where inputs are images: these are shifted and blurred in training."""
    seed: int = Field(default=1, ge=0, le=2**31)
    """Decides all randomness of the training."""
    offer_fp32: bool = False
    """Release tier-1's model before quantization as well, where it is certified: nodes fetch both
    files, three to four times the bytes, and serve the faster one, which for a tiny model is
    often fp32."""


class CertificateConfig(Section):
    """What the threshold of a release must hold."""

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Bound on P(tier-1 disagrees with tier-2 | accepted)."""
    delta: float = Field(default=0.05, gt=0, lt=1)
    """Chance that the bound does not hold."""
    escalation_budget: float = Field(default=0.2, ge=0, le=1)
    """Share of the samples that tier-2 can take. The certificate goes before it."""


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


class CloudConfig(NodeConfig):
    """The cloud node: stores telemetry, retrains, signs and publishes."""

    role: Literal["cloud"]
    """What this node is."""
    broker: BrokerConfig
    """The cloud's broker."""
    store: str = "sqlite"
    """SQLAlchemy URL of the telemetry store; ``sqlite`` stands for a file in ``state_dir``."""
    signing_key: AnyPath
    """The release key: an Ed25519 private key, PEM. Another one is noticed while the node runs."""
    trust: ExistingFile
    """The newest trust file, as ``escalon keys`` writes it; a newer one is noticed while the node
    runs. Every version that was ever here is handed down."""
    chunk_bytes: int = Field(default=64 * 2**10, ge=1024, le=64 * 2**10)
    """Size of the chunks in which artefacts travel."""
    release_days: float = Field(default=90.0, gt=0, le=3650)
    """How long a release may be accepted. What runs goes on running."""
    pipelines: dict[Name, CloudPipelineConfig] = Field(min_length=1)
    """What is trained, by the pipeline's name."""

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
