"""Configuration of a node that may be several processes."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from shared.config import MetricsConfig, NodeConfig
from shared.topics import MAX_NAME
from shared.workers.worker import MAX_WORKERS, WORKER_NAME, Worker

MAX_PORT = 65_535


class TierConfig(NodeConfig):
    """What every tier node has."""

    workers: int = Field(default=1, ge=1, le=MAX_WORKERS)
    """How many processes share the node's work."""

    def metrics_of(self, worker: Worker) -> MetricsConfig:
        """Returns where a worker's metrics are: one port after the other."""
        return self.metrics.model_copy(update={"port": worker.port(self.metrics.port)})

    @model_validator(mode="after")
    def _room_for_workers(self) -> Self:
        last = Worker(self.workers - 1, self.workers)
        if WORKER_NAME.fullmatch(self.node):
            raise PydanticCustomError(
                "worker_name",
                "{node} is what a worker of another node would be called",
                {"node": self.node, "fix": "let the name of the node not end in .w and a number"},
            )
        if len(last.name(self.node)) > MAX_NAME:
            raise PydanticCustomError(
                "worker_name",
                "with {suffix} behind it, the name of the node is too long",
                {
                    "suffix": last.name(""),
                    "fix": f"give a node with workers a name of at most {MAX_NAME - 4} characters",
                },
            )
        if last.port(self.metrics.port) > MAX_PORT:
            raise PydanticCustomError(
                "worker_ports",
                "the metrics of {workers} workers take the ports from {port} on",
                {
                    "workers": self.workers,
                    "port": self.metrics.port,
                    "fix": f"set metrics.port to at most {MAX_PORT - last.index}, or to 0 for any",
                },
            )
        return self
