"""The fleet as its nodes describe themselves: their births, infos and reports, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from cloud.rollout.fleet import FleetNode, NodeReport
from shared.errors import PayloadError
from shared.messages import SCHEMA_VERSION, NodeInfo, NodeState, Public, UpdateReport, from_json
from shared.releases.machine import State
from shared.releases.rollout import qualified
from shared.topics import Topics, site_of

MAX_NODES = 20_000
MAX_NEWS_BYTES = 64 * 2**10
MAX_CHANNELS = 64
MAX_TEXT = 200
GATEWAY = "tier2"
YEAR_9999_S = 253_402_300_799.0
STATES = frozenset(state.value for state in State)

News = TypeVar("News", NodeState, NodeInfo, UpdateReport)


class NodeUpdate(Public, frozen=True):
    """What a node said last of an update on a channel.

    Attributes:
        state: where it is, or how it ended.
        version: of the release.
        reason: why, in the node's words.
        since: when that began by the node's clock, seconds since 1970.
        rollout: id of the rollout; empty for none.
        seq: of the manifest.
        key_epoch: of the manifest.
    """

    state: State
    version: str
    reason: str
    since: float
    rollout: str
    seq: int
    key_epoch: int = 1


class NodeEntry(Public, frozen=True):
    """A node.

    Attributes:
        site: its site.
        node: its name there.
        role: its role.
        online: whether it is there.
        hardware: its hardware class.
        channels: that it follows.
        runs: the version that serves, by channel.
        updates: what it said last, by channel.
    """

    site: str
    node: str
    role: str = ""
    online: bool = False
    hardware: str = ""
    channels: tuple[str, ...] = ()
    runs: dict[str, str] = msgspec.field(default_factory=dict)
    updates: dict[str, NodeUpdate] = msgspec.field(default_factory=dict)

    def follows(self, channel: str) -> bool:
        """Whether it takes releases of a channel."""
        return channel in self.channels or channel in self.updates


class FleetSnapshot(Public, frozen=True):
    """The fleet at an instant.

    Attributes:
        taken: when, seconds since 1970.
        nodes: all of it.
    """

    taken: float
    nodes: tuple[NodeEntry, ...]
    schema_version: int = SCHEMA_VERSION


class FleetView:
    """What the cloud's broker retains of nodes, kept up to date.

    Bounded: nodes beyond the bound, and texts that are too long, are left out.

    Args:
        prefix: first level of every topic.
        max_nodes: so many nodes at most.

    Attributes:
        changes: how often it has changed.
    """

    def __init__(self, prefix: str, max_nodes: int = MAX_NODES) -> None:
        self.changes = 0
        self._prefix = prefix
        self._max_nodes = max_nodes
        self._nodes: dict[str, NodeEntry] = {}
        self._sorted: tuple[NodeEntry, ...] | None = None

    def seed(self, nodes: Iterable[NodeEntry]) -> None:
        """Begins with nodes that were known before; none counts as online until it says so."""
        for node in nodes:
            self._put(msgspec.structs.replace(node, online=False))

    def take(self, topic: str, payload: bytes) -> bool:
        """Takes a piece of news; returns whether it is one.

        Raises:
            PayloadError: it is one, and cannot be used: ``bad_news`` or ``fleet_full``.
        """
        site = site_of(topic)
        if site is None or not Topics(self._prefix, site).is_news(topic):
            return False
        _, _, _, node, kind, *rest = topic.split("/")
        before = self._nodes.get(qualified(site, node)) or NodeEntry(site=site, node=node)
        if len(payload) > MAX_NEWS_BYTES:
            raise PayloadError("bad_news", f"{len(payload)} bytes are more than news may have")
        if kind == "state":
            self._put(_with_state(before, payload))
        elif kind == "info":
            self._put(_with_info(before, payload))
        else:
            self._put(_with_update(before, rest[0], payload))
        return True

    def nodes(self) -> tuple[NodeEntry, ...]:
        """Returns all nodes, by name."""
        if self._sorted is None:
            self._sorted = tuple(node for _, node in sorted(self._nodes.items()))
        return self._sorted

    def fleet(self, channel: str) -> list[FleetNode]:
        """Returns the nodes that follow a channel, by name."""
        return fleet_of(self.nodes(), channel)

    def _put(self, node: NodeEntry) -> None:
        name = qualified(node.site, node.node)
        if node == NodeEntry(site=node.site, node=node.node):
            # Everything that was retained of it is cleared: it is gone for good.
            if self._nodes.pop(name, None) is not None:
                self._note_change()
            return
        if name not in self._nodes and len(self._nodes) >= self._max_nodes:
            raise PayloadError("fleet_full", f"{name} is one node more than {self._max_nodes}")
        if self._nodes.get(name) != node:
            self._nodes[name] = node
            self._note_change()

    def _note_change(self) -> None:
        self.changes += 1
        self._sorted = None


def fleet_of(nodes: Iterable[NodeEntry], channel: str) -> list[FleetNode]:
    """Returns the nodes that follow a channel, as a rollout sees them.

    Of a site whose uplink is dead, the cloud's broker knows only that its gateway vanished: what
    its other nodes said last stays retained. None of them is online then.
    """
    nodes = list(nodes)
    gateways = [node for node in nodes if node.role == GATEWAY]
    cut_off = {node.site for node in gateways} - {node.site for node in gateways if node.online}
    return [
        FleetNode(
            node.site,
            node.node,
            node.hardware,
            node.online and node.site not in cut_off,
            _report(node.updates.get(channel)),
        )
        for node in nodes
        if node.follows(channel)
    ]


def _report(update: NodeUpdate | None) -> NodeReport | None:
    if update is None:
        return None
    order = update.key_epoch, update.seq
    return NodeReport(update.rollout, update.state, update.reason, update.since, order)


def _with_state(node: NodeEntry, payload: bytes) -> NodeEntry:
    if not payload:
        return msgspec.structs.replace(node, online=False)
    state = _read(payload, NodeState, node.node)
    return msgspec.structs.replace(node, online=state.state == "online", role=state.role[:MAX_TEXT])


def _with_info(node: NodeEntry, payload: bytes) -> NodeEntry:
    if not payload:
        return msgspec.structs.replace(node, role="", hardware="", channels=(), runs={})
    info = _read(payload, NodeInfo, node.node)
    models = list(info.models.values())[:MAX_CHANNELS]
    return msgspec.structs.replace(
        node,
        role=info.role[:MAX_TEXT],
        hardware=_shown(info.hardware),
        channels=tuple(each[:MAX_TEXT] for each in info.channels[:MAX_CHANNELS]),
        runs={model.model[:MAX_TEXT]: model.version[:MAX_TEXT] for model in models},
    )


def _with_update(node: NodeEntry, channel: str, payload: bytes) -> NodeEntry:
    updates = dict(node.updates)
    if not payload:
        updates.pop(channel, None)
        return msgspec.structs.replace(node, updates=updates)
    report = _read(payload, UpdateReport, node.node)
    if report.state not in STATES or report.channel != channel:
        raise PayloadError("bad_news", f"{report.state[:40]!r} on {report.channel[:80]!r}")
    if channel not in updates and len(updates) >= MAX_CHANNELS:
        raise PayloadError("bad_news", f"more than {MAX_CHANNELS} channels on one node")
    updates[channel] = NodeUpdate(
        state=State(report.state),
        version=_shown(report.version),
        reason=_shown(report.reason),
        since=min(max(report.since, 0.0), YEAR_9999_S),
        rollout=_shown(report.rollout),
        seq=report.seq,
        key_epoch=report.key_epoch,
    )
    return msgspec.structs.replace(node, updates=updates)


def _shown(text: str) -> str:
    """Returns what may be shown of a node's text: one line, and nothing that a terminal obeys."""
    return "".join(each if each.isprintable() else "?" for each in text[:MAX_TEXT])


def _read(payload: bytes, kind: type[News], node: str) -> News:
    message: News = from_json(payload, kind)
    if message.node != node:
        raise PayloadError("bad_news", f"node {message.node[:80]!r} speaks in the name of {node}")
    return message
