"""Tells the hierarchy that a node is there, and what it is."""

from __future__ import annotations

import time
from collections.abc import Mapping

import shared
from shared.config import NodeConfig
from shared.messages import ModelInfo, NodeInfo, NodeState, to_json
from shared.model_spec import ModelSpec
from shared.mqtt.link import Link


class Presence:
    """A node's retained ``state`` and ``info``.

    Args:
        config: the node.
        role: its role.
        metrics_url: where its metrics are.
    """

    def __init__(self, config: NodeConfig, role: str, metrics_url: str | None) -> None:
        self._config = config
        self._role = role
        self._metrics_url = metrics_url
        self._started = time.time()

    def announce(self, link: Link, models: Mapping[str, ModelSpec], activity: str = "") -> None:
        """Publishes birth and info.

        Args:
            link: the broker.
            models: what serves, by pipeline.
            activity: what the node is doing beside its work, in words.
        """
        topics, node = self._config.topics, self._config.node
        born = NodeState(node=node, role=self._role, state="online")
        link.publish(topics.state(node), to_json(born), retain=True)
        info = NodeInfo(
            node=node,
            role=self._role,
            site=self._config.site,
            software=shared.__version__,
            started=self._started,
            models={
                pipeline: ModelInfo(model=spec.name, version=spec.version, sha256=spec.sha256)
                for pipeline, spec in models.items()
            },
            metrics_url=self._metrics_url,
            activity=activity,
        )
        link.publish(topics.info(node), to_json(info), retain=True)

    def farewell(self, link: Link) -> None:
        """Publishes that the node leaves on purpose."""
        gone = NodeState(node=self._config.node, role=self._role, state="offline")
        link.publish(self._config.topics.state(self._config.node), to_json(gone), retain=True)
