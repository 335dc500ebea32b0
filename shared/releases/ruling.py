"""What a node does about a manifest that was rightly signed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.errors import ManifestError
from shared.releases.machine import AFTER_THE_SWAP, Event, State
from shared.releases.manifest import Manifest, Void
from shared.releases.record import ChannelRecord
from shared.releases.release import Release
from shared.releases.rollout import takes_part
from shared.releases.trust import Trust


@dataclass(frozen=True)
class Host:
    """What a release must fit.

    Attributes:
        site: the node's site.
        node: its name.
        channel: that it follows.
        pipeline: that the channel's releases serve.
        input_shape: of one sample of that pipeline.
        max_artifact_bytes: no larger file is taken.
        runtime: version of ONNX Runtime, as ``1.22.0``.
        memory_bytes: free here; None where that cannot be told.
    """

    site: str
    node: str
    channel: str
    pipeline: str
    input_shape: tuple[int, ...]
    max_artifact_bytes: int
    runtime: str
    memory_bytes: int | None


@dataclass(frozen=True)
class Ruling:
    """What is to be done about a manifest.

    Attributes:
        act: ``ignore`` it; ``hold``: it comes again once the probation is over; ``note`` its number
            and no more; ``confirm``: what runs already is what it wants; ``adopt``: what is under
            way is what it wants; ``offer`` its release.
        ends: what it does to the update under way, with the reason; None for nothing.
        refusal: why the release that is offered is not for this node; empty if it is.
        marks: whether it changes what is known of the certificates of the active release: they are
            void from now on, or no longer.
    """

    act: Literal["ignore", "hold", "note", "confirm", "adopt", "offer"]
    ends: tuple[Event, str] | None = None
    refusal: str = ""
    marks: bool = False


def check_order(manifest: Manifest, trust: Trust, record: ChannelRecord, channel: str) -> None:
    """Refuses what is replayed, or made for something else.

    Args:
        manifest: rightly signed.
        trust: whose keys signed it.
        record: what was accepted before.
        channel: the one that is followed.

    Raises:
        ManifestError: of another channel or key epoch, or older than what was accepted.
    """
    if manifest.channel != channel:
        raise ManifestError(f"it is for channel {manifest.channel}, this is channel {channel}")
    check_epoch(manifest, trust)
    if manifest.order < record.order:
        raise ManifestError(
            f"seq {manifest.seq} of epoch {manifest.key_epoch} is older than "
            f"seq {record.seq} of epoch {record.key_epoch}, which was accepted before"
        )


def check_epoch(manifest: Manifest, trust: Trust) -> None:
    """Refuses what is of another key epoch than the trust document in force.

    Raises:
        ManifestError: it is.
    """
    if manifest.key_epoch != trust.key_epoch:
        raise ManifestError(
            f"it is of key epoch {manifest.key_epoch}, in force is epoch {trust.key_epoch}. "
            "Fix: publish it anew with the present keys"
        )


def rule(
    manifest: Manifest,
    record: ChannelRecord,
    under_way: Release | None,
    active: Release | None,
    host: Host,
    *,
    serves: bool,
    now_s: float,
    void: Void | None = None,
) -> Ruling:
    """Decides on a manifest that ``check_order`` let pass.

    Args:
        manifest: the manifest.
        record: what was accepted before, and where the update is.
        under_way: the release of that update, or None.
        active: the committed release, or None.
        host: this node.
        serves: whether any model serves here. A node without one takes part in every wave: it has
            nothing to lose.
        now_s: seconds since 1970, as ``clock.not_before`` gives it.
        void: what was said last of the certificates of the active release.
    """
    is_known = manifest.order == record.order
    refusal = unfit(manifest, record, host, now_s)
    is_settled = under_way is not None or manifest.state == "halted"
    if is_known and (is_settled or not _may_come_again(record, refusal)):
        return Ruling("ignore")
    is_swapped = under_way is not None and record.state in AFTER_THE_SWAP
    is_active = active is not None and manifest.release == active
    marks = is_active and manifest.void != void
    if manifest.state == "halted":
        # What serves already goes on to its end: its probation says more than a halt does.
        reason = f"seq {manifest.seq} halts it"
        ends = None if is_swapped else _ending(record, under_way, reason)
        return Ruling("note", ends, marks=marks)
    if manifest.release == under_way:
        return Ruling("adopt")
    if is_active:
        return _keep(manifest, record, under_way, marks=marks)
    is_asked = takes_part(manifest.rollout, host.site, host.node) or not serves
    if not is_asked or is_swapped:
        return Ruling("hold" if is_asked else "ignore" if is_known else "note")
    ends = _ending(record, under_way, f"seq {manifest.seq} is newer")
    return Ruling("offer", ends, refusal)


def _keep(
    manifest: Manifest, record: ChannelRecord, under_way: Release | None, *, marks: bool
) -> Ruling:
    """Decides on a manifest of the active release; what only marks it is no update to report."""
    if marks and under_way is None and _has_reported(record, manifest):
        return Ruling("note", marks=True)
    reason = f"seq {manifest.seq} keeps version {manifest.release.version}"
    return Ruling("confirm", _ending(record, under_way, reason), marks=marks)


def _has_reported(record: ChannelRecord, manifest: Manifest) -> bool:
    """Whether the last report says that the release of a manifest runs, in the same rollout."""
    report = record.report
    return (
        record.state is State.COMMITTED
        and report is not None
        and (report.version, report.rollout) == (manifest.release.version, manifest.rollout.id)
    )


def _may_come_again(record: ChannelRecord, refusal: str) -> bool:
    """Whether the newest manifest is worth another look, though it is known.

    What was rejected for the sake of this node (its clock, its free memory, its software) is taken
    once nothing speaks against it any more.
    """
    return record.retry or (record.state is State.REJECTED and not refusal)


def unfit(manifest: Manifest, record: ChannelRecord, host: Host, now_s: float) -> str:
    """Returns why a release is not for this node; empty if it is."""
    release, free_bytes = manifest.release, host.memory_bytes
    failed = [each for each in release.digests if record.knows(each, manifest.retry_epoch)]
    largest_bytes = max(artefact.size for artefact in release.artefacts)
    checks = {
        "it has expired": manifest.expires > now_s,
        f"it is made for pipeline {release.pipeline}, this is pipeline "
        f"{host.pipeline}": release.pipeline == host.pipeline,
        f"it takes inputs of shape {_shape(release.input_shape)}, this pipeline has "
        f"{_shape(host.input_shape)}": release.input_shape == host.input_shape,
        f"it needs ONNX Runtime {release.needs.runtime}, this node has {host.runtime}": _version(
            release.needs.runtime
        )
        <= _version(host.runtime),
        f"it needs {release.needs.memory_bytes} bytes of memory, {free_bytes} are free": free_bytes
        is None
        or release.needs.memory_bytes <= free_bytes,
        f"{largest_bytes} bytes are more than this node takes": largest_bytes
        <= host.max_artifact_bytes,
        f"{', '.join(failed)} has failed on this node before. Fix: raise retry_epoch to have it "
        "tried again": not failed,
    }
    return next((problem for problem, holds in checks.items() if not holds), "")


def _ending(
    record: ChannelRecord, under_way: Release | None, reason: str
) -> tuple[Event, str] | None:
    if under_way is None:
        return None
    return (Event.FAIL if record.state in AFTER_THE_SWAP else Event.SUPERSEDE, reason)


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _version(text: str) -> tuple[int, ...]:
    """Returns the leading numbers of a version."""
    numbers = []
    for part in text.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
