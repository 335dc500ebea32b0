"""What a run showed, in figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from escalon.demo.observer import Observer, Seen
from escalon.demo.sensors import PHASES
from shared.messages import UpdateReport
from shared.model import Model
from shared.npz import read_npz
from shared.scores import Floats


class Alternative(msgspec.Struct, frozen=True):
    """What the cascade would have done on the same samples with the release before."""

    accuracy: float
    escalation_rate: float


class PhaseReport(msgspec.Struct, frozen=True):
    """One phase. Shares are 0 to 1, None where there is nothing to divide by.

    Attributes:
        samples: what the sensors published and the broker acknowledged.
        predictions: final predictions for them; corrections do not count.
        lost: samples without any.
        duplicates: predictions beyond the first of a sample.
        accuracy: of the final answers.
        tier1_accuracy: what tier-1's model alone would have scored on the same samples: the one
            that served in the phase; in ``rollout``, where both served, the old one.
        tier2_accuracy: the same of tier-2's model.
        escalation_rate: share of answers that tier-1 was not sure of and asked for.
        audit_rate: share of answers that it was sure of, and tier-2 looked at too.
        fallback_rate: share of answers that it gave itself because the deadline passed.
        p50_ms: median from the sensor's timestamp to the prediction's arrival.
        p99_ms: 99 % of the predictions came within it.
        bytes_sensor: payload bytes from the sensors.
        bytes_escalation: payload bytes from tier-1 to tier-2.
        bytes_uplink: payload bytes from the site to the cloud.
        without_release: only in ``after``.
    """

    samples: int
    predictions: int
    lost: int
    duplicates: int
    accuracy: float | None
    tier1_accuracy: float | None
    tier2_accuracy: float | None
    escalation_rate: float | None
    audit_rate: float | None
    fallback_rate: float | None
    p50_ms: float | None
    p99_ms: float | None
    bytes_sensor: int
    bytes_escalation: int
    bytes_uplink: int
    without_release: Alternative | None = None


class NodeRelease(msgspec.Struct, frozen=True):
    """How a node came to the new version: the states it went through, seconds in each."""

    node: str
    version: str
    state: str
    seconds: float
    states: list[dict[str, float | str]]


class ReleaseReport(msgspec.Struct, frozen=True):
    """The new release of tier-1's model.

    Attributes:
        old_version: what served before.
        new_version: what serves after.
        nodes: each tier-1 node's way.
        int8_bytes: size of the new artefact.
        fp32_bytes: size before quantization.
        int8_accuracy: of the new artefact alone, on the scans of ``after``.
        fp32_accuracy: the same before quantization.
        certificate: what is promised of the new threshold, and on what evidence.
        threshold: tier-1 accepts from this confidence on.
    """

    old_version: str
    new_version: str
    nodes: list[NodeRelease]
    int8_bytes: int
    fp32_bytes: int
    int8_accuracy: float
    fp32_accuracy: float
    certificate: dict[str, Any] | None
    threshold: float


class FirstModels(msgspec.Struct, frozen=True):
    """The models that the run began with, as ``ReleaseReport`` has the new one."""

    tier1_int8_bytes: int
    tier1_fp32_bytes: int
    tier1_int8_accuracy: float
    tier1_fp32_accuracy: float
    tier2_bytes: int


class DemoReport(msgspec.Struct, frozen=True):
    """A whole run.

    Attributes:
        unacknowledged: samples that the sensors sent and the broker never acknowledged.
    """

    phases: dict[str, PhaseReport]
    release: ReleaseReport
    first_models: FirstModels
    broker: str
    seed: int
    seconds_total: float
    corrections: int
    unacknowledged: int


@dataclass(frozen=True)
class Sent:
    """The sensors' own ledger of a phase.

    Attributes:
        ids: N sample ids.
        digits: int64 [N], the truth.
        pixels: float32 [N, 64], as published.
    """

    ids: Sequence[str]
    digits: NDArray[np.int64]
    pixels: Floats


@dataclass(frozen=True)
class Models:
    """The models of a run, to ask what each alone would have said."""

    old: Model
    new: Model
    tier2: Model


def read_ledger(path: Path) -> dict[str, Sent]:
    """Returns what the sensors sent, by phase."""
    data = read_npz(path, "ids", "phases", "digits", "pixels")
    phases = data["phases"]
    return {
        phase: Sent(
            data["ids"][phases == phase].tolist(),
            data["digits"][phases == phase],
            data["pixels"][phases == phase],
        )
        for phase in PHASES
    }


def read_unacknowledged(path: Path) -> int:
    """Returns how many samples the broker did not acknowledge to the sensors."""
    return int(read_npz(path, "unacknowledged")["unacknowledged"])


def phase_report(name: str, sent: Sent, observer: Observer, models: Models) -> PhaseReport:
    """Returns the figures of one phase.

    Args:
        name: the phase.
        sent: what the sensors sent in it.
        observer: what came of it.
        models: of the run.
    """
    answers = [observer.answers.get(identity, []) for identity in sent.ids]
    firsts = [seen[0] for seen in answers if seen]
    truth = [str(digit) for digit in sent.digits]
    right = [
        seen[0].prediction.prediction == digit
        for seen, digit in zip(answers, truth, strict=True)
        if seen
    ]
    latencies = [seen.latency_ms for seen in firsts]
    counted = observer.bytes[name]
    return PhaseReport(
        samples=len(sent.ids),
        predictions=sum(map(len, answers)),
        lost=sum(not seen for seen in answers),
        duplicates=sum(len(seen) - 1 for seen in answers if seen),
        accuracy=_share(right),
        tier1_accuracy=_accuracy(models.new if name == "after" else models.old, sent),
        tier2_accuracy=_accuracy(models.tier2, sent),
        escalation_rate=_share([_was_asked(seen) for seen in firsts]),
        audit_rate=_share([seen.prediction.reason == "audit" for seen in firsts]),
        fallback_rate=_share([seen.prediction.decided_by == "fallback" for seen in firsts]),
        p50_ms=_quantile(latencies, 0.5),
        p99_ms=_quantile(latencies, 0.99),
        bytes_sensor=counted["sensor"],
        bytes_escalation=counted["escalation"],
        bytes_uplink=counted["uplink"],
        without_release=_without_release(sent, models) if name == "after" else None,
    )


def node_releases(
    updates: Mapping[tuple[str, str], UpdateReport], channel: str
) -> list[NodeRelease]:
    """Returns how each node came to a channel's release, by node."""
    return [
        NodeRelease(
            report.node,
            report.version,
            report.state,
            round(sum(step.seconds for step in report.steps), 3),
            [{"state": step.state, "seconds": step.seconds} for step in report.steps],
        )
        for (_, its_channel), report in sorted(updates.items())
        if its_channel == channel
    ]


def accuracy(model: Model, sent: Sent) -> float:
    """Returns a model's share of right answers to what was sent; 0 if nothing was."""
    return _accuracy(model, sent) or 0.0


def _was_asked(seen: Seen) -> bool:
    return seen.prediction.decided_by != "tier1"


def _without_release(sent: Sent, models: Models) -> Alternative | None:
    if not len(sent.ids):
        return None
    own, full = models.old.probabilities(sent.pixels), models.tier2.probabilities(sent.pixels)
    asked = own.max(axis=1) < models.old.spec.calibration.threshold
    answers = np.where(asked, full.argmax(axis=1), own.argmax(axis=1))
    return Alternative(float((answers == sent.digits).mean()), float(asked.mean()))


def _accuracy(model: Model, sent: Sent) -> float | None:
    if not len(sent.ids):
        return None
    return float((model.scores(sent.pixels).argmax(axis=1) == sent.digits).mean())


def _share(flags: Sequence[bool]) -> float | None:
    return float(np.mean(flags)) if flags else None


def _quantile(values: Sequence[float], quantile: float) -> float | None:
    return float(np.quantile(values, quantile)) if values else None
