"""One contract for both brokers that the demo may run on."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from escalon.demo import broker as broker_module
from escalon.demo import broker_programs
from escalon.demo.broker import (
    BrokerProcess,
    BrokerUnavailableError,
    accepts_mqtt,
    free_port,
    is_free,
    open_broker,
)
from escalon.demo.broker_programs import mosquitto_config

TIMEOUT_S = 10.0
BrokerKind = Literal["mosquitto", "amqtt"]


class Peer:
    """A paho client that keeps what it receives; MQTT 3.1.1, which both brokers speak."""

    def __init__(self, broker: BrokerProcess, client_id: str, will: str | None = None) -> None:
        """Store the arguments; ``will`` is the topic of a last will."""
        self._port = broker.port
        self._inbox: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self._connected = threading.Event()
        self._subscribed = threading.Event()
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        self.client.on_connect = lambda *_: self._connected.set()
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = lambda _client, _userdata, message: self._inbox.put(message)
        if will is not None:
            self.client.will_set(will, b"gone", qos=1)

    def __enter__(self) -> Self:
        """Connect."""
        self.client.connect("127.0.0.1", self._port)
        self.client.loop_start()
        assert self._connected.wait(TIMEOUT_S)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe at QoS 1 and wait for the SUBACK."""
        self._subscribed.clear()
        self.client.subscribe(topic_filter, qos=1)
        assert self._subscribed.wait(TIMEOUT_S)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish at QoS 1 and wait for the PUBACK."""
        info = self.client.publish(topic, payload, qos=1, retain=retain)
        info.wait_for_publish(TIMEOUT_S)
        assert info.is_published()

    def receive(self) -> mqtt.MQTTMessage:
        """Return the next message."""
        return self._inbox.get(timeout=TIMEOUT_S)

    def vanish(self) -> None:
        """Close the connection without a DISCONNECT, as a crash does."""
        connection = self.client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=["mosquitto", "amqtt"])
def kind(request: pytest.FixtureRequest) -> BrokerKind:
    """Each broker in turn."""
    if request.param == "mosquitto":
        request.getfixturevalue("require_mosquitto")
    chosen: BrokerKind = request.param
    return chosen


@pytest.fixture
def broker(kind: BrokerKind, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A running broker."""
    with open_broker(tmp_path / "broker", kind) as running:
        yield running


@pytest.fixture
def mosquitto(require_mosquitto: None, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A running Mosquitto, for what only Mosquitto can do."""
    with open_broker(tmp_path / "broker with a space", "mosquitto") as running:
        yield running


def test_qos1_message_reaches_a_subscriber(broker: BrokerProcess) -> None:
    with Peer(broker, "publisher") as publisher, Peer(broker, "subscriber") as subscriber:
        subscriber.subscribe("site/+/reading")
        publisher.publish("site/7/reading", b"21.5")
        message = subscriber.receive()
    assert (message.topic, message.payload, message.qos) == ("site/7/reading", b"21.5", 1)
    assert not message.retain


def test_retained_message_reaches_a_later_subscriber(broker: BrokerProcess) -> None:
    with Peer(broker, "publisher") as publisher:
        publisher.publish("manifest", b"v1", retain=True)
    with Peer(broker, "subscriber") as subscriber:
        subscriber.subscribe("manifest")
        message = subscriber.receive()
    assert message.payload == b"v1"
    assert message.retain


def test_retained_message_is_sent_again_to_who_subscribes_again(broker: BrokerProcess) -> None:
    with Peer(broker, "both") as peer:
        peer.publish("manifest", b"v1", retain=True)
        for _ in range(2):
            peer.subscribe("manifest")
            assert peer.receive().payload == b"v1"


def test_empty_payload_clears_a_retained_message(broker: BrokerProcess) -> None:
    with Peer(broker, "publisher") as publisher:
        publisher.publish("manifest", b"v1", retain=True)
        publisher.publish("manifest", b"", retain=True)
    with Peer(broker, "subscriber") as subscriber:
        subscriber.subscribe("manifest")
        subscriber.publish("manifest", b"live")
        message = subscriber.receive()
    assert message.payload == b"live"


def test_client_gets_no_retained_message_that_only_others_asked_for(broker: BrokerProcess) -> None:
    with Peer(broker, "owner") as owner:
        owner.subscribe("chunks/#")
        owner.publish("chunks/0", b"model", retain=True)
        with Peer(broker, "newcomer") as newcomer:
            newcomer.subscribe("own")
            newcomer.publish("own", b"mine")
            assert newcomer.receive().topic == "own"


def test_chunk_of_64_kib_with_its_header_passes_unchanged(broker: BrokerProcess) -> None:
    chunk = bytes(range(256)) * 256 + b"header" * 20
    with Peer(broker, "peer") as peer:
        peer.subscribe("chunk")
        peer.publish("chunk", chunk)
        assert peer.receive().payload == chunk


def test_last_will_is_delivered_when_a_client_vanishes(broker: BrokerProcess) -> None:
    with Peer(broker, "watcher") as watcher, Peer(broker, "node", will="status/node") as node:
        watcher.subscribe("status/#")
        node.vanish()
        message = watcher.receive()
    assert (message.topic, message.payload) == ("status/node", b"gone")


def test_no_last_will_after_a_proper_disconnect(broker: BrokerProcess) -> None:
    with Peer(broker, "watcher") as watcher:
        watcher.subscribe("status/#")
        with Peer(broker, "node", will="status/node") as node:
            node.publish("status/other", b"bye")
        watcher.publish("status/watcher", b"after")
        assert [watcher.receive().payload for _ in range(2)] == [b"bye", b"after"]


def test_stop_ends_the_process_and_frees_the_port(broker: BrokerProcess) -> None:
    process = broker.process
    assert process is not None
    with Peer(broker, "still connected"):
        broker.stop()
    assert process.returncode is not None
    assert not accepts_mqtt(broker.port)
    assert is_free(broker.port)


def test_sigterm_is_a_clean_exit(broker: BrokerProcess) -> None:
    assert broker.process is not None
    with Peer(broker, "still connected"):
        broker.process.send_signal(signal.SIGTERM)
        assert broker.process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize("end", [BrokerProcess.stop, BrokerProcess.kill], ids=["stop", "kill"])
def test_start_works_again_on_the_same_port(
    broker: BrokerProcess, end: Callable[[BrokerProcess], None]
) -> None:
    port = broker.port
    end(broker)
    end(broker)
    broker.start()
    assert broker.port == port
    with Peer(broker, "peer") as peer:
        peer.subscribe("again")
        peer.publish("again", b"1")
        assert peer.receive().payload == b"1"


def test_start_replaces_a_broker_that_died(broker: BrokerProcess) -> None:
    assert broker.process is not None
    broker.process.kill()
    broker.process.wait(TIMEOUT_S)
    broker.start()
    assert accepts_mqtt(broker.port)


def test_start_of_a_running_broker_changes_nothing(broker: BrokerProcess) -> None:
    process = broker.process
    broker.start()
    assert broker.process is process


def test_restart_on_a_port_that_another_took_is_an_error(broker: BrokerProcess) -> None:
    port = broker.port
    broker.stop()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(BrokerUnavailableError, match=f"port {port}"),
    ):
        broker.start()


def test_port_taken_between_choice_and_bind_is_left_for_another(
    kind: BrokerKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = taken.getsockname()[1]
        ports = iter([taken_port, free_port()])
        monkeypatch.setattr(broker_module, "is_free", lambda port: True)
        monkeypatch.setattr(broker_module, "free_port", lambda: next(ports))
        with _hanging_up(taken), open_broker(tmp_path, kind) as running:
            assert running.port != taken_port
            assert accepts_mqtt(running.port)


@contextlib.contextmanager
def _hanging_up(server: socket.socket) -> Iterator[None]:
    """Accept and close: a listener that does not speak MQTT."""

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                server.accept()[0].close()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    server.shutdown(socket.SHUT_RDWR)
    thread.join(TIMEOUT_S)


def test_broker_is_not_in_our_process_group(broker: BrokerProcess) -> None:
    assert broker.process is not None
    assert os.getsid(broker.process.pid) == broker.process.pid != os.getsid(0)


def test_name_and_url_say_what_runs_and_where(broker: BrokerProcess, kind: BrokerKind) -> None:
    assert broker.name.startswith({"mosquitto": "Mosquitto 2.", "amqtt": "amqtt "}[kind])
    assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    assert broker.log_path.exists()


def test_broker_that_does_not_start_is_reported_with_its_log(
    require_mosquitto: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_programs, "MOSQUITTO_CONFIG", "no_such_option 1\n")
    refused = open_broker(tmp_path, "mosquitto")
    with pytest.raises(BrokerUnavailableError, match="no_such_option"):
        refused.start()
    assert refused.process is None


def test_url_before_the_first_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailableError, match="start"):
        _ = open_broker(tmp_path, "amqtt").url


@pytest.mark.parametrize(
    ("missing", "expected"),
    [((), "Mosquitto"), (("find_mosquitto",), "amqtt")],
    ids=["mosquitto-first", "amqtt-otherwise"],
)
def test_auto_prefers_mosquitto(
    missing: tuple[str, ...],
    expected: str,
    require_mosquitto: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for finder in missing:
        monkeypatch.setattr(broker_module, finder, lambda: None)
    assert open_broker(tmp_path).name.startswith(expected)


@pytest.mark.parametrize("prefer", ["auto", "mosquitto", "amqtt"])
def test_no_broker_installed_is_a_clear_error(
    prefer: Literal["auto", "mosquitto", "amqtt"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker_module, "find_mosquitto", lambda: None)
    monkeypatch.setattr(broker_module, "find_amqtt", lambda: None)
    with pytest.raises(BrokerUnavailableError, match="install Mosquitto"):
        open_broker(tmp_path, prefer)


@pytest.mark.parametrize("user_id", [0, 1000], ids=["root", "plain-user"])
def test_mosquitto_keeps_its_user_only_as_root(
    user_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user_id)
    assert ("user root" in mosquitto_config(tmp_path, 1883)) == (user_id == 0)


def test_mosquitto_listens_on_loopback_only(mosquitto: BrokerProcess) -> None:
    config = (mosquitto.folder / "mosquitto.conf").read_text()
    assert f"listener {mosquitto.port} 127.0.0.1\n" in config


def test_mosquitto_keeps_retained_messages_over_a_restart(mosquitto: BrokerProcess) -> None:
    with Peer(mosquitto, "publisher") as publisher:
        publisher.publish("manifest", b"v1", retain=True)
    mosquitto.stop()
    mosquitto.start()
    with Peer(mosquitto, "subscriber") as subscriber:
        subscriber.subscribe("manifest")
        assert subscriber.receive().payload == b"v1"
