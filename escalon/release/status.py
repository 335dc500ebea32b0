"""How a channel's rollout stands, node by node. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from cloud.fleet_view import NodeEntry, fleet_of
from cloud.rollout.phases import Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import NodeCourse, RolloutRecord
from cloud.rollout.sight import as_watched
from cloud.rollout.step import step
from cloud.rollout.succession import standing
from escalon.release.arrival import arrival
from escalon.release.cloud_signs import CloudSigns
from escalon.release.versions import MISSING, moment
from escalon.table import table
from shared.messages import Public
from shared.releases.rollout import qualified

UNDER_WAY = (Phase.RUNNING, Phase.PAUSED)
STOPPED = (Phase.HALTED, Phase.ABORTED, Phase.ROLLED_BACK)
EXIT_DONE, EXIT_UNDER_WAY, EXIT_STOPPED = 0, 3, 4


class NodeStatus(Public, frozen=True):
    """A node's line.

    Attributes:
        node: as ``site/node``.
        online: whether it is there.
        state: of its last update on the channel; empty if it never had one.
        since: when that began by its own clock, seconds since 1970; None if it never had one.
        version: that it runs; empty if that is unknown.
        reason: what it said of its state, or why the cloud counts it as it does.
        wave: in which the release was offered to it, from 1; None for not yet.
        outcome: how the rollout ended there; empty while it has not.
    """

    node: str
    online: bool
    state: str
    since: float | None
    version: str
    reason: str
    wave: int | None
    outcome: str


class ChannelStatus(Public, frozen=True, kw_only=True):
    """A channel's rollout.

    Attributes:
        channel: the channel.
        phase: of its rollout; empty if there was never one.
        rollout: its id.
        version: what is rolled out; without a rollout, what the newest manifest names.
        base: what a rollback would bring back; empty for nothing.
        wave: the present one, from 1.
        waves: of the plan.
        share: of all nodes that it is offered to, 0 to 1.
        seq: of the manifest that says so; 0 while it is not published.
        summary: all that in words.
        nodes: all that follow the channel.
        fleet_taken: when the fleet was seen so, seconds since 1970; 0 for never.
        fleet_age: how long ago that is, in seconds, to the minute; None for never.
        cloud_runs: whether a cloud node runs on the folder, on this machine.
        trouble: what keeps the cloud node from going on, as it said last; empty for nothing.
        goes_back: whether the rollout is rolled back and nodes that are online have yet to do so.
        settled: whether it is complete or rolled back, that is published, and every node that is
            online runs what is to stand.
        void: why the certificate of what the fleet is to run is void; empty while it is not.
    """

    channel: str
    phase: str = ""
    rollout: str = ""
    version: str = ""
    base: str = ""
    wave: int = 0
    waves: int = 0
    share: float = 0.0
    seq: int = 0
    summary: str
    nodes: tuple[NodeStatus, ...]
    fleet_taken: float
    fleet_age: int | None
    cloud_runs: bool
    trouble: str
    goes_back: bool = False
    settled: bool = False
    void: str = ""

    @property
    def exit_code(self) -> int:
        """What a script is told: 0, 3 while it is under way, 4 once it was stopped."""
        if self.goes_back or self.phase in [phase.value for phase in UNDER_WAY]:
            return EXIT_UNDER_WAY
        return EXIT_STOPPED if self.phase in [each.value for each in STOPPED] else EXIT_DONE


def status(
    channel: str,
    record: RolloutRecord | None,
    plan: RolloutPlan,
    nodes: Sequence[NodeEntry],
    *,
    published: str,
    cloud: CloudSigns,
    now_s: float,
) -> ChannelStatus:
    """Returns how a channel stands.

    Args:
        channel: the channel.
        record: its rollout; None for none.
        plan: of its rollouts.
        nodes: the whole fleet.
        published: version of the newest manifest; empty for none.
        cloud: what is known of the cloud node.
        now_s: seconds since 1970.
    """
    lines = tuple(_node(node, channel, record) for node in nodes if node.follows(channel))
    seen = ChannelStatus(
        channel=channel,
        nodes=lines,
        summary=f"{channel}: no version yet",
        fleet_taken=cloud.fleet_taken,
        fleet_age=cloud.fleet_age(now_s),
        cloud_runs=cloud.runs,
        trouble=cloud.notice.trouble(channel),
    )
    if record is not None:
        seen = _rolled_out(seen, record, plan, nodes, now_s)
    elif published:
        words = f"{channel}: version {published}, no rollout"
        seen = msgspec.structs.replace(seen, version=published, share=1.0, summary=words)
    summary = _joined(seen.summary, cloud.held_up(channel), cloud.watching(now_s))
    return msgspec.structs.replace(seen, summary=summary)


def _rolled_out(
    seen: ChannelStatus,
    record: RolloutRecord,
    plan: RolloutPlan,
    nodes: Sequence[NodeEntry],
    now_s: float,
) -> ChannelStatus:
    """Returns how a channel stands, with what its rollout says."""
    arrived, lines = arrival(record, nodes), seen.nodes
    is_back = record.phase is Phase.ROLLED_BACK
    is_whole = record.seq > 0 and arrived.is_whole
    return msgspec.structs.replace(
        seen,
        phase=record.phase.value,
        rollout=record.id,
        version=record.version,
        base=record.base,
        wave=plan.number(record.share) + 1,
        waves=len(plan.waves),
        share=record.share,
        seq=record.seq,
        summary=_summary(record, plan, nodes, lines, now_s),
        goes_back=is_back and bool(lines) and not (record.seq and arrived.is_over),
        settled=(is_back or record.phase is Phase.COMPLETED) and is_whole,
        void=_void(record),
    )


def in_words(one: ChannelStatus) -> str:
    """Returns a channel's summary and its table of nodes."""
    return f"{one.summary}\n{nodes_in_words(one)}"


def nodes_in_words(one: ChannelStatus) -> str:
    """Returns the table of a channel's nodes."""
    rows = [
        (
            node.node,
            (node.state or MISSING) + ("" if node.online else " (offline)"),
            MISSING if node.since is None else moment(node.since),
            node.version or MISSING,
            MISSING if node.wave is None else str(node.wave),
            node.reason,
        )
        for node in one.nodes
    ]
    return table(HEADS, rows) if rows else "  no node that follows it is known"


HEADS = ("NODE", "STATE", "SINCE", "VERSION", "WAVE", "REASON")


def exit_code(all_of: Iterable[ChannelStatus]) -> int:
    """Returns the exit code of several channels: the gravest."""
    return max((each.exit_code for each in all_of), default=EXIT_DONE)


def _joined(*words: str) -> str:
    return "; ".join(filter(None, words))


def _node(node: NodeEntry, channel: str, record: RolloutRecord | None) -> NodeStatus:
    name, update = qualified(node.site, node.node), node.updates.get(channel)
    course = record.nodes.get(name) if record is not None else None
    return NodeStatus(
        node=name,
        online=node.online,
        state=update.state.value if update else "",
        since=update.since if update else None,
        version=node.runs.get(channel, ""),
        reason=_reason(update.reason if update else "", course),
        wave=course.wave + 1 if course else None,
        outcome=course.outcome.value if course and course.outcome else "",
    )


def _reason(said: str, course: NodeCourse | None) -> str:
    return said or (course.reason if course else "")


def _void(record: RolloutRecord) -> str:
    void = record.voids.get(standing(record, ""))
    return void.reason if void else ""


def _summary(
    record: RolloutRecord,
    plan: RolloutPlan,
    nodes: Sequence[NodeEntry],
    lines: Sequence[NodeStatus],
    now_s: float,
) -> str:
    watched = as_watched(record, now_s)
    decided = step(watched, plan, fleet_of(nodes, record.channel), now_s)
    words = record.reason if record.phase not in UNDER_WAY else decided.reason
    said = f"{record.channel}: version {record.version} {record.phase.value}: {words}"
    if record.seq == 0 and record.phase not in UNDER_WAY:
        said += "; the cloud node has not published that yet"
    if void := _void(record):
        said += f"; the certificate of version {standing(record, '')} is void: {void}"
    if record.phase is Phase.ROLLED_BACK and record.seq > 0 and lines:
        return f"{said}; {arrival(record, nodes).in_words()}"
    running = Counter(line.version for line in lines if line.version)
    shares = ", ".join(f"{count} run {version}" for version, count in running.most_common(3))
    return f"{said}; of {len(lines)} nodes {shares}" if shares else said
