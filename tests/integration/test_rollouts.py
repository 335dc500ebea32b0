"""Releases that people publish go down a real hierarchy in waves, and are stopped where they harm.

Cloud and site have a Mosquitto each. Tier-2 relays between them, three tier-1 nodes follow.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from escalon.cli import main
from tests.integration.hierarchy import (
    PREFIX,
    SITE,
    Hierarchy,
    Json,
    Node,
    Observer,
    eventually,
    metric,
)
from tests.integration.models import (
    GOLDEN_INPUTS,
    LABELS,
    NAN_MAKING,
    NEW_TURN,
    SHAPE,
    THRESHOLD,
    TIER1_TURN,
    model_bytes,
)

SMALL, FULL = "meter-tier1", "meter-tier2"
NODES = ("edge-1", "edge-2", "edge-3")
DONE, UNDER_WAY, STOPPED = 0, 3, 4


@dataclass
class Fleet:
    """A cloud, a gateway, three nodes, and a person at the command line."""

    hierarchy: Hierarchy
    cloud: Node
    config: Path
    above: Observer
    site: Observer
    numbers: Iterator[int]

    # The person

    def run(self, *arguments: object, code: int = DONE) -> str:
        output, errors = io.StringIO(), io.StringIO()
        command = ["release", *map(str, arguments), "--config", str(self.config)]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            found = main(command)
        assert found == code, f"{command}: {found}: {output.getvalue()}{errors.getvalue()}"
        return output.getvalue()

    def publish(self, turn: int = NEW_TURN, *, fragile: bool = False) -> str:
        """Publishes a model of tier-1; returns its version."""
        version, folder = f"p{next(self.numbers)}", self.hierarchy.folder
        model, golden = folder / f"{version}.onnx", folder / "golden.npz"
        model.write_bytes(model_bytes(turn, fragile=fragile, name=version))
        np.savez(golden, inputs=GOLDEN_INPUTS)
        self.run("publish", model, "--tier", 1, "--golden", golden, "--version", version,
                 "--threshold", THRESHOLD)  # fmt: skip
        return version

    def status(self) -> Json:
        """Reads how tier-1's channel stands, whatever the exit code says."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            main(["release", "status", "--channel", SMALL, "--json", "--config", str(self.config)])
        (found,) = json.loads(output.getvalue())
        return dict(found)

    def until_phase(self, phase: str, version: str) -> Json:
        """Waits until a rollout is in a phase and the broker has its manifest."""

        def found() -> Json | None:
            now = self.status()
            is_there = (now["phase"], now["version"]) == (phase, version) and now["seq"]
            return now if is_there else None

        return eventually(found, f"{version} {phase}; it is {self.status()['summary']}")

    # The fleet

    def reports(self, version: str) -> list[tuple[str, str]]:
        """What nodes have said of a version, in the order in which it came: (node, state)."""
        return [
            (seen.json["node"], seen.json["state"])
            for seen in self.above.seen("/updates/")
            if seen.topic.endswith(SMALL) and seen.json["version"] == version
        ]

    def until_state(self, node: str, version: str, state: str) -> None:
        self.above.until(
            lambda: (node, state) in self.reports(version), f"{state} of {version} on {node}"
        )

    def until_all_run(self, version: str) -> None:
        """Waits until the cloud knows that every node runs a version."""

        def all_run() -> bool:
            return {one["version"] for one in self.status()["nodes"]} == {version}

        eventually(all_run, f"everybody runs {version}")

    def canary(self) -> str:
        """The node that goes first."""
        record = json.loads(
            (self.hierarchy.folder / "cloud" / "rollouts" / f"{SMALL}.json").read_text()
        )
        (name,) = record["canaries"]
        return str(name).removeprefix(f"{SITE}/")

    def phase_shown(self, phase: str) -> float:
        labels: dict[str, Any] = {"channel": SMALL, "phase": phase}
        return metric(self.cloud.metrics_url, "edge_rollout_phase", **labels)


def cloud_config(hierarchy: Hierarchy) -> Json:
    assert hierarchy.cloud_broker is not None
    folder = hierarchy.folder
    return {
        "site": "cloud",
        "broker": {"url": hierarchy.cloud_broker.url},
        "signing_key": str(folder / "release.key"),
        "trust": str(folder / "trust.signed"),
        "chunk_bytes": 1024,
        "pipelines": {
            "meter": {
                "input": {"shape": list(SHAPE)},
                "labels": list(LABELS),
                "tier1_channel": SMALL,
                "tier2_channel": FULL,
                "rollout": {"waves": [{"share": 0, "soak_s": 0}, {"share": 1, "soak_s": 0}]},
            }
        },
    }


def start_cloud(hierarchy: Hierarchy, node: Node) -> None:
    """Starts the cloud, which is at another broker than ``Hierarchy.restart`` looks at."""
    assert hierarchy.cloud_broker is not None
    since = len(node.log)
    with Observer(hierarchy.cloud_broker.port) as observer:
        node.start()
        eventually(lambda: "metrics at" in node.log[since:], "the cloud's start")
        observer.until(
            lambda: [
                seen
                for seen in observer.seen(f"{PREFIX}/cloud/nodes/cloud/state")
                if seen.json["state"] == "online"
            ],
            "the cloud's birth",
        )


@pytest.fixture(scope="module")
def fleet(require_mosquitto: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All nodes run, and have committed a first release that a person has published."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("rollouts")
        hierarchy = stack.enter_context(Hierarchy(folder, "mosquitto", two_brokers=True))
        assert hierarchy.cloud_broker is not None
        cloud = hierarchy.add("cloud", "cloud", cloud_config(hierarchy))
        relay = {"channels": [SMALL], "trust": str(folder / "trust.signed")}
        tier2 = {
            "cloud": {"url": hierarchy.cloud_broker.url},
            "pipelines": {"meter": hierarchy.tier2_pipeline()},
            "relay": relay,
        }
        hierarchy.start("tier2", "full-1", tier2)
        for name in NODES:
            pipeline = hierarchy.tier1_pipeline(releases=hierarchy.releases(SMALL, probation_s=1.5))
            hierarchy.start("tier1", name, {"pipelines": {"meter": pipeline}})
        above = stack.enter_context(Observer(hierarchy.cloud_broker.port))
        site = stack.enter_context(hierarchy.observer())
        made = Fleet(hierarchy, cloud, folder / "cloud.yaml", above, site, itertools.count(1))
        start_cloud(hierarchy, cloud)
        eventually(lambda: len(made.status()["nodes"]) == len(NODES), "the fleet in the cloud")
        version = made.publish(TIER1_TURN)
        made.until_phase("completed", version)
        made.until_all_run(version)
        yield made


def test_a_release_goes_to_the_canary_first_and_then_to_all(fleet: Fleet) -> None:
    version = fleet.publish()
    canary = fleet.canary()
    fleet.run("status", "--channel", SMALL, "--watch", code=DONE)
    fleet.until_all_run(version)
    said = fleet.reports(version)
    others = [number for number, (node, _) in enumerate(said) if node != canary]
    assert others
    assert said.index((canary, "COMMITTED")) < min(others)
    assert fleet.phase_shown("completed") == 1
    assert fleet.phase_shown("running") == 0
    versions = json.loads(fleet.run("list", "--channel", SMALL, "--json"))
    assert (versions[-1]["version"], versions[-1]["rollout"]) == (version, "completed")


def test_a_model_that_answers_nan_is_stopped_at_the_canary_and_nobody_else_sees_it(
    fleet: Fleet,
) -> None:
    before = {one["version"] for one in fleet.status()["nodes"]}
    version = fleet.publish(fragile=True)
    canary = fleet.canary()
    fleet.until_state(canary, version, "PROBATION")
    fleet.site.send(NAN_MAKING)
    fleet.until_state(canary, version, "ROLLED_BACK")
    ended = fleet.until_phase("aborted", version)
    assert f"canary {SITE}/{canary} failed" in ended["summary"]
    fleet.run("status", "--channel", SMALL, code=STOPPED)
    assert {node for node, _ in fleet.reports(version)} == {canary}
    assert {one["version"] for one in fleet.status()["nodes"]} == before
    assert fleet.phase_shown("aborted") == 1


def test_a_rollout_is_halted_in_mid_wave_and_rolled_back(fleet: Fleet) -> None:
    base = fleet.publish()
    fleet.until_phase("completed", base)
    fleet.until_all_run(base)
    version = fleet.publish(TIER1_TURN)
    fleet.run("pause", "--channel", SMALL)
    canary = fleet.canary()
    fleet.until_state(canary, version, "PROBATION")
    fleet.run("halt", "--channel", SMALL)
    fleet.until_phase("halted", version)
    fleet.until_state(canary, version, "COMMITTED")  # who has swapped goes on to the end
    assert {node for node, _ in fleet.reports(version)} == {canary}
    fleet.run("rollback", "--channel", SMALL)
    fleet.until_phase("rolled back", version)
    fleet.until_all_run(base)
    assert {node for node, _ in fleet.reports(version)} == {canary}


def test_a_cloud_that_is_killed_in_mid_wave_brings_the_rollout_to_its_end(fleet: Fleet) -> None:
    version = fleet.publish()
    fleet.until_state(fleet.canary(), version, "PROBATION")
    fleet.cloud.kill()
    start_cloud(fleet.hierarchy, fleet.cloud)
    fleet.until_phase("completed", version)
    fleet.until_all_run(version)


def test_what_is_decided_while_the_cloud_is_down_is_done_when_it_is_back(fleet: Fleet) -> None:
    fleet.cloud.kill()
    version = fleet.publish(TIER1_TURN)
    assert "not published yet" in fleet.run("status", "--channel", SMALL, code=UNDER_WAY)
    start_cloud(fleet.hierarchy, fleet.cloud)
    fleet.until_phase("completed", version)
    fleet.until_all_run(version)
