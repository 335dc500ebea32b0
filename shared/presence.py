"""Tells the hierarchy that a node is there, and what it is; finds another one under its name."""

from __future__ import annotations

import logging
import platform
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Literal

from prometheus_client import Counter

import shared
from shared.config import NodeConfig
from shared.errors import PayloadError
from shared.messages import ModelInfo, NodeInfo, NodeState, from_json, to_json
from shared.mqtt.link import Link
from shared.mqtt.message import Message
from shared.mqtt.trouble_log import TroubleLog
from shared.rivals import Rivals

INSTANCE = uuid.uuid4().hex[:12]
"""This process."""
HOST = socket.gethostname()
"""Where it runs."""

log = logging.getLogger(__name__)


def state_of(
    config: NodeConfig, role: str, state: Literal["online", "offline"], instance: str = INSTANCE
) -> NodeState:
    """Returns what a node says of itself, in its birth, its will and its farewell.

    Args:
        config: the node.
        role: its role.
        state: whether it is there.
        instance: the process.
    """
    return NodeState(node=config.node, role=role, state=state, instance=instance, host=HOST)


class Presence:
    """A node's retained ``state`` and ``info``.

    Args:
        config: the node.
        role: its role.
        metrics_url: where its metrics are.
        conflicts: counts the signs of another process under this node's name; None counts nothing.
        instance: the process.

    Attributes:
        remark: what else is to be known of the node, in words; empty for nothing.
        channels: whose releases it follows.
    """

    def __init__(
        self,
        config: NodeConfig,
        role: str,
        metrics_url: str | None,
        conflicts: Counter | None = None,
        instance: str = INSTANCE,
    ) -> None:
        self.remark = ""
        self.channels: tuple[str, ...] = ()
        self._config = config
        self._role = role
        self._metrics_url = metrics_url
        self._conflicts = conflicts
        self._instance = instance
        self._started = time.time()
        self._topic = config.topics.state(config.node)
        self._rivals = Rivals(instance)
        self._evictions = 0
        self._troubles = TroubleLog(log)

    def watch(self, link: Link) -> None:
        """Subscribes to this node's own state, for ``on_state``."""
        link.subscribe(self._topic, 0)

    def announce(self, link: Link, models: Mapping[str, ModelInfo], activity: str = "") -> None:
        """Publishes birth and info.

        Args:
            link: the broker.
            models: what serves, by pipeline.
            activity: what the node is doing beside its work, in words.
        """
        topics, node = self._config.topics, self._config.node
        self._count(link.evictions - self._evictions)
        self._evictions = link.evictions
        born = state_of(self._config, self._role, "online", self._instance)
        link.publish(self._topic, to_json(born), retain=True)
        info = NodeInfo(
            node=node,
            role=self._role,
            site=self._config.site,
            software=shared.__version__,
            started=self._started,
            models=dict(models),
            metrics_url=self._metrics_url,
            activity="; ".join(filter(None, (activity, self.remark))),
            hardware=self._config.hardware or platform.machine(),
            channels=self.channels,
        )
        link.publish(topics.info(node), to_json(info), retain=True)

    def on_state(self, link: Link, message: Message, now_s: float) -> bool:
        """Takes a message on this node's own state; returns False if it is another.

        Args:
            link: whence it came.
            message: it.
            now_s: monotonic.
        """
        if message.topic != self._topic:
            return False
        try:
            state = from_json(message.payload, NodeState)
        except PayloadError:
            return True  # cleared, or by somebody who is no node
        if self._rivals.see(
            state,
            retained=message.retain,
            session=message.session,
            after_outage=link.after_outage,
            now_s=now_s,
        ):
            self._count(1)
            link.contested()
            self._troubles.say(logging.ERROR, self._complaint(link, state), now_s)
        return True

    def farewell(self, link: Link) -> None:
        """Publishes that the node leaves on purpose."""
        gone = state_of(self._config, self._role, "offline", self._instance)
        link.publish(self._topic, to_json(gone), retain=True)

    def _count(self, signs: int) -> None:
        if signs and self._conflicts is not None:
            self._conflicts.inc(signs)

    def _complaint(self, link: Link, rival: NodeState) -> str:
        return (
            f"another process runs as node {self._config.node}, with our client id "
            f"{link.client_id}: instance {rival.instance} on host {rival.host}; this one is "
            f"{self._instance} on {HOST}. They evict each other. Fix: give each node its own "
            "`node:`, and end the process that is too many"
        )
