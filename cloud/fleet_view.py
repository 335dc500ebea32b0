"""The fleet as its nodes describe themselves: their births, infos and reports, put together."""

from __future__ import annotations

import logging
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
MAX_VIEW_BYTES = 32 * 2**20
MAX_NEWS_BYTES = 64 * 2**10
MAX_CHANNELS = 64
MAX_TEXT = 200
GATEWAY = "tier2"
YEAR_9999_S = 253_402_300_799.0
UNHEARD_S = 300.0
"""How long a node stays that the broker did not name: it may have forgotten everybody, and gateways
take a while to come back and name theirs."""
STATES = frozenset(state.value for state in State)

News = TypeVar("News", NodeState, NodeInfo, UpdateReport)

log = logging.getLogger(__name__)


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

    Bounded: what is beyond the bounds, and texts that are too long, are left out.

    Args:
        prefix: first level of every topic.
        max_nodes: so many nodes at most.
        max_bytes: so much at most of all of them together, in the form of ``fleet.json``.

    Attributes:
        changes: how often it has changed.
    """

    def __init__(
        self, prefix: str, max_nodes: int = MAX_NODES, max_bytes: int = MAX_VIEW_BYTES
    ) -> None:
        self.changes = 0
        self._prefix = prefix
        self._max_nodes = max_nodes
        self._max_bytes = max_bytes
        self._nodes: dict[str, NodeEntry] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._unheard: set[str] = set()
        self._forgets_s: float | None = None
        self._sorted: tuple[NodeEntry, ...] | None = None

    def seed(self, nodes: Iterable[NodeEntry]) -> None:
        """Begins with nodes that were known before; none counts as online until it says so."""
        for node in nodes:
            try:
                self._put(msgspec.structs.replace(node, online=False))
            except PayloadError as error:
                log.error("of the fleet that was known before: %s", error)
                break
        self._unheard = set(self._nodes)
        self._forgets_s = None

    def hear_anew(self) -> None:
        """A broker begins to tell all that it retains: what is known is of before."""
        self.seed(self.nodes())

    def forget_unheard(self, monotonic_s: float) -> None:
        """Lets go of nodes that the broker does not name; to be called once it has told all.

        Args:
            monotonic_s: when; those that nobody has named ``UNHEARD_S`` after the first call go.
        """
        if not self._unheard:
            return
        if self._forgets_s is None:
            self._forgets_s = monotonic_s + UNHEARD_S
        elif monotonic_s >= self._forgets_s:
            log.info("%d nodes are no longer named by the broker: gone", len(self._unheard))
            for name in self._unheard:
                self._drop(name)
            self._unheard.clear()

    def take(self, topic: str, payload: bytes) -> bool:
        """Takes a piece of news; returns whether it is one.

        Raises:
            PayloadError: it is one, and cannot be used: ``bad_news`` or ``fleet_full``.
        """
        site = site_of(topic)
        if site is None or not Topics(self._prefix, site).is_news(topic):
            return False
        _, _, _, node, kind, *rest = topic.split("/")
        if len(payload) > MAX_NEWS_BYTES:
            raise PayloadError("bad_news", f"{len(payload)} bytes are more than news may have")
        name, blank = qualified(site, node), NodeEntry(site=site, node=node)
        # The broker tells all of a node that it names; what it does not tell was cleared.
        before = blank if name in self._unheard else self._nodes.get(name, blank)
        if kind == "state":
            self._put(_with_state(before, payload))
        elif kind == "info":
            self._put(_with_info(before, payload))
        else:
            self._put(_with_update(before, rest[0], payload))
        self._unheard.discard(name)
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
            self._drop(name)
            return
        if self._nodes.get(name) == node:
            return
        size = _size(node)
        self._check_room(name, size)
        self._bytes += size - self._sizes.get(name, 0)
        self._nodes[name], self._sizes[name] = node, size
        self._note_change()

    def _check_room(self, name: str, size_bytes: int) -> None:
        before_bytes = self._sizes.get(name, 0)
        if not before_bytes and len(self._nodes) >= self._max_nodes:
            raise PayloadError("fleet_full", f"{name} is one node more than {self._max_nodes}")
        if self._bytes - before_bytes + size_bytes > self._max_bytes:
            raise PayloadError(
                "fleet_full", f"this of {name} is more than the {self._max_bytes} bytes of a fleet"
            )

    def _drop(self, name: str) -> None:
        if self._nodes.pop(name, None) is not None:
            self._bytes -= self._sizes.pop(name)
            self._note_change()

    def _note_change(self) -> None:
        self.changes += 1
        self._sorted = None


def _size(node: NodeEntry) -> int:
    """Returns what a node takes, alike whether it is online: that is heard however full it is."""
    return len(msgspec.json.encode(msgspec.structs.replace(node, online=False)))


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
