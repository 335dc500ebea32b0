"""The cloud node hears the fleet before it decides, and does what people decide beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from cloud.channels import open_channels, open_registry
from cloud.config import CloudConfig
from cloud.course import Course
from cloud.director import Director
from cloud.fleet_file import FleetFile
from cloud.node import CloudNode
from cloud.opening import make_ingestion
from cloud.releasing import register
from cloud.rollout.commands import halt
from cloud.rollout.phases import Phase
from cloud.signer import Signer
from cloud.store import TelemetryStore
from cloud.upkeep import Upkeep
from shared.config_file import ConfigFile, ConfigFileError
from shared.messages import NodeState, to_json
from shared.metrics import CloudMetrics
from shared.presence import Presence
from shared.releases.manifest import read_manifest
from shared.releases.trust import found_trust
from shared.releases.trust_store import TrustStore
from shared.topics import Topics
from tests.builders import CHANNEL, CHUNK_BYTES, EPOCH_S
from tests.cloud_desk import TIER2, TOPICS, Desk, Said
from tests.cloud_rig import draft
from tests.fakes import FakeBroker, FakeLink

WINDOW = 50


class Rig:
    """A cloud node on a broker in memory; both channels have a version that stands."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey, said: Said, **pipeline: Any) -> None:
        self.desk = Desk(folder, said)
        (folder / "trust.signed").write_bytes(found_trust([key], [key], EPOCH_S))
        waves = [{"share": 0, "soak_s": 0}, {"share": 1, "soak_s": 0}]
        retrain = {"window": WINDOW, "audits": 40}
        self.desk.write_config(rollout={"waves": waves}, retrain=retrain, **pipeline)
        self.config = ConfigFile(self.desk.config).parse(CloudConfig, {})
        self.hub = FakeBroker()
        self.metrics = CloudMetrics(CollectorRegistry())
        trust = TrustStore(self.config.keys[1], self.config.state_dir)
        trust.load()
        self.registry = open_registry(self.config)
        signer = Signer(key, trust.current, 90.0)
        self.channels = open_channels(self.config, self.registry)
        self.directors = {
            name: Director(channel, signer) for name, channel in self.channels.items()
        }
        for name in self.channels:
            version = register(draft(1.0, channel=name), self.registry, CHUNK_BYTES, EPOCH_S)
            self.directors[name].propose(version.name)
        self.store = Store(f"sqlite:///{folder / 'telemetry.sqlite'}", str(folder / "inputs"))
        self.course = Course(
            name="meter",
            config=self.config.pipelines["meter"],
            chunk_bytes=CHUNK_BYTES,
            folder=folder / "jobs",
            store=self.store,
            registry=self.registry,
            directors=self.directors,
        )
        self.link = FakeLink(self.hub, connected=False)
        self.node = CloudNode(
            config=self.config,
            link=self.link,
            ingestion=make_ingestion(self.config, self.link, self.store, self.metrics),
            upkeep=Upkeep(self.store, self.metrics),
            registry=self.registry,
            directors=self.directors,
            courses={"meter": self.course},
            metrics=self.metrics,
            presence=Presence(self.config, "cloud", None),
            trust=trust,
        )
        self.node.start()
        self.now_s = 0.0

    def connect(self) -> None:
        self.link.connect()
        self.node.on_connected(self.link)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.now_s += 2
            for message in self.link.receive():
                self.node.on_message(self.link, message, self.now_s)
            self.node.turn(self.now_s)

    def says(self, topic: str, payload: bytes) -> None:
        self.hub.publish(topic, payload, retain=True)

    def births(self, *nodes: str) -> None:
        """Has the broker retain what nodes say of themselves."""
        for topic, payload in self.desk.news(*nodes):
            self.says(topic, payload)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def retained(self) -> bytes | None:
        return self.hub.retained.get(Topics("escalon", "cloud").releases(CHANNEL))


class Store(TelemetryStore):
    """Counts how often it is asked whether there are enough audits."""

    asked = 0

    def audits_since(self, *arguments: Any) -> int:
        self.asked += 1
        return super().audits_since(*arguments)


@pytest.fixture
def rig(tmp_path: Path, release_key: Ed25519PrivateKey, capsys: Said) -> Rig:
    return Rig(tmp_path, release_key, capsys)


def test_what_the_broker_retains_of_the_fleet_is_heard_before_anything_begins(rig: Rig) -> None:
    rig.births("press-1", "press-2")
    rig.node.turn(1.0)
    assert rig.directors[CHANNEL].record is None
    rig.connect()
    rig.turn()
    record = rig.directors[CHANNEL].record
    assert record is not None
    assert (record.share, len(record.canaries)) == (0.0, 1)  # not everybody: two are known


def test_nothing_is_decided_on_what_was_seen_before_the_link_was_cut(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    turn = Director.turn

    def noting(self: Director, fleet: Any, *others: Any) -> None:
        seen.append(fleet is not None)
        turn(self, fleet, *others)

    monkeypatch.setattr(Director, "turn", noting)
    rig.births("press-1")
    rig.connect()
    rig.turn(3)
    assert seen[-1]
    rig.link.disconnect()
    seen.clear()
    rig.turn(3)
    assert seen
    assert not any(seen)
    rig.link.connect()
    rig.node.on_connected(rig.link)
    rig.node.turn(rig.now_s + 2)
    assert not any(seen)
    rig.turn(3)
    assert seen[-1]


def test_a_manifest_goes_out_and_the_record_says_so(rig: Rig) -> None:
    rig.births("press-1")
    rig.connect()
    rig.turn(8)
    record = rig.channels[CHANNEL].read()
    assert record is not None
    assert rig.retained is not None
    assert read_manifest(rig.retained).seq == record.seq == 1
    assert rig.value("edge_rollout_phase", channel=CHANNEL, phase="running") == 1
    assert rig.value("edge_rollout_nodes", channel=CHANNEL, outcome="open") == 1
    assert rig.value("edge_fleet_nodes", state="online") == 1


def test_the_fleet_is_on_the_disk_for_the_command_line(rig: Rig) -> None:
    rig.births("press-1", "press-2")
    rig.connect()
    rig.turn()
    snapshot = FleetFile.of(rig.config.state_dir).read()
    assert snapshot is not None
    known = [(each.node, each.online) for each in snapshot.nodes if each.follows(CHANNEL)]
    assert known == [("press-1", True), ("press-2", True)]


def test_news_that_is_none_is_counted_and_dropped(rig: Rig) -> None:
    rig.connect()
    rig.says(TOPICS.info("press-1"), b"{")
    other = NodeState(node="other", role="tier1", state="online")
    rig.says(TOPICS.state("press-2"), to_json(other))
    rig.turn()
    assert rig.value("edge_drops_total", reason="not_nodeinfo") == 1
    assert rig.value("edge_drops_total", reason="bad_news") == 1


def test_what_a_person_decides_beside_it_is_at_the_broker_soon(rig: Rig) -> None:
    rig.births("press-1", "press-2")
    rig.connect()
    rig.turn(8)
    assert rig.desk.run("halt", "--channel", CHANNEL) == 0
    rig.turn(4)
    assert rig.retained is not None
    manifest = read_manifest(rig.retained)
    assert (manifest.state, manifest.seq) == ("halted", 2)
    assert "version 1 halted" in rig.node._activity()


def drifted(rig: Rig) -> None:
    """Has nodes have been unsure of everything, so that a training is wanted."""
    rig.course.count("1", WINDOW, WINDOW, EPOCH_S)


def test_drift_asks_for_a_training_of_what_stands(rig: Rig) -> None:
    rig.connect()
    rig.turn(8)
    drifted(rig)
    rig.turn()
    assert "drift" in rig.course.activity
    assert rig.store.asked == 1


def test_where_people_make_all_models_drift_is_said_and_nothing_trained(
    tmp_path: Path, release_key: Ed25519PrivateKey, capsys: Said
) -> None:
    rig = Rig(tmp_path, release_key, capsys, training=None)
    rig.connect()
    rig.turn(8)
    drifted(rig)
    rig.turn()
    assert "people train its models" in rig.course.activity
    assert rig.store.asked == 0


def test_nothing_is_trained_while_a_person_has_halted_the_rollout(rig: Rig) -> None:
    rig.births("press-1")
    rig.connect()
    rig.turn(8)
    with rig.channels[CHANNEL].lock.claimed():
        assert rig.channels[CHANNEL].command(halt).record.phase is Phase.HALTED
    rig.turn()
    drifted(rig)
    rig.turn(3)
    assert rig.store.asked == 0


def test_after_an_abort_the_version_before_is_watched_again(rig: Rig) -> None:
    rig.connect()
    rig.turn(8)
    channel = rig.channels[CHANNEL]
    with channel.lock.claimed():
        version = register(draft(2.0), rig.registry, CHUNK_BYTES, EPOCH_S + 1)
    rig.directors[CHANNEL].propose(version.name)
    rig.turn(4)
    drifted(rig)  # counts of version 1, which is watched no more
    assert "watching" in rig.course.activity
    assert rig.desk.run("rollback", "--channel", CHANNEL) == 0
    rig.turn(2)
    drifted(rig)
    assert "drift" in rig.course.activity


def test_a_channel_of_two_models_is_a_mistake_in_the_configuration(rig: Rig) -> None:
    rig.desk.write_config(tier1_channel=TIER2)
    with pytest.raises(ConfigFileError, match="channel meter-tier2 is named 2 times"):
        ConfigFile(rig.desk.config).parse(CloudConfig, {})
