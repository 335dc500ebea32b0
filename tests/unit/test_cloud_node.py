"""The cloud node hears the fleet before it decides, and does what people decide beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prometheus_client import CollectorRegistry

from cloud.channels import open_channels, open_registry
from cloud.config import CloudConfig
from cloud.course import Course
from cloud.credentials import Credentials
from cloud.director import Director
from cloud.echo import AGAIN_S
from cloud.fleet_file import FleetFile
from cloud.fleet_view import UNHEARD_S, FleetView
from cloud.node import CloudNode
from cloud.notice import NoticeFile
from cloud.opening import make_ingestion
from cloud.releasing import ModelFile, register
from cloud.rollout.commands import halt
from cloud.rollout.phases import Phase
from cloud.signer import Signer
from cloud.store import Arrived, TelemetryStore
from cloud.upkeep import Upkeep
from cloud.vigil import Vigil
from escalon.keys.ceremony import revoked, signed
from shared.config_file import ConfigFile, ConfigFileError
from shared.messages import GateCount, NodeState, Telemetry, UpdateReport, pack, to_json
from shared.metrics import CloudMetrics
from shared.model_spec import Calibration
from shared.presence import Presence
from shared.releases.keys import public_hex
from shared.releases.manifest import open_manifest, read_manifest
from shared.releases.trust import found_trust, open_first
from shared.topics import Topics
from tests.builders import CERTIFICATE, CHANNEL, CHUNK_BYTES, EPOCH_S, diagonal_onnx, record
from tests.cloud_desk import TIER2, TOPICS, Desk, Said
from tests.cloud_rig import draft
from tests.fakes import FakeBroker, FakeLink

WINDOW = 50
TOPICS_OF_CLOUD = Topics("escalon", "cloud")


class Rig:
    """A cloud node on a broker in memory; both channels have a version that stands."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey, said: Said, **pipeline: Any) -> None:
        self.desk = Desk(folder, said)
        (folder / "trust.signed").write_bytes(found_trust([key], [key], EPOCH_S))
        (folder / "release.key").write_bytes(pem_of(key))
        waves = [{"share": 0, "soak_s": 0}, {"share": 1, "soak_s": 0}]
        retrain = {"window": WINDOW, "audits": 40}
        self.desk.write_config(rollout={"waves": waves}, retrain=retrain, **pipeline)
        self.config = ConfigFile(self.desk.config).parse(CloudConfig, {})
        self.hub = FakeBroker()
        self.metrics = CloudMetrics(CollectorRegistry())
        key_path, trust_path = self.config.keys
        credentials = Credentials(trust_path, key_path, self.config.state_dir)
        credentials.load()
        self.registry = open_registry(self.config)
        signer = Signer(credentials.key, credentials.trust, 90.0)
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
            vigil=Vigil(
                pipeline="meter",
                config=self.config.pipelines["meter"].retrain,
                store=self.store,
                folder=folder / "watching",
                director=self.directors[CHANNEL],
                metrics=self.metrics,
            ),
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
            credentials=credentials,
            signer=signer,
        )
        self.node.start()
        self.now_s = 0.0
        self.sent = 0

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

    def counts(self, version: str, unsure: int) -> None:
        """Has a node's gate have counted a window of samples, so many of them unsure."""
        self.sent += 1
        count = GateCount("tier1-a", "meter", version, WINDOW, unsure)
        message = Telemetry(1, "hub", f"batch-{self.sent}", (), (count,))
        self.store.add([Arrived("plant", message)], EPOCH_S)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def retained(self) -> bytes | None:
        return self.hub.retained.get(TOPICS_OF_CLOUD.releases(CHANNEL))


def pem_of(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Store(TelemetryStore):
    """Counts how often it is asked whether there are enough audits."""

    asked = 0

    def audits_after(self, *arguments: Any) -> int:
        self.asked += 1
        return super().audits_after(*arguments)


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


def test_an_echo_that_is_lost_is_sent_again_now_and_then_until_it_is_back(rig: Rig) -> None:
    echo = TOPICS_OF_CLOUD.probe("cloud", "session")
    rig.births("press-1")
    rig.connect()
    for _ in range(30):  # a minute in which all is lost that comes
        rig.now_s += 2
        rig.node.turn(rig.now_s)
        rig.link.receive()
    sent = len(rig.hub.payloads(echo))
    assert 2 <= sent <= 60 / AGAIN_S
    assert rig.directors[CHANNEL].record is None
    rig.link.cut()
    rig.link.connect()
    rig.node.on_connected(rig.link)
    rig.turn(2)
    assert rig.directors[CHANNEL].record is not None
    sent = len(rig.hub.payloads(echo))
    rig.turn(10)
    assert len(rig.hub.payloads(echo)) == sent


def test_an_echo_that_is_lost_on_a_connection_that_stands_delays_the_fleet_and_no_more(
    rig: Rig,
) -> None:
    rig.births("press-1")
    rig.connect()
    rig.node.turn(rig.now_s)
    news = [each for each in rig.link.receive() if "/probe/" not in each.topic]
    for message in news:
        rig.node.on_message(rig.link, message, rig.now_s)
    assert news
    rig.turn(6)
    assert rig.directors[CHANNEL].record is not None


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


def test_what_holds_a_channel_up_is_on_the_disk_for_the_command_line(rig: Rig) -> None:
    rig.births("press-1")
    notice = NoticeFile(rig.config.state_dir)
    rig.turn()
    assert notice.read().trouble(CHANNEL) == "it has no connection to its broker"
    version = rig.registry.version(CHANNEL, "1")
    assert version is not None
    path = rig.registry.blobs.path(version.release.artefacts[0].sha256)
    whole = path.read_bytes()
    path.write_bytes(b"damaged")
    rig.connect()
    rig.turn(8)
    assert "is damaged or gone. Fix: publish it anew" in notice.read().channels[CHANNEL]
    found = rig.desk.json("status", "--channel", CHANNEL, code=3)[0]
    assert "is damaged or gone" in found["trouble"]
    path.write_bytes(whole)
    rig.link.disconnect()
    rig.connect()
    rig.turn(8)
    assert notice.read().trouble(CHANNEL) == ""
    rig.directors[CHANNEL].propose("9")
    rig.turn(2)
    assert "version 9 waits: meter-tier1 has no version 9" in notice.read().trouble(CHANNEL)
    assert notice.read().trouble(TIER2) == ""


def test_a_damaged_snapshot_keeps_no_node_from_starting_and_is_written_anew(
    tmp_path: Path, release_key: Ed25519PrivateKey, capsys: Said, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cloud" / "fleet.json"
    path.parent.mkdir()
    path.write_bytes(b"{")
    rig = Rig(tmp_path, release_key, capsys)
    assert "fleet.json is damaged" in caplog.text
    rig.births("press-1")
    rig.connect()
    rig.turn()
    snapshot = FleetFile.of(rig.config.state_dir).read()
    assert snapshot is not None
    assert [each.node for each in snapshot.nodes if each.follows(CHANNEL)] == ["press-1"]


def test_a_node_that_was_cleared_while_the_cloud_was_down_does_not_come_back_for_ever(
    tmp_path: Path, release_key: Ed25519PrivateKey, capsys: Said
) -> None:
    desk = Desk(tmp_path, capsys)
    desk.fleet("press-1", "ghost")
    rig = Rig(tmp_path, release_key, capsys)
    rig.births("press-1")
    rig.connect()
    rig.turn()
    assert {"press-1", "ghost"} <= snapshot_of(rig)
    rig.turn(int(UNHEARD_S / 2) + 1)
    assert "press-1" in snapshot_of(rig)
    assert "ghost" not in snapshot_of(rig)


def test_a_node_that_was_cleared_while_the_broker_was_away_does_not_stay(rig: Rig) -> None:
    rig.births("press-1", "gone")
    rig.connect()
    rig.turn()
    rig.link.disconnect()
    for topic, _ in rig.desk.news("gone"):
        rig.says(topic, b"")
    rig.connect()
    rig.turn(int(UNHEARD_S / 2) + 1)
    assert "press-1" in snapshot_of(rig)
    assert "gone" not in snapshot_of(rig)


def snapshot_of(rig: Rig) -> set[str]:
    snapshot = FleetFile.of(rig.config.state_dir).read()
    assert snapshot is not None
    return {each.node for each in snapshot.nodes}


def test_while_the_broker_is_away_the_snapshot_grows_old(rig: Rig) -> None:
    rig.births("press-1")
    rig.connect()
    rig.turn()
    path = rig.config.state_dir / "fleet.json"
    path.unlink()
    rig.link.disconnect()
    rig.turn(40)
    assert not path.exists()
    rig.connect()
    rig.turn()
    assert path.exists()


@pytest.mark.parametrize("content", [None, b"{"], ids=["missing", "damaged"])
def test_without_the_fleet_a_second_version_does_not_go_to_everybody(
    rig: Rig, content: bytes | None
) -> None:
    rig.births("press-1", "press-2")
    rig.connect()
    rig.turn(8)
    channel, path = rig.channels[CHANNEL], rig.config.state_dir / "fleet.json"
    before = channel.read()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    said = "no node of meter-tier1 is known" if content is None else "Fix: start the cloud node"
    other = rig.desk.file("other.onnx", diagonal_onnx(3.0))
    assert said in rig.desk.error(*rig.desk.publishing(model=other))
    assert said in rig.desk.error("offer", f"{CHANNEL}/1")
    assert said in rig.desk.error("promote", "--channel", CHANNEL)
    assert channel.read() == before
    assert rig.desk.run("halt", "--channel", CHANNEL) == 0  # what needs no fleet is done
    assert said in rig.desk.error("retry", "--channel", CHANNEL)


def test_news_that_is_none_is_counted_and_dropped(rig: Rig) -> None:
    rig.connect()
    rig.says(TOPICS.info("press-1"), b"{")
    other = NodeState(node="other", role="tier1", state="online")
    rig.says(TOPICS.state("press-2"), to_json(other))
    rig.turn()
    assert rig.value("edge_drops_total", reason="not_nodeinfo") == 1
    assert rig.value("edge_drops_total", reason="bad_news") == 1


def test_a_fleet_that_is_full_is_counted_for_each_and_said_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.node._view = FleetView("escalon", max_nodes=1)
    rig.births("a", *(f"press-{number}" for number in range(20)))
    rig.connect()
    rig.turn()
    # The cloud's own birth is news as well; of 21 others none has room.
    assert rig.value("edge_drops_total", reason="fleet_full") >= 40
    assert caplog.text.count("is one node more than 1") == 1


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
    rig.counts("1", WINDOW)
    rig.turn()


def test_drift_asks_for_a_training_of_what_stands(rig: Rig) -> None:
    rig.connect()
    rig.turn(8)
    drifted(rig)
    assert "drift" in rig.course.activity
    assert rig.store.asked == 1


def test_what_any_file_of_a_version_may_escalate_is_no_drift(rig: Rig) -> None:
    rig.connect()
    rig.turn(8)
    eye = np.eye(3, dtype=np.float32)
    certificates = (CERTIFICATE, replace(CERTIFICATE, coverage=0.5))
    files = [
        ModelFile(diagonal_onnx(gain), "fp32", Calibration(1.0, 0.8, certificate), eye)
        for gain, certificate in enumerate(certificates, 1)
    ]
    with rig.channels[CHANNEL].lock.claimed():
        version = register(draft(1.0, files=files), rig.registry, CHUNK_BYTES, EPOCH_S + 1)
    rig.directors[CHANNEL].propose(version.name)
    rig.turn(2)
    rig.counts(version.name, WINDOW * 6 // 10)
    rig.turn()
    assert "watching" in rig.course.activity
    rig.counts(version.name, WINDOW)
    rig.turn()
    assert "100% of 50 samples escalated where 50% were certified" in rig.course.activity


def send_telemetry(rig: Rig, telemetry: Telemetry) -> None:
    rig.hub.publish(TOPICS.telemetry(telemetry.sender), pack(telemetry))


def test_counts_come_from_the_store_whoever_stored_them(rig: Rig) -> None:
    rig.connect()
    rig.turn(8)
    counts = (GateCount("press-1", "meter", "1", WINDOW, WINDOW),)
    send_telemetry(rig, Telemetry(1, "hub", "a", (), counts))
    rig.turn(2)
    assert "drift" in rig.course.activity


def test_counts_that_another_process_stored_are_seen_too(rig: Rig) -> None:
    rig.connect()
    rig.turn(8)
    counts = (GateCount("press-1", "meter", "1", WINDOW, WINDOW),)
    rig.store.add([Arrived("plant", Telemetry(1, "hub", "a", (), counts))], EPOCH_S)
    rig.turn()
    assert "drift" in rig.course.activity


def test_where_inputs_stay_on_their_sites_the_node_says_what_it_can_still_do(rig: Rig) -> None:
    rig.connect()
    rig.turn()
    records = (record(1, with_input=False), record(2, with_input=False))
    send_telemetry(rig, Telemetry(1, "hub", "a", records, ()))
    rig.turn(40)
    assert "nothing can be retrained" in rig.node._activity()
    assert rig.value("edge_inputs_withheld_total", pipeline="meter") == 2


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


def commits(rig: Rig, node: str) -> None:
    """Has a node have committed what is rolled out, which completes it."""
    record = rig.channels[CHANNEL].read()
    assert record is not None
    said = UpdateReport(
        node=node, channel=CHANNEL, seq=1, version=record.version, state="COMMITTED", reason="",
        since=0.0, steps=[], rollout=record.id,
    )  # fmt: skip
    rig.says(TOPICS.updates(node, CHANNEL), to_json(said))
    rig.turn(2)
    record = rig.channels[CHANNEL].read()
    assert record is not None
    assert record.phase is Phase.COMPLETED


def test_after_an_abort_the_version_before_is_watched_again(rig: Rig) -> None:
    rig.births("press-1")
    rig.connect()
    rig.turn(8)
    channel = rig.channels[CHANNEL]
    commits(rig, "press-1")
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


# Whom the fleet trusts


def test_trust_that_the_link_does_not_take_at_the_connection_goes_out_later(rig: Rig) -> None:
    rig.link.full = True
    rig.connect()
    rig.turn()
    assert TOPICS_OF_CLOUD.trust(1) not in rig.hub.retained
    rig.link.full = False
    rig.turn()
    assert rig.hub.retained[TOPICS_OF_CLOUD.trust(1)] == rig.desk.trust.read_bytes()


def test_a_broker_that_forgot_whom_to_trust_is_told_again(rig: Rig) -> None:
    rig.connect()
    rig.turn()
    rig.hub.forget()
    rig.link.cut()
    rig.link.connect()
    rig.node.on_connected(rig.link)
    assert TOPICS_OF_CLOUD.trust(1) in rig.hub.retained


def test_a_revocation_is_at_the_broker_without_a_restart_ahead_of_what_its_key_signed(
    rig: Rig, release_key: Ed25519PrivateKey
) -> None:
    rig.births("press-1")
    rig.connect()
    rig.turn(8)
    stolen = rig.retained
    first, new = open_first(rig.desk.trust.read_bytes()), Ed25519PrivateKey.generate()
    step = signed(revoked(first, public_hex(release_key), new, EPOCH_S), [release_key], first)
    rig.desk.trust.write_bytes(step.envelope)
    rig.turn(4)
    assert "Trust version 1 stays in force" in rig.node._activity()
    assert (rig.retained, TOPICS_OF_CLOUD.trust(2) in rig.hub.retained) == (stolen, False)
    (rig.desk.folder / "release.key").write_bytes(pem_of(new))
    rig.turn(8)
    assert "stays in force" not in rig.node._activity()
    assert rig.hub.retained[TOPICS_OF_CLOUD.trust(2)] == step.envelope
    assert rig.retained is not None
    manifest = open_manifest(rig.retained, step.trust.releases)
    assert (manifest.key_epoch, manifest.release.version) == (2, "1")
    order = [each.topic for each in rig.hub.published]
    trust = order.index(TOPICS_OF_CLOUD.trust(2))
    renewed = [at for at, each in enumerate(rig.hub.published) if each.payload == rig.retained]
    assert trust < renewed[0]


def test_a_channel_of_two_models_is_a_mistake_in_the_configuration(rig: Rig) -> None:
    rig.desk.write_config(tier1_channel=TIER2)
    with pytest.raises(ConfigFileError, match="channel meter-tier2 is named 2 times"):
        ConfigFile(rig.desk.config).parse(CloudConfig, {})
