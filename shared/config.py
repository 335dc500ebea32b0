"""The parts of a node's configuration that every role has.

Models are frozen and refuse unknown keys.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shared.config_section import (
    NAME_PATTERN,
    AnyPath,
    EnvironmentText,
    Name,
    Section,
    TrustFile,
)
from shared.input_config import InputConfig, ShapeConfig, layout_of
from shared.inputs import Inputs
from shared.model_config import ModelConfig
from shared.probation_config import ProbationConfig
from shared.topics import Topics

__all__ = [
    "NAME_PATTERN",
    "AnyPath",
    "BatchingConfig",
    "BrokerConfig",
    "EnvironmentText",
    "InferenceMode",
    "InputConfig",
    "MetricsConfig",
    "ModelConfig",
    "Name",
    "NodeConfig",
    "PipelineConfig",
    "ProbationConfig",
    "ReleasesConfig",
    "Section",
    "ShapeConfig",
    "TrustFile",
]


InferenceMode = Literal["auto", "inline", "thread"]
PACKET_OVERHEAD_BYTES = 2**10
"""What a topic and properties of our own take of a packet, at most."""


def _as_text(value: object) -> object:
    """Takes ``protocol: 5`` as well as ``"5"``: YAML makes a number of what has no quotes."""
    return str(value) if type(value) is int else value


class BrokerConfig(Section):
    """How to reach a broker."""

    url: EnvironmentText
    """``mqtt://host:port``; ``${VAR}`` may stand in it."""
    username: EnvironmentText | None = None
    """User name, if the broker asks for one."""
    password: EnvironmentText | None = Field(default=None, repr=False)
    """Password; write it as ``${VAR}``."""
    protocol: Annotated[Literal["3.1.1", "5"], BeforeValidator(_as_text)] = "3.1.1"
    """MQTT version. Nothing that a message means depends on it; 5 adds message expiry."""
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    """Seconds of silence after which the broker declares this node dead."""
    max_packet_bytes: int = Field(default=2**20, ge=2**17, le=2**28)
    """Bytes of the largest MQTT packet that is sent or taken, 128 KiB to 256 MiB; 1 MiB by default.
    What is larger is refused, and counted. Many brokers have a limit of their own."""

    @field_validator("url")
    @classmethod
    def _mqtt_url(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.username is not None or parts.password is not None:
            raise PydanticCustomError(
                "broker_url",
                "a user name or password does not belong into the address",
                {"fix": "write them as username: and password:, the latter as ${VAR}"},
            )
        if parts.scheme != "mqtt" or not parts.hostname or port == 0 or parts.path not in ("", "/"):
            raise PydanticCustomError(
                "broker_url",
                "{url} is not a broker's address",
                {"url": url, "fix": "write mqtt://host or mqtt://host:port"},
            )
        return url

    @property
    def max_message_bytes(self) -> int:
        """What a message of our own may hold, so that topic and properties find room beside it."""
        return self.max_packet_bytes - PACKET_OVERHEAD_BYTES

    @property
    def host(self) -> str:
        """The host's name or address."""
        return urlsplit(self.url).hostname or "localhost"

    @property
    def port(self) -> int:
        """The TCP port, 1883 where the URL names none."""
        return urlsplit(self.url).port or 1883


class MetricsConfig(Section):
    """Where Prometheus reads this node's metrics."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface."""
    port: int = Field(default=9464, ge=0, le=65535)
    """TCP port; 0 takes a free one, which the log and the node's ``info`` then name."""


class ReleasesConfig(Section):
    """From where new versions of a model come."""

    channel: Name
    """The channel whose manifests this node follows."""
    trust: TrustFile
    """The trust file, as ``escalon keys`` writes it: whose signatures count."""
    probation_s: float = Field(default=10.0, gt=0, le=86_400)
    """How long a new model is watched before it is committed."""
    probation: ProbationConfig = ProbationConfig()
    """What it may do worse than the model before, until it is rolled back."""
    deadline_s: float = Field(default=600.0, gt=0, le=86_400)
    """How long fetching may take before the update is given up."""
    max_artifact_bytes: int = Field(default=128 * 2**20, ge=1, le=2**31)
    """No larger model is fetched."""


class BatchingConfig(Section):
    """How samples are put together for the model."""

    max_batch_size: int = Field(default=64, ge=1, le=4096)
    """At most so many samples a call of the model."""
    max_delay_ms: float = Field(default=0.0, ge=0, le=10_000)
    """How long a first sample may wait for company; 0 takes just what is there. A sample that comes
    after as long a silence does not wait."""
    queue_size: int = Field(default=10_000, ge=1, le=1_000_000)
    """At most so many samples wait for the model."""
    overflow: Literal["reject", "drop_oldest", "block"] = "reject"
    """What becomes of a sample that finds the queue full: it is refused, it takes the place of the
    oldest, or it is not acknowledged, so that the broker keeps it. Each is counted."""


class NodeConfig(Section):
    """What every node has."""

    node: Name
    """This node's name, unique on its site."""
    site: Name
    """The site's name."""
    prefix: Name = "escalon"
    """First level of every topic."""
    state_dir: AnyPath
    """Folder for what must outlive a restart: models, releases, spool."""
    metrics: MetricsConfig = MetricsConfig()
    """Prometheus metrics."""
    hardware: Name | None = None
    """Class of this machine, for staged releases: of each class one node goes first. The processor
    architecture, unless it is said."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What the log shows."""

    @property
    def topics(self) -> Topics:
        """The topics of this node's site."""
        return Topics(self.prefix, self.site)


class PipelineConfig(Section):
    """One classification task on a node: where its model comes from and how it is fed."""

    input: InputConfig | None = None
    """What one sample is, where the model has one input."""
    inputs: dict[str, InputConfig] | None = Field(default=None, min_length=1, max_length=64)
    """What one sample is, where the model has several: by the name of the ONNX input."""
    model: ModelConfig | None = None
    """A model that is there before the first release."""
    releases: ReleasesConfig | None = None
    """From where new versions of the model come."""
    batching: BatchingConfig = BatchingConfig()
    """How samples are put together for the model."""
    inference: InferenceMode = "auto"
    """Where the model runs: in the node's loop (``inline``), or in a thread beside it (``thread``).
    ``auto`` measures the model: the thread for one that takes longer than 4 ms a full batch."""

    @cached_property
    def layout(self) -> Inputs:
        """What a sample's row is, and how the model takes it."""
        return layout_of(self.input, self.inputs)

    @model_validator(mode="after")
    def _one_kind_of_input(self) -> Self:
        if (self.input is None) == (self.inputs is None):
            raise PydanticCustomError(
                "input_or_inputs",
                "a pipeline has either `input:` or `inputs:`",
                {
                    "fix": "write `input: {shape: [64]}` for a model with one input, or `inputs:` "
                    "with a section for each input of the model"
                },
            )
        return self

    @model_validator(mode="after")
    def _a_release_has_one_plain_input(self) -> Self:
        if self.releases is None or not (self.inputs or self.layout.specs[0].normalised):
            return self
        raise PydanticCustomError(
            "input_of_releases",
            "a release takes a sample as it comes, as one input",
            {
                "fix": "put mean and scale into the released models, or join their inputs, "
                "and write `input:` with the shape alone"
            },
        )

    @model_validator(mode="after")
    def _some_model(self) -> Self:
        if self.model is None and self.releases is None:
            raise PydanticCustomError(
                "no_model",
                "this pipeline has no model",
                {"fix": "add `model:` with an ONNX file's path, or `releases:` with a channel"},
            )
        return self
