"""Real nodes under traffic: models that come, go back and kill, and no sample that notices."""

from __future__ import annotations

import itertools
import json
import math
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from shared.model_spec import Calibration
from tests.integration.hierarchy import (
    SITE,
    Hierarchy,
    Json,
    Node,
    Observer,
    eventually,
    publish_release,
    samples_topic,
    update_topic,
)
from tests.integration.models import (
    LABELS,
    NEW_TURN,
    THRESHOLD,
    TIER1_TURN,
    TIER2_TURN,
    SignedRelease,
    label,
    sure,
    weights,
)

CHANNEL = "meter-tier1"
MARGINS = (1.5, 2.5, 3.5, 9.0)
"""By how much the largest logit leads; the thresholds of the versions lie between them."""
MOST_SAMPLES = 50_000
X86 = ("x86_64", "AMD64", "i686")


@dataclass(frozen=True)
class Version:
    """What belongs together: the answers of a version, their names and its threshold."""

    turn: int
    labels: tuple[str, ...]
    threshold: float

    def label(self, direction: int) -> str:
        return self.labels[(direction + self.turn) % 3]

    def accepts(self, margin: float) -> bool:
        return confidence(margin) >= self.threshold


def confidence(margin: float) -> float:
    """Returns the softmax of the largest of three logits: it leads by ``margin``."""
    return math.exp(margin) / (math.exp(margin) + 2)


@dataclass
class Traffic:
    """Samples whose answers are known for each version.

    Attributes:
        sent: direction and margin by id.
    """

    observer: Observer
    sent: dict[str, tuple[int, float]] = field(default_factory=dict)

    def send(self) -> None:
        """Sends a sample of each kind at once."""
        assert len(self.sent) < MOST_SAMPLES, "the update does not come to its end"
        messages = []
        for direction, margin in itertools.product(range(3), MARGINS):
            identity = self.observer.new_id()
            self.sent[identity] = direction, margin
            features = [margin if each == direction else 0.0 for each in range(4)]
            payload = json.dumps({"id": identity, "features": features}).encode()
            messages.append((samples_topic("cam-7"), payload))
        self.observer.publish_many(messages)

    def answers(self) -> list[Json]:
        """Waits for all answers; returns them in order."""
        self.observer.all_predicted(list(self.sent))
        return [each for each in self.observer.predictions() if each["id"] in self.sent]


@dataclass(frozen=True)
class Site:
    """A broker and tier-1 with a model from a file; nobody answers what it asks."""

    hierarchy: Hierarchy
    observer: Observer
    tier1: Node

    def state(self, release: SignedRelease) -> str:
        report = self.observer.latest(update_topic("edge-1", CHANNEL))
        is_its = report is not None and report["seq"] == release.manifest.seq
        return str(report["state"]) if report is not None and is_its else ""

    def reason(self) -> str:
        report = self.observer.latest(update_topic("edge-1", CHANNEL))
        assert report is not None
        return str(report["reason"])


@pytest.fixture
def site(require_mosquitto: None, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        hierarchy = stack.enter_context(Hierarchy(tmp_path, "mosquitto"))
        unhurried = {"latency_slack_ms": 60_000}  # a noisy machine is none of the models' faults
        releases = hierarchy.releases(CHANNEL, probation_s=1, probation=unhurried)
        pipeline = hierarchy.tier1_pipeline(
            releases=releases, escalation={"deadline_ms": 100, "audit_share": 0}
        )
        tier1 = hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
        yield Site(hierarchy, stack.enter_context(hierarchy.observer()), tier1)


def test_no_sample_is_lost_or_answered_by_half_of_two_versions_as_models_come_and_go_back(
    site: Site,
) -> None:
    versions = {
        "local-1": Version(TIER1_TURN, LABELS, THRESHOLD),
        "v1": Version(NEW_TURN, (LABELS[1], LABELS[0], LABELS[2]), 0.6),
        "v2": Version(TIER2_TURN, (LABELS[2], LABELS[1], LABELS[0]), 0.9),
    }

    def released(seq: int) -> SignedRelease:
        version = versions[f"v{seq}"]
        calibration = Calibration(1.0, version.threshold)
        return site.hierarchy.key.release(
            CHANNEL,
            seq,
            version.turn,
            labels=version.labels,
            of_variant={"calibration": calibration},
        )

    traffic, good, bad = Traffic(site.observer), released(1), released(2)
    traffic.send()
    publish_release(site.observer, good, SITE)
    while site.state(good) != "COMMITTED":
        assert site.state(good) != "ROLLED_BACK", site.reason()
        traffic.send()
    publish_release(site.observer, bad, SITE)
    while site.state(bad) != "ROLLED_BACK":
        traffic.send()
    traffic.send()
    answers = traffic.answers()

    assert Counter(each["id"] for each in answers) == Counter(traffic.sent.keys())
    for answer in answers:
        (direction, margin), version = traffic.sent[answer["id"]], versions[answer["model_version"]]
        told = (answer["prediction"], answer["decided_by"] == "tier1")
        assert told == (version.label(direction), version.accepts(margin)), answer
        assert answer["confidence"] == pytest.approx(confidence(margin), abs=1e-4)
    in_time = [each["model_version"] for each in answers if each["decided_by"] == "tier1"]
    assert [version for version, _ in itertools.groupby(in_time)] == ["local-1", "v1", "v2", "v1"]
    assert site.reason().startswith("escalation rate")


DEADLY = [9.0, 0.0, 0.0, 5.0]
"""A valid sample at which a deadly model divides the least integer by -1: a signal on x86."""


def deadly_model(turn: int) -> bytes:
    """Returns a model that answers as others do, and at feature 3 = 5 ends its process."""
    last = np.array([[0], [0], [0], [1]], np.float32)
    constants = {
        "w": weights(turn), "v": last, "six": np.array([6], np.int32),
        "least": np.array([-(2**31)], np.int32), "nothing": np.zeros(1, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["turned"]),
        helper.make_node("MatMul", ["features", "v"], ["last"]),
        helper.make_node("Cast", ["last"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Sub", ["whole", "six"], ["divisor"]),
        helper.make_node("Div", ["least", "divisor"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "nothing"], ["zero"]),
        helper.make_node("Add", ["turned", "zero"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "deadly",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.skipif(platform.machine() not in X86, reason="only x86 traps at this division")
def test_a_model_that_kills_the_node_in_service_kills_it_once_and_no_sample_is_lost(
    site: Site,
) -> None:
    deadly = site.hierarchy.key.release(CHANNEL, 1, NEW_TURN, artefact=deadly_model(NEW_TURN))
    publish_release(site.observer, deadly, SITE)
    site.observer.until(lambda: site.state(deadly) == "PROBATION", "the probation")
    harmless = site.observer.ask(sure(0))
    assert (harmless["prediction"], harmless["model_version"]) == (label(0, NEW_TURN), "v1")
    fatal = site.observer.send(DEADLY)
    eventually(lambda: not site.tier1.alive, "the end of the node")

    for _ in range(2):
        site.hierarchy.restart(site.tier1)
        answer = site.observer.prediction(fatal)  # the broker has kept it
        assert (answer["prediction"], answer["model_version"]) == (label(0, TIER1_TURN), "local-1")
        assert site.observer.ask(DEADLY)["model_version"] == "local-1"
        assert site.state(deadly) == "ROLLED_BACK"
        assert site.reason() == "the node died while it was new"
        site.tier1.kill()
    site.hierarchy.restart(site.tier1)
    again = site.hierarchy.key.release(CHANNEL, 2, NEW_TURN, artefact=deadly.artefact)
    publish_release(site.observer, again, SITE)
    site.observer.until(lambda: site.state(again) == "REJECTED", "the rejection")
    assert "has failed on this node before" in site.reason()
    assert len(site.observer.answers(fatal)) == 1
    assert site.tier1.alive
