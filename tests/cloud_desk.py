"""A person at the cloud's command line, on a folder of the cloud's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from cloud.fleet_file import FleetFile
from cloud.fleet_view import FleetView
from cloud.registry import Registry
from cloud.rollout.phases import Phase
from cloud.rollout.record import RolloutFile, RolloutRecord, published
from escalon.cli import main
from shared.messages import ModelInfo, NodeInfo, NodeState, UpdateReport, to_json
from shared.releases.keys import new_key_pem
from shared.topics import Topics
from tests.builders import CHANNEL, LABELS, SHAPE, diagonal_onnx

Said = pytest.CaptureFixture[str]
TIER2 = "meter-tier2"
TOPICS = Topics("escalon", "plant")


class Desk:
    """A cloud's YAML and folder, and the files of a person who publishes."""

    def __init__(self, folder: Path, said: Said) -> None:
        self.folder = folder
        self.said = said
        self.view = FleetView("escalon")
        self.config = folder / "cloud.yaml"
        self.state = folder / "cloud"
        (folder / "trust.signed").write_bytes(b"its node reads it; this command does not")
        (folder / "release.key").write_bytes(new_key_pem())
        self.write_config()
        self.model = self.file("model.onnx", diagonal_onnx(1.0))
        self.labels = self.file("labels.txt", "\n".join(LABELS).encode())
        self.golden = self.npz("golden.npz", inputs=4 * np.eye(3, dtype=np.float32))

    def write_config(self, **pipeline: Any) -> None:
        meter = {
            "input": {"shape": list(SHAPE)},
            "labels": list(LABELS),
            "tier1_channel": CHANNEL,
            "tier2_channel": TIER2,
            "training": {"base": "data", "first_job": "first"},
            **pipeline,
        }
        config = {
            "role": "cloud", "node": "cloud", "site": "cloud", "state_dir": "cloud",
            "broker": {"url": "mqtt://127.0.0.1:1"}, "signing_key": "release.key",
            "trust": "trust.signed", "pipelines": {"meter": meter},
        }  # fmt: skip
        self.config.write_text(yaml.safe_dump(config))

    def file(self, name: str, data: bytes) -> Path:
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def npz(self, name: str, **arrays: Any) -> Path:
        np.savez(self.folder / name, **arrays)
        return self.folder / name

    def run(self, *arguments: object) -> int:
        self.said.readouterr()
        return main(["release", *map(str, arguments), "--config", str(self.config)])

    def output(self, *arguments: object, code: int = 0) -> str:
        assert self.run(*arguments) == code, self.said.readouterr().err
        return self.said.readouterr().out

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self.output(*arguments, "--json", code=code))

    def error(self, *arguments: object, code: int = 1) -> str:
        assert self.run(*arguments) == code
        return self.said.readouterr().err

    def publish(self, *more: object, model: Path | None = None, code: int = 0) -> str:
        return self.output(*self.publishing(*more, model=model), code=code)

    def publishing(self, *more: object, model: Path | None = None) -> list[object]:
        return [
            "publish", model or self.model, "--pipeline", "meter", "--tier", 1,
            "--golden", self.golden, "--threshold", 0.9, "--by", "ada", *more,
        ]  # fmt: skip

    def refused(self, *more: object, model: Path | None = None, code: int = 1) -> str:
        """Publishes in vain; nothing is left of it."""
        before = sorted(self.state.rglob("*.json"))
        error = self.error(*self.publishing(*more, model=model), code=code)
        assert sorted(self.state.rglob("*.json")) == before
        return error

    @property
    def trust(self) -> Path:
        """The trust file."""
        return self.folder / "trust.signed"

    @property
    def rollout(self) -> RolloutFile:
        return RolloutFile(self.state / "rollouts" / f"{CHANNEL}.json")

    @property
    def record(self) -> RolloutRecord:
        record = self.rollout.read()
        assert record is not None
        return record

    def news(self, *nodes: str) -> list[tuple[str, bytes]]:
        """Returns what nodes say of themselves that follow the channel: topics and payloads."""
        said = []
        for node in nodes:
            state = NodeState(node=node, role="tier1", state="online")
            info = NodeInfo(
                node=node, role="tier1", site="plant", software="1", started=0.0,
                models={"meter": ModelInfo(model=CHANNEL, version="0", sha256="")},
                hardware="arm", channels=(CHANNEL,),
            )  # fmt: skip
            said += [(TOPICS.state(node), to_json(state)), (TOPICS.info(node), to_json(info))]
        return said

    def fleet(self, *nodes: str) -> None:
        """Has the cloud node have seen these nodes online."""
        self.view = FleetView("escalon")
        self.observe(*self.news(*nodes))

    def observe(self, *said: tuple[str, bytes]) -> None:
        """Has the cloud node have heard more of the fleet that it saw: topics and payloads."""
        for topic, payload in said:
            self.view.take(topic, payload)
        FleetFile.of(self.state).keep(self.view, 1_700_000_000.0, 0.0)

    def runs(self, version: str, *nodes: str) -> None:
        """Has nodes have said that they run a version."""
        told = f'"version":"{version}"'.encode()
        self.observe(
            *(
                (topic, payload.replace(b'"version":"0"', told))
                for topic, payload in self.news(*nodes)
            )
        )

    def asleep(self) -> None:
        """Has the cloud node have started anew, before any node said that it is there."""
        snapshot = FleetFile.of(self.state).read()
        assert snapshot is not None
        view = FleetView("escalon")
        view.seed(snapshot.nodes)
        FleetFile.of(self.state).keep(view, 1_700_000_000.0, 0.0)

    def report(self, node: str, state: str, reason: str = "") -> None:
        """Has a node have reported on the rollout, after its manifest was published."""
        record = self.record
        self.rollout.write(published(record, 1, 1_700_000_000.0))
        view = FleetView("escalon")
        snapshot = FleetFile.of(self.state).read()
        assert snapshot is not None
        for each in snapshot.nodes:
            view.take(TOPICS.state(each.node), to_json(
                NodeState(node=each.node, role="tier1", state="online")))  # fmt: skip
        said = UpdateReport(
            node=node, channel=CHANNEL, seq=1, version=record.version, state=state, reason=reason,
            since=1_700_000_000.0, steps=[], rollout=record.id,
        )  # fmt: skip
        view.take(TOPICS.updates(node, CHANNEL), to_json(said))
        FleetFile.of(self.state).keep(view, 1_700_000_000.0, 0.0)

    def registry_only(self, name: str) -> None:
        """Has a version be there that was never rolled out."""
        registry = Registry(self.state / "registry")
        (version,) = [each for each in registry.versions(CHANNEL) if each.name == "1"]
        release = msgspec.structs.replace(version.release, version=name)
        registry.add_version(msgspec.structs.replace(version, release=release))

    def complete(self) -> None:
        """Has the rollout have come to its end."""
        self.rollout.write(
            msgspec.structs.replace(self.record, phase=Phase.COMPLETED, share=1.0, seq=1)
        )
