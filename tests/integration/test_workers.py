"""Workers share the samples of one node, lose none of them, and are one node to the fleet."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from shared.messages import SCHEMA_VERSION, Telemetry, TelemetryAck, pack, unpack
from tests.integration.hierarchy import (
    PREFIX,
    SITE,
    TIMEOUT_S,
    BrokerKind,
    Hierarchy,
    Json,
    Node,
    Observer,
    eventually,
    info_topic,
    metrics,
    publish_release,
    samples_topic,
    update_topic,
)
from tests.integration.models import NEW_TURN, TIER1_TURN, label, sure, unsure

CHANNEL = "meter-tier1"
STATE = f"{PREFIX}/{SITE}/nodes/edge-1/state"
SENSORS = [f"cam-{number}" for number in range(8)]


class Plant:
    """A tier-1 node with workers at a broker."""

    def __init__(
        self, hierarchy: Hierarchy, workers: int, protocol: str = "3.1.1", verdict: str = ""
    ) -> None:
        self.hierarchy = hierarchy
        self._broker = {"url": hierarchy.broker.url, "protocol": protocol}
        self.node = self.configure(workers)
        self.node.start()
        if workers > 1:
            self.await_workers(workers)
            if verdict:
                assert {found for _, found in self.verdicts} == {verdict}
        else:
            eventually(lambda: "connected to" in self.node.log, "the node is connected")

    def configure(self, workers: int) -> Node:
        """Writes the node's YAML."""
        pipeline = self.hierarchy.tier1_pipeline(releases=self.hierarchy.releases(CHANNEL))
        config: Json = {"pipelines": {"meter": pipeline}, "broker": self._broker}
        return self.hierarchy.add("tier1", "edge-1", {"workers": workers, **config})

    def reconfigure(self, workers: int) -> None:
        """Starts the node that was stopped with another number of workers."""
        self.node = self.configure(workers)
        self.node.start()

    def await_workers(self, count: int) -> None:
        """Waits until so many workers in all have found out how the samples are shared."""
        eventually(lambda: len(self.verdicts) >= count, f"{count} workers share the samples")

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """What the workers, in all their lives, found out."""
        return re.findall(r"w(\d+) tier1\.shares: samples are (\w+)", self.node.log)

    def pid(self, index: int) -> int:
        """Returns the process of a worker."""
        found = re.findall(rf"worker {index} runs as process (\d+)", self.node.log)
        return int(found[-1])

    def answered(self, index: int) -> int:
        """Returns how many predictions a worker's present life has counted."""
        url = re.findall(rf"w{index} shared\.metrics: metrics at (\S+)", self.node.log)[-1]
        return sum(
            int(sample.value) for sample in metrics(url) if sample.name == "edge_predictions_total"
        )


@pytest.fixture
def hierarchy(require_mosquitto: None, tmp_path: Path) -> Iterator[Hierarchy]:
    """Mosquitto, and nothing that runs at it yet."""
    with Hierarchy(tmp_path, "mosquitto") as hierarchy:
        yield hierarchy


def burst(observer: Observer, size: int, features: list[float]) -> list[str]:
    """Sends samples of several sensors at QoS 1; returns their ids, all acknowledged."""
    identities = [observer.new_id() for _ in range(size)]
    observer.publish_many(
        [
            (
                samples_topic(SENSORS[number % len(SENSORS)]),
                json.dumps({"id": identity, "features": features}).encode(),
            )
            for number, identity in enumerate(identities)
        ]
    )
    return identities


def seen_ids(observer: Observer) -> Counter[str]:
    """Returns how many predictions each sample has."""
    return Counter(one["id"] for one in observer.predictions())


def has_session(hierarchy: Hierarchy, client_id: str) -> bool:
    """Whether the broker keeps a session for a client."""
    present: list[bool] = []
    connected = threading.Event()
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id, clean_session=False, protocol=mqtt.MQTTv311
    )

    def on_connect(client: mqtt.Client, data: Any, flags: Any, *rest: Any) -> None:
        present.append(flags.session_present)
        connected.set()

    client.on_connect = on_connect
    client.connect("127.0.0.1", hierarchy.broker.port)
    client.loop_start()
    assert connected.wait(TIMEOUT_S)
    client.disconnect()
    client.loop_stop()
    return present[0]


def test_workers_share_the_samples_and_answer_each_once(kind: BrokerKind, tmp_path: Path) -> None:
    with Hierarchy(tmp_path, kind) as hierarchy, hierarchy.observer() as observer:
        plant = Plant(hierarchy, 2)
        identities = burst(observer, 80, sure(0))
        observer.all_predicted(identities)
        burst(observer, 8, sure(1))  # whatever comes twice has come before this
        assert max(seen_ids(observer).values()) == 1
        eventually(lambda: plant.answered(0) + plant.answered(1) == 88, "all are counted")
        assert min(plant.answered(0), plant.answered(1)) > 0
        expected = "dealt" if kind == "mosquitto" else "split"
        assert sorted(plant.verdicts) == [("0", expected), ("1", expected)]


def test_workers_are_one_node_to_the_fleet(hierarchy: Hierarchy) -> None:
    with hierarchy.observer() as observer:
        plant = Plant(hierarchy, 3)
        observer.all_predicted(burst(observer, 30, sure(0)))
        births = [seen.json for seen in observer.seen(STATE) if seen.topic == STATE]
        assert [birth["state"] for birth in births] == ["online"]
        assert len(observer.seen(info_topic("edge-1"))) == 1
        nodes = {seen.topic.split("/")[3] for seen in observer.seen("/nodes/")}
        assert {name for name in nodes if not name.startswith("edge-1.w")} == {"edge-1"}
        assert not [seen for seen in observer.seen("/edge-1.w") if "/probe/" not in seen.topic]
        assert {one["node"] for one in observer.predictions()} == {"edge-1"}
        assert plant.node.stop() == 0
        observer.until(lambda: (observer.latest(STATE) or {})["state"] == "offline", "the farewell")
        assert len([seen for seen in observer.seen(STATE) if seen.topic == STATE]) == 2


def test_every_worker_gets_the_answers_to_its_own_questions(hierarchy: Hierarchy) -> None:
    hierarchy.start("tier2", "hub", {"pipelines": {"meter": hierarchy.tier2_pipeline()}})
    with hierarchy.observer() as observer:
        plant = Plant(hierarchy, 2)
        identities = burst(observer, 60, unsure(0))
        observer.all_predicted(identities)
        assert min(plant.answered(0), plant.answered(1)) > 0
        assert {one["decided_by"] for one in observer.predictions()} == {"tier2"}
        assert set(seen_ids(observer).values()) == {1}


@pytest.fixture
def hub(hierarchy: Hierarchy) -> Node:
    """A tier-2 node with two workers, asked by a node without, one question a message."""
    escalation = {"deadline_ms": 5000, "audit_share": 0, "max_batch_samples": 1}
    pipeline = hierarchy.tier1_pipeline(escalation=escalation)
    hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
    hub = configure_hub(hierarchy, workers=2)
    hub.start()
    shared = "escalations are shared with the other nodes"
    eventually(lambda: hub.log.count(shared) == 2, "both workers share the questions")
    return hub


def configure_hub(hierarchy: Hierarchy, workers: int) -> Node:
    """Writes the YAML of the tier-2 node."""
    telemetry = {"max_delay_s": 0.1, "retry_s": 0.5}
    pipelines = {"meter": hierarchy.tier2_pipeline()}
    config: Json = {"workers": workers, "telemetry": telemetry, "pipelines": pipelines}
    return hierarchy.add("tier2", "hub", config)


def telemetry(observer: Observer) -> dict[str, dict[str, set[str]]]:
    """Returns which samples are in which batch of which sender."""
    found: dict[str, dict[str, set[str]]] = {}
    for seen in observer.seen("/telemetry/"):
        message = unpack(seen.payload, Telemetry)
        batches = found.setdefault(message.sender, {})
        batches[message.batch] = {record.sample.id for record in message.records}
    return found


def test_workers_of_tier2_share_the_questions_and_report_under_names_of_their_own(
    hierarchy: Hierarchy, hub: Node
) -> None:
    with hierarchy.observer() as observer:
        identities = burst(observer, 40, unsure(0))
        observer.all_predicted(identities)
        assert {one["decided_by"] for one in observer.predictions()} == {"tier2"}

        def recorded() -> Counter[str]:
            batches = [each for sender in telemetry(observer).values() for each in sender.values()]
            return Counter(sample for batch in batches for sample in batch)

        observer.until(lambda: set(recorded()) == set(identities), "all are reported")
        assert set(recorded().values()) == {1}
        assert set(telemetry(observer)) == {"hub", "hub.w1"}
        births = [
            seen for seen in observer.seen("/nodes/hub/state") if seen.json["state"] == "online"
        ]
        assert len(births) == 1


def test_a_worker_of_tier2_leaves_when_the_cloud_has_its_telemetry(
    hierarchy: Hierarchy, hub: Node
) -> None:
    with hierarchy.observer() as observer:
        observer.all_predicted(burst(observer, 40, unsure(0)))
        observer.until(lambda: "hub.w1" in telemetry(observer), "worker 1 has something to report")
        assert hub.stop() == 0
        mark = observer.mark()
        hub = configure_hub(hierarchy, workers=1)
        hub.start()
        # Nobody has acknowledged its telemetry, so it comes again, from the disk.
        observer.until(lambda: observer.seen("/telemetry/hub.w1", mark), "worker 1 again")
        assert "worker 1 has left" not in hub.log
        batches = tuple(telemetry(observer)["hub.w1"])
        ack = pack(TelemetryAck(SCHEMA_VERSION, batches))
        observer.publish(f"{PREFIX}/{SITE}/telemetry-acks/hub.w1", ack)
        eventually(lambda: "worker 1 has left" in hub.log, "worker 1 has left")
        observer.all_predicted(burst(observer, 20, unsure(1)))


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_no_acknowledged_sample_is_lost_when_a_worker_is_killed_under_traffic(
    hierarchy: Hierarchy, protocol: str
) -> None:
    with hierarchy.observer() as observer:
        plant = Plant(hierarchy, 2, protocol)
        everything = burst(observer, 40, sure(0))
        # Nobody answers these questions for two seconds: they are in hand when the worker dies.
        everything += burst(observer, 60, unsure(0))
        victim = plant.pid(1)
        os.kill(victim, signal.SIGKILL)
        everything += burst(observer, 60, sure(1))
        plant.await_workers(3)
        assert plant.pid(1) != victim
        everything += burst(observer, 60, sure(2))
        observer.all_predicted(everything)
        last = observer.ask(sure(0))
        seen = seen_ids(observer)
        answers = {(one["id"], one["prediction"]) for one in observer.predictions()}
    assert set(seen) == {*everything, last["id"]}
    assert max(seen.values()) <= 2
    assert len(answers) == len(seen)


def test_no_worker_outlives_a_supervisor_that_is_killed_and_nothing_is_lost(
    hierarchy: Hierarchy,
) -> None:
    with hierarchy.observer() as observer:
        plant = Plant(hierarchy, 2)
        everything = burst(observer, 40, sure(0)) + burst(observer, 40, unsure(0))
        pids = [plant.pid(0), plant.pid(1)]
        plant.node.kill()
        eventually(lambda: not any(map(runs, pids)), "the workers have ended")
        everything += burst(observer, 40, sure(1))
        plant.node.start()
        plant.await_workers(4)
        everything += burst(observer, 40, sure(2))
        observer.all_predicted(everything)


def test_a_release_reaches_every_worker(hierarchy: Hierarchy) -> None:
    with hierarchy.observer() as observer:
        plant = Plant(hierarchy, 3)
        release = hierarchy.key.release(CHANNEL, 1, NEW_TURN)
        publish_release(observer, release, SITE)

        def committed() -> bool:
            report = observer.latest(update_topic("edge-1", CHANNEL)) or {}
            return report.get("state") == "COMMITTED"

        observer.until(committed, "the commit")
        serving = re.compile(r"w(\d) shared\.slot: meter: version v1 serves")
        eventually(lambda: set(serving.findall(plant.node.log)) == {"0", "1", "2"}, "all serve it")
        began = observer.mark()
        observer.all_predicted(burst(observer, 30, sure(0)))
        answers = observer.predictions(since=began)
        assert {one["model_version"] for one in answers} == {"v1"}
        assert {one["prediction"] for one in answers} == {label(0, NEW_TURN)}
        reports = observer.seen(update_topic("edge-1", CHANNEL))
        states = [seen.json["state"] for seen in reports]
        assert len(states) == len(set(states)), "only one worker reports"
        os.kill(plant.pid(2), signal.SIGKILL)
        plant.await_workers(4)
        assert len(serving.findall(plant.node.log)) == 4, "a new life begins with the release"


@pytest.mark.parametrize(("fewer", "protocol"), [(1, "3.1.1"), (2, "5")])
def test_the_share_of_workers_that_are_no_more_is_answered_and_then_goes_to_the_others(
    hierarchy: Hierarchy, fewer: int, protocol: str
) -> None:
    with hierarchy.observer() as observer:
        plant = Plant(hierarchy, 3, protocol)
        assert plant.node.stop() == 0
        # They wait in the sessions of all three.
        everything = burst(observer, 60, sure(0))
        plant.reconfigure(fewer)
        observer.all_predicted(everything)
        for index in range(fewer, 3):
            gone = f"worker {index} has left"
            eventually(lambda gone=gone: gone in plant.node.log, gone)  # type: ignore[misc]
            assert not has_session(hierarchy, f"{PREFIX}-{SITE}-edge-1-w{index}")
        later = burst(observer, 60, sure(1))
        observer.all_predicted(later)
        last = observer.ask(sure(2))
        assert seen_ids(observer) == Counter([*everything, *later, last["id"]])
        assert {one["prediction"] for one in observer.predictions()} == {
            label(direction, TIER1_TURN) for direction in range(3)
        }


@pytest.fixture
def splitting(require_mosquitto: None, tmp_path: Path) -> Iterator[Hierarchy]:
    """Mosquitto, which keeps sessions, and lets no message of the probe's shared part through."""
    acl = f"topic readwrite #\ntopic deny {PREFIX}/{SITE}/nodes/edge-1/probe/shared\n"
    (tmp_path / "acl").write_text(acl)
    with Hierarchy(tmp_path, "mosquitto", settings=f"acl_file {tmp_path / 'acl'}\n") as hierarchy:
        yield hierarchy


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2), (1, 2), (2, 1)])
def test_where_samples_are_split_none_is_lost_when_the_number_of_workers_changes(
    splitting: Hierarchy, before: int, after: int
) -> None:
    with splitting.observer() as observer:
        plant = Plant(splitting, before, verdict="split")
        everything = burst(observer, 40, sure(0))
        # Nobody answers these for two seconds: they are in hand when the node stops.
        everything += burst(observer, 60, unsure(0))
        plant.node.kill()
        everything += burst(observer, 60, sure(1))
        plant.reconfigure(after)
        everything += burst(observer, 60, sure(2))
        observer.all_predicted(everything)
        for index in range(after, before):
            gone = f"worker {index} has left"
            eventually(lambda gone=gone: gone in plant.node.log, gone)  # type: ignore[misc]
            assert not has_session(splitting, f"{PREFIX}-{SITE}-edge-1-w{index}")
        if after > 1:
            done = "nothing of before is left in the session"
            # A worker that is new has no session of before.
            count = min(before, after)
            eventually(lambda: plant.node.log.count(done) == count, "the end of the change")
        later = burst(observer, 40, sure(0))
        observer.all_predicted(later)
        observer.ask(sure(1))  # what is answered twice is so before this
        seen = seen_ids(observer)
        assert [seen[identity] for identity in later] == [1] * 40


def test_a_node_that_gets_workers_loses_and_repeats_nothing(hierarchy: Hierarchy) -> None:
    config = {"pipelines": {"meter": hierarchy.tier1_pipeline()}}
    with hierarchy.observer() as observer:
        alone = hierarchy.start("tier1", "edge-1", config)
        everything = burst(observer, 20, sure(0))
        observer.all_predicted(everything)
        assert alone.stop() == 0
        everything += burst(observer, 60, sure(1))
        plant = Plant(hierarchy, 2)
        observer.all_predicted(everything)
        later = burst(observer, 60, sure(2))
        observer.all_predicted(later)
        last = observer.ask(sure(0))
        assert seen_ids(observer) == Counter([*everything, *later, last["id"]])
        assert min(plant.answered(0), plant.answered(1)) > 0


def test_a_node_whose_model_cannot_serve_says_so_and_ends(hierarchy: Hierarchy) -> None:
    (hierarchy.folder / "tier1.onnx").write_bytes(b"no model")
    pipeline = hierarchy.tier1_pipeline()
    node = hierarchy.add("tier1", "edge-1", {"workers": 2, "pipelines": {"meter": pipeline}})
    node.start()
    eventually(lambda: not node.alive, "the node has ended")
    assert "tier1.onnx does not load" in node.log
    assert "started again" not in node.log


def test_workers_run_the_code_of_their_supervisor_wherever_it_was_started(
    hierarchy: Hierarchy, tmp_path: Path
) -> None:
    for name in ("shared", "tier1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not this one')")
    hierarchy.add(
        "tier1", "edge-1", {"workers": 2, "pipelines": {"meter": hierarchy.tier1_pipeline()}}
    )
    program = str(Path(sys.executable).with_name("escalon"))
    log_path = hierarchy.folder / "edge-1.log"
    with hierarchy.observer() as observer, log_path.open("wb") as log:
        process = subprocess.Popen(
            [program, "run", "edge-1.yaml"], stderr=log, stdin=subprocess.DEVNULL, cwd=tmp_path
        )
        try:
            eventually(lambda: log_path.read_text().count("samples are") == 2, "both are there")
            observer.all_predicted(burst(observer, 20, sure(0)))
        finally:
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0


def runs(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
