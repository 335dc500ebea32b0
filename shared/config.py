"""The parts of a node's configuration that every role has.

Models are frozen and refuse unknown keys. The folder and the environment that a configuration is
read with come in as validation context (``config_file.py``), never from the process.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.topics import NAME, Topics

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def _context(info: ValidationInfo, key: str) -> Any:
    return (info.context or {}).get(key)


def _expand(value: Any, info: ValidationInfo) -> Any:
    """Puts in ``${VAR}`` and ``${VAR:-default}``; an unset variable without default is an error."""
    environment = _context(info, "environment") or {}

    def replacement(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = environment.get(name, default)
        if found is None:
            raise PydanticCustomError(
                "unset_variable",
                "the environment variable {name} is not set",
                {"name": name, "fix": f"set {name}, or write ${{{name}:-default}}"},
            )
        return str(found)

    return VARIABLE.sub(replacement, value) if isinstance(value, str) else value


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    folder: Path = _context(info, "folder") or Path()
    return Path(os.path.normpath(folder / path.expanduser()))


def _existing_file(path: Path) -> Path:
    if not path.is_file():
        raise PydanticCustomError(
            "missing_file",
            "there is no file {path}",
            {
                "path": str(path),
                "fix": "give the path of an existing file, absolute or from "
                "the folder of this YAML",
            },
        )
    return path


NAME_PATTERN = f"^{NAME.pattern}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
EnvironmentText = Annotated[str, BeforeValidator(_expand)]
AnyPath = Annotated[Path, BeforeValidator(_expand), AfterValidator(_from_folder)]
ExistingFile = Annotated[AnyPath, AfterValidator(_existing_file)]


class Section(BaseModel):
    """A part of a configuration: frozen, strict, no unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class BrokerConfig(Section):
    """How to reach a broker."""

    url: EnvironmentText
    """``mqtt://host:port``; ``${VAR}`` may stand in it."""
    username: EnvironmentText | None = None
    """User name, if the broker asks for one."""
    password: EnvironmentText | None = Field(default=None, repr=False)
    """Password; write it as ``${VAR}``."""
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    """MQTT version. Nothing that a message means depends on it; 5 adds message expiry."""
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    """Seconds of silence after which the broker declares this node dead."""

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


class ModelConfig(Section):
    """A model that is there before the first release, from a file of yours."""

    path: ExistingFile
    """The ONNX file."""
    version: str = Field(default="local", min_length=1, max_length=64)
    """The version that predictions carry."""
    labels: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    """One label for each of the model's outputs, in their order."""
    scores: Literal["logits", "probabilities"] = "probabilities"
    """What the model's output holds."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """The logits are divided by it before the softmax."""
    threshold: float = Field(default=0.9, ge=0, le=1)
    """Tier-1 answers itself from this confidence on. A release brings a certified one with it."""


class ReleasesConfig(Section):
    """From where new versions of a model come."""

    channel: Name
    """The channel whose manifests this node follows."""
    trust: ExistingFile
    """The release key: an Ed25519 public key, PEM."""
    probation_s: float = Field(default=10.0, gt=0, le=86_400)
    """How long a new model is watched before it is committed."""
    deadline_s: float = Field(default=600.0, gt=0, le=86_400)
    """How long fetching may take before the update is given up."""
    max_artifact_bytes: int = Field(default=128 * 2**20, ge=1, le=2**31)
    """No larger model is fetched."""


class BatchingConfig(Section):
    """How samples are put together for the model."""

    max_batch_size: int = Field(default=32, ge=1, le=4096)
    """At most so many samples a call of the model."""
    max_delay_ms: float = Field(default=0.0, ge=0, le=10_000)
    """How long a first sample may wait for company; 0 takes just what is there."""
    queue_size: int = Field(default=10_000, ge=1, le=1_000_000)
    """At most so many samples wait; the next is refused, and counted."""


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
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What the log shows."""

    @property
    def topics(self) -> Topics:
        """The topics of this node's site."""
        return Topics(self.prefix, self.site)


class InputConfig(Section):
    """What one sample is."""

    shape: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field(min_length=1, max_length=7)
    """Shape of the model's input without the batch; a sample brings its numbers in C order."""

    @property
    def size(self) -> int:
        """How many numbers a sample has."""
        return math.prod(self.shape)


class PipelineConfig(Section):
    """One classification task on a node: where its model comes from and how it is fed."""

    input: InputConfig
    """What one sample is."""
    model: ModelConfig | None = None
    """A model that is there before the first release."""
    releases: ReleasesConfig | None = None
    """From where new versions of the model come."""
    batching: BatchingConfig = BatchingConfig()
    """How samples are put together for the model."""

    @model_validator(mode="after")
    def _some_model(self) -> Self:
        if self.model is None and self.releases is None:
            raise PydanticCustomError(
                "no_model",
                "this pipeline has no model",
                {"fix": "add `model:` with an ONNX file's path, or `releases:` with a channel"},
            )
        return self
