"""A hierarchy of real processes: brokers, nodes from YAML, and an observer that is none of ours.

Every process is started here and ended here by its handle. Waiting is always for a condition, with
a bound that only a failure reaches.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from unittest import mock

import paho.mqtt.client as mqtt
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from prometheus_client.parser import text_string_to_metric_families

from escalon.demo import broker as broker_module
from escalon.demo.broker import BrokerProcess, is_free, open_broker
from escalon.demo.broker_programs import find_mosquitto
from tests.integration.models import (
    LABELS,
    SHAPE,
    THRESHOLD,
    TIER1_TURN,
    TIER2_TURN,
    ReleaseKey,
    SignedRelease,
    model_bytes,
)

ROOT = Path(__file__).parents[2]
PREFIX, SITE = "escalon", "site-a"
TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
TAIL_LINES = 40
# Below the range from which Linux takes the ports of outgoing connections: nobody takes a port
# while its broker is away, and no client that knocks there connects to itself.
PORTS = range(20_000, 32_000)

BrokerKind = Literal["mosquitto", "amqtt"]
Result = TypeVar("Result")
Json = dict[str, Any]

RUNNING: list[Hierarchy] = []
"""What a failing test shows the logs of; see conftest.py."""


def quiet_port() -> int:
    """Returns a free port that neither a system service nor an outgoing connection takes."""
    return next(port for port in random.sample(PORTS, len(PORTS)) if is_free(port))


def eventually(
    condition: Callable[[], Result | None], what: str, timeout_s: float = TIMEOUT_S
) -> Result:
    """Waits until a condition returns something true; returns that.

    Args:
        condition: is looked at again and again.
        what: for the failure's message.
        timeout_s: a bound that only a failure reaches.
    """
    ends_s = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (result := condition()):
        assert time.monotonic() < ends_s, f"did not come about within {timeout_s:g} s: {what}"
        pause.wait(POLL_S)
    return result


@dataclass(frozen=True)
class Seen:
    """A message as an outsider saw it."""

    topic: str
    payload: bytes
    retained: bool

    @property
    def json(self) -> Json:
        """The payload, read with the standard library."""
        read: Json = json.loads(self.payload)
        return read


def mosquitto(folder: Path, settings: str) -> BrokerProcess:
    """Returns a Mosquitto with more settings than its usual ones; a later line wins."""
    program = find_mosquitto()
    assert program is not None

    def command(where: Path, port: int) -> list[str]:
        argv = program.command(where, port)
        path = Path(argv[-1])
        path.write_text(path.read_text() + settings)
        return argv

    return BrokerProcess(folder, replace(program, command=command))


def _without_delay(client: mqtt.Client, data: Any, opened: Any) -> None:
    """Nagle's algorithm would make each acknowledged publish 40 ms longer."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Observer:
    """A sensor and an onlooker: plain paho, MQTT 3.1.1, which sees every topic of a broker.

    Args:
        port: of the broker on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._seen: list[Seen] = []
        self._news = threading.Condition()
        self._ready = threading.Event()
        self._ids = itertools.count()
        self._name = f"observer-{random.getrandbits(48):012x}"
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            self._name,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.on_connect = lambda client, *_: client.subscribe(f"{PREFIX}/#", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.on_socket_open = _without_delay
        self._client.max_queued_messages_set(0)

    def __enter__(self) -> Self:
        """Connects and subscribes."""
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._ready.wait(TIMEOUT_S), "the broker does not answer the observer"
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnects."""
        self._client.disconnect()
        self._client.loop_stop()

    # As a sensor

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publishes with QoS 1 and waits for the broker's acknowledgement."""
        info = self._client.publish(topic, payload, 1, retain)
        info.wait_for_publish(TIMEOUT_S)
        assert info.is_published(), f"the broker did not take {topic}"

    def publish_many(self, messages: list[tuple[str, bytes]]) -> None:
        """Publishes with QoS 1, all at once, and waits for every acknowledgement."""
        infos = [self._client.publish(topic, payload, 1) for topic, payload in messages]
        for info in infos:
            info.wait_for_publish(TIMEOUT_S)
            assert info.is_published(), "the broker did not take a sample"

    def publish_into_the_void(self, topic: str, payload: bytes) -> None:
        """Publishes what the broker does not take; returns when it has hung up."""
        gone = threading.Event()
        self._client.on_disconnect = lambda *_: gone.set()
        self._client.publish(topic, payload, 1)
        assert gone.wait(TIMEOUT_S), "the broker took what is too large"

    def new_id(self) -> str:
        """Returns an id that no other sample has."""
        return f"{self._name}-{next(self._ids)}"

    def send(self, features: list[float], sensor: str = "cam-1", pipeline: str = "meter") -> str:
        """Publishes a sample; returns its id."""
        identity = self.new_id()
        payload = json.dumps({"id": identity, "timestamp": time.time(), "features": features})
        self.publish(samples_topic(sensor, pipeline), payload.encode())
        return identity

    def ask(self, features: list[float], sensor: str = "cam-1", pipeline: str = "meter") -> Json:
        """Publishes a sample; returns its prediction."""
        return self.prediction(self.send(features, sensor, pipeline))

    # As an onlooker

    def mark(self) -> int:
        """Returns a place in the stream of messages, for ``seen``."""
        with self._news:
            return len(self._seen)

    def seen(self, topic_part: str = "", since: int = 0) -> list[Seen]:
        """Returns the messages whose topic holds a text, oldest first."""
        with self._news:
            return [message for message in self._seen[since:] if topic_part in message.topic]

    def mark_when_seen(self, topic_part: str, payloads: set[bytes], since: int = 0) -> int:
        """Waits until all these payloads were seen on such topics; returns the place after."""

        def all_seen() -> bool:
            return payloads <= {message.payload for message in self.seen(topic_part, since)}

        self.until(all_seen, f"{len(payloads)} payloads on {topic_part}")
        return self.mark()

    def predictions(self, since: int = 0) -> list[Json]:
        """Returns all predictions, oldest first."""
        return [message.json for message in self.seen("/predictions/", since)]

    def answers(self, identity: str) -> list[Json]:
        """Returns the predictions and corrections of a sample, oldest first."""
        return [answer for answer in self.predictions() if answer["id"] == identity]

    def prediction(self, identity: str) -> Json:
        """Waits for the first prediction of a sample."""
        return self.until(lambda: self.answers(identity), f"a prediction of {identity}")[0]

    def all_predicted(self, identities: list[str]) -> None:
        """Waits until every one of these samples has a prediction."""
        wanted = set(identities)

        def none_missing() -> bool:
            return not wanted - {answer["id"] for answer in self.predictions()}

        self.until(none_missing, f"predictions of {len(wanted)} samples")

    def latest(self, topic: str) -> Json | None:
        """Returns the last JSON on a topic, as a retained message shows it."""
        found = [message for message in self.seen(topic) if message.topic == topic]
        return found[-1].json if found else None

    def until(self, condition: Callable[[], Result | None], what: str) -> Result:
        """Waits until a condition on what was seen returns something true; returns that."""
        ends_s = time.monotonic() + TIMEOUT_S
        with self._news:
            while not (result := condition()):
                if not self._news.wait(ends_s - time.monotonic()):
                    break
        assert result, f"did not come within {TIMEOUT_S:g} s: {what}; seen: {self._summary()}"
        return result

    def _summary(self) -> dict[str, int]:
        return dict(Counter(message.topic for message in self.seen()).most_common(30))

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        with self._news:
            self._seen.append(Seen(message.topic, bytes(message.payload), message.retain))
            self._news.notify_all()


class Node:
    """A node's process.

    Args:
        name: the node's name.
        command: what to run.
        log_path: takes its output, of all its lives.
    """

    def __init__(self, name: str, command: list[str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has said in all its lives."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def metrics_url(self) -> str:
        """Where the metrics of its latest life are; waits until its log says so."""

        def said() -> list[str]:
            return re.findall(r"metrics at (http:\S+)", self.log)

        return eventually(said, f"the metrics' address of {self.name}")[-1]

    def stop(self) -> int:
        """Ends it by SIGTERM; returns its exit code. One that does not end is killed: a failure."""
        process = self._running()
        process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} does not end on SIGTERM") from None

    def kill(self) -> None:
        """Ends it by SIGKILL, as a crash or a power cut would."""
        process = self._running()
        process.kill()
        process.wait()

    def pause(self) -> None:
        """Stops it without ending it (SIGSTOP); returns when it has stopped."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{process.pid}/stat")
        if stat.exists():
            eventually(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", "SIGSTOP")

    def resume(self) -> None:
        """Lets it go on (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it, however it is."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was not started"
        assert self._process.poll() is None, f"{self.name} has ended:\n{tail(self.log)}"
        return self._process


class Hierarchy:
    """Brokers and nodes in a folder.

    Args:
        folder: for configurations, state and logs.
        kind: which broker.
        two_brokers: whether the cloud has a broker of its own.
        settings: lines that the site's Mosquitto gets beside its usual ones.
    """

    def __init__(
        self, folder: Path, kind: BrokerKind, *, two_brokers: bool = False, settings: str = ""
    ) -> None:
        self.folder = folder
        self.kind = kind
        self.key = ReleaseKey()
        self.nodes: dict[str, Node] = {}
        self.broker = open_broker(folder / "broker", kind)
        if settings:
            self.broker = mosquitto(folder / "broker", settings)
        self.cloud_broker = open_broker(folder / "cloud-broker", kind) if two_brokers else None

    def __enter__(self) -> Self:
        """Starts the brokers, writes key and models."""
        self.folder.mkdir(parents=True, exist_ok=True)
        RUNNING.append(self)
        files = {
            "release.key": self.key.private_pem,
            "trust.signed": self.key.trust_file,
            "tier1.onnx": model_bytes(TIER1_TURN),
            "tier2.onnx": model_bytes(TIER2_TURN, fragile=False),
        }
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        try:
            self.start_brokers()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends every process."""
        for node in self.nodes.values():
            node.close()
        for broker in self.brokers:
            broker.stop()
        RUNNING.remove(self)

    @property
    def brokers(self) -> list[BrokerProcess]:
        """The site's broker, and the cloud's if it is another."""
        return [self.broker] + ([self.cloud_broker] if self.cloud_broker else [])

    def start_brokers(self) -> None:
        """Starts the brokers; on the same ports as before, if they ran."""
        with mock.patch.object(broker_module, "free_port", quiet_port):
            for broker in self.brokers:
                broker.start()

    def observer(self) -> Observer:
        """Returns an observer of the site's broker."""
        return Observer(self.broker.port)

    # Nodes

    def start(self, role: str, name: str, config: Json) -> Node:
        """Writes a node's YAML, starts it, and waits until it says that it is there."""
        node = self.add(role, name, config)
        self.restart(node)
        return node

    def add(self, role: str, name: str, config: Json) -> Node:
        """Writes a node's YAML; nothing runs yet."""
        path = self.write(name, {"role": role, "node": name, **self.common(name), **config})
        command = [sys.executable, "-m", role, str(path)]
        node = self.nodes[name] = Node(name, command, self.folder / f"{name}.log")
        return node

    def write(self, name: str, config: Json) -> Path:
        """Writes a YAML file."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    def common(self, name: str) -> Json:
        """What every node's YAML has."""
        return {
            "site": SITE,
            "broker": {"url": self.broker.url},
            "state_dir": str(self.folder / name),
            "metrics": {"port": 0},
        }

    def restart(self, node: Node) -> None:
        """Starts a node that does not run, and waits until it says that it is there."""
        began = time.time()
        with self.observer() as observer:
            node.start()

            def is_there() -> bool:
                assert node.alive, f"{node.name} has ended:\n{tail(node.log)}"
                # What its last life said may be retained still.
                infos = observer.seen(f"nodes/{node.name}/info")
                return any(info.json["started"] >= began for info in infos)

            eventually(is_there, f"the info of {node.name}")

    def tier1_pipeline(self, **changes: Any) -> Json:
        """A pipeline of tier-1 with a model file: sure at ``sure``, not sure at ``unsure``."""
        return {
            "input": {"shape": list(SHAPE)},
            "model": self.model("tier1.onnx", "local-1"),
            "escalation": {"deadline_ms": 2000, "audit_share": 0},
            **changes,
        }

    def tier2_pipeline(self, **changes: Any) -> Json:
        """A pipeline of tier-2 with a model file."""
        return {
            "input": {"shape": list(SHAPE)},
            "model": self.model("tier2.onnx", "local-2"),
            **changes,
        }

    def model(self, file: str, version: str) -> Json:
        """A ``model:`` section."""
        return {
            "path": str(self.folder / file),
            "version": version,
            "labels": list(LABELS),
            "scores": "logits",
            "threshold": THRESHOLD,
        }

    def releases(self, channel: str, **changes: Any) -> Json:
        """A ``releases:`` section."""
        return {
            "channel": channel,
            "trust": str(self.folder / "trust.signed"),
            "probation_s": 0.3,
            **changes,
        }

    def drops(self, node: str, observer: Observer) -> Counter[str]:
        """Returns a node's counted drops by reason, from the URL in its retained info."""
        info = observer.until(lambda: observer.latest(info_topic(node)), f"the info of {node}")
        return drops(info["metrics_url"])

    def logs(self) -> Iterator[tuple[str, str]]:
        """Yields the end of each log, by its name."""
        for broker in self.brokers:
            if broker.log_path.exists():
                yield broker.folder.name, tail(broker.log_path.read_text(errors="replace"))
        for node in self.nodes.values():
            yield node.name, tail(node.log)


def drops(metrics_url: str) -> Counter[str]:
    """Returns the counted drops by reason."""
    return Counter(
        {
            sample.labels["reason"]: int(sample.value)
            for sample in metrics(metrics_url)
            if sample.name == "edge_drops_total"
        }
    )


def metrics(url: str) -> list[Any]:
    """Returns all samples that a node's metrics hold."""
    with contextlib.closing(urllib.request.urlopen(url, timeout=TIMEOUT_S)) as response:
        text = response.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def metric(url: str, name: str, **labels: str) -> float:
    """Returns a metric's value; 0 where it was never counted."""
    found = [each for each in metrics(url) if each.name == name and each.labels == labels]
    return float(found[0].value) if found else 0.0


def publish_release(observer: Observer, release: SignedRelease, site: str = "cloud") -> None:
    """Publishes a release by hand as the cloud does: all chunks retained, then the manifest."""
    for index, chunk in enumerate(chunks(release)):
        observer.publish(chunk_topic(release, index, site), chunk, retain=True)
    publish_manifest(observer, release, site)


def publish_manifest(observer: Observer, release: SignedRelease, site: str = "cloud") -> None:
    """Publishes a signed manifest, retained."""
    topic = f"{PREFIX}/{site}/releases/{release.manifest.channel}"
    observer.publish(topic, release.envelope, retain=True)


def chunks(release: SignedRelease) -> list[bytes]:
    """Cuts an artefact as its manifest says, independently of the product's own code."""
    size, data = release.file.chunk_bytes, release.artefact
    return [data[start : start + size] for start in range(0, len(data), size)]


def chunk_topic(release: SignedRelease, index: int, site: str = "cloud") -> str:
    """Where a chunk is published."""
    return f"{PREFIX}/{site}/blobs/{release.file.sha256}/{index}"


def samples_topic(sensor: str, pipeline: str = "meter") -> str:
    """Where a sensor publishes."""
    return f"{PREFIX}/{SITE}/{pipeline}/samples/{sensor}"


def info_topic(node: str) -> str:
    """Where a node says what it is."""
    return f"{PREFIX}/{SITE}/nodes/{node}/info"


def update_topic(node: str, channel: str) -> str:
    """Where a node reports an update."""
    return f"{PREFIX}/{SITE}/nodes/{node}/updates/{channel}"


def tail(text: str) -> str:
    """Returns the last lines of a log."""
    return "\n".join(text.splitlines()[-TAIL_LINES:])
