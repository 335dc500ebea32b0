"""How the cloud's store is configured: where it lies, and what leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from cloud.store import RetentionLimits
from shared.config_section import AnyPath, EnvironmentText, Section

DAY_S = 86_400.0
FILE = "telemetry.sqlite"
FOLDER = "inputs"


class RetentionConfig(Section):
    """What leaves the store. Of one kind, the oldest goes first."""

    days: float = Field(default=90.0, gt=0, le=36_500)
    """How long a sample stays, and the counts of the gates."""
    held_days: float = Field(default=730.0, gt=0, le=36_500)
    """How long it stays if a person has labelled it."""
    waiting_days: float = Field(default=14.0, gt=0, le=36_500)
    """How long a label waits for its sample."""
    max_bytes: int = Field(default=50 * 2**30, ge=2**20, le=2**50)
    """At most so many bytes of rows and inputs, about; what is held goes last."""

    @model_validator(mode="after")
    def _held_is_kept_longest(self) -> Self:
        if self.held_days < self.days:
            raise PydanticCustomError(
                "held_days",
                "held_days is {held}, below days, which is {days}",
                {
                    "held": self.held_days,
                    "days": self.days,
                    "fix": "what is labelled stays longest: raise held_days",
                },
            )
        return self

    @property
    def limits(self) -> RetentionLimits:
        """The same in seconds."""
        return RetentionLimits(
            self.days * DAY_S, self.held_days * DAY_S, self.waiting_days * DAY_S, self.max_bytes
        )


class StoreConfig(Section):
    """Where telemetry is kept. A plain text in its place is its ``url``."""

    url: EnvironmentText = "sqlite"
    """SQLAlchemy URL: ``sqlite`` for a file in ``state_dir``, ``sqlite:////path/to/file``, or
    ``postgresql://user:${PASSWORD}@host/name`` (extra ``postgres``)."""
    inputs: EnvironmentText = FOLDER
    """Where the inputs lie: a folder, from ``state_dir`` on where the path is relative, or a URL
    such as ``s3://bucket/prefix`` (extra ``s3``)."""
    retention: RetentionConfig = RetentionConfig()
    """What leaves the store."""

    def database_url(self, state_dir: AnyPath) -> str:
        """Returns the URL of the database.

        Args:
            state_dir: the node's folder.
        """
        if self.url != "sqlite":
            return self.url
        return f"sqlite:///{Path(state_dir).absolute() / FILE}"

    def inputs_url(self, state_dir: AnyPath) -> str:
        """Returns where the inputs lie; the argument is that of ``database_url``."""
        if "://" in self.inputs:
            return self.inputs
        return str(Path(state_dir).absolute() / Path(self.inputs).expanduser())
