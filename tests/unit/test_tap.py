"""The tap takes the traffic off the stream, writes in one go, and leaves paho the rest."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.client import Client

from shared.mqtt.packet_stream import PacketStream
from shared.mqtt.packets import encode_publish, encode_topic
from shared.mqtt.tap import READ_BYTES, WRITE_BYTES, Tap, misfit

SUBACK = b"\x90\x03\x00\x01\x01"
DISCONNECT = b"\xe0\x00"
MESSAGE = encode_publish(encode_topic("t"), b"x" * 100, 1)


def stream() -> PacketStream:
    return PacketStream(five=False, max_packet_bytes=2**22, session=1, topics={})


@pytest.fixture
def ends() -> Iterator[tuple[Tap, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    tap = Tap(ours, stream())
    yield tap, theirs
    tap.lost = True
    tap.close()
    theirs.close()


def receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += connection.recv(size - len(received))
    return received


def test_paho_reads_its_own_packets_and_not_the_messages(ends: tuple[Tap, socket.socket]) -> None:
    tap, broker = ends
    broker.sendall(MESSAGE + SUBACK + MESSAGE)
    assert not tap.fill()
    assert tap.recv(1) + tap.recv(100) == SUBACK
    with pytest.raises(BlockingIOError):
        tap.recv(1)
    assert len(tap.stream.take().messages) == 2


def test_more_is_announced_while_a_read_is_full(ends: tuple[Tap, socket.socket]) -> None:
    tap, broker = ends
    sender = threading.Thread(target=broker.sendall, args=(MESSAGE * 10_000,))
    sender.start()
    count = 0
    while count < 10_000:
        tap.fill()
        count += len(tap.stream.take().messages)
    sender.join()
    assert count == 10_000
    assert not tap.fill()
    assert len(MESSAGE) * 10_000 > READ_BYTES


def test_what_is_queued_leaves_in_order_and_in_one_write(ends: tuple[Tap, socket.socket]) -> None:
    tap, broker = ends
    tap.queue(MESSAGE)
    assert tap.send(SUBACK) == len(SUBACK)
    tap.queue(MESSAGE)
    assert tap.unsent_bytes == 2 * len(MESSAGE) + len(SUBACK)
    tap.drain()
    assert tap.unsent_bytes == 0
    assert broker.recv(1000) == MESSAGE + SUBACK + MESSAGE


def test_a_socket_that_takes_a_part_gets_the_rest_later(ends: tuple[Tap, socket.socket]) -> None:
    tap, broker = ends
    packets = [bytes((index,)) * 70_000 for index in range(40)] + [b"!" * (2 * WRITE_BYTES)]
    for packet in packets:
        tap.queue(packet)
    whole = b"".join(packets)
    tap.drain()
    assert 0 < tap.unsent_bytes < len(whole)
    received = b""
    while len(received) < len(whole):
        tap.drain()
        received += broker.recv(2**20)
    assert received == whole
    assert tap.unsent_bytes == 0


@pytest.mark.parametrize("how", ["closed", "reset", "nonsense"])
def test_a_connection_that_ended_is_found_so_by_paho(
    ends: tuple[Tap, socket.socket], how: str
) -> None:
    tap, broker = ends
    broker.sendall(SUBACK)
    if how == "nonsense":
        broker.sendall(b"\x32\x05\x00\x01t\x00\x00")
    else:
        if how == "reset":
            tap.queue(MESSAGE)
            tap.drain()
        broker.close()
    while not tap.lost:
        tap.fill()
    if how != "reset":
        assert tap.recv(100) == SUBACK
    assert tap.recv(100) == b"" or how == "reset"
    assert not tap.fill()
    with pytest.raises(ConnectionResetError):
        tap.send(SUBACK)


def test_a_write_into_a_lost_connection_is_found_too(ends: tuple[Tap, socket.socket]) -> None:
    tap, broker = ends
    broker.close()
    tap.queue(MESSAGE)
    tap.drain()
    tap.queue(MESSAGE)
    assert tap.unsent_bytes == 0
    assert not tap.fill()
    assert tap.lost
    tap.drain()


def test_what_a_broker_sent_before_it_died_is_read_though_a_write_failed_first() -> None:
    ours, theirs = tcp_pair()
    ours.setblocking(False)
    tap = Tap(ours, stream())
    tap.queue(MESSAGE)
    tap.drain()
    theirs.sendall(MESSAGE * 3)
    theirs.close()  # with bytes unread, so that it resets the connection
    tap.queue(MESSAGE)
    tap.drain()
    assert not tap.lost
    while not tap.lost:
        tap.fill()
    assert len(tap.stream.take().messages) == 3
    tap.close()


def test_a_farewell_reaches_a_broker_that_is_still_sending() -> None:
    # Closing with bytes unread resets the connection, and the broker loses what it has not read.
    ours, theirs = tcp_pair()
    ours.setblocking(False)
    tap = Tap(ours, stream())
    theirs.sendall(MESSAGE * 100)
    tap.queue(MESSAGE)
    tap.send(DISCONNECT)
    closing = threading.Thread(target=tap.close)
    closing.start()
    assert receive(theirs, len(MESSAGE) + 2) == MESSAGE + DISCONNECT
    theirs.close()
    closing.join()


def test_a_broker_that_does_not_end_the_connection_is_not_waited_for(
    ends: tuple[Tap, socket.socket],
) -> None:
    tap, broker = ends
    tap.send(DISCONNECT)
    tap.close()
    assert broker.recv(10) == DISCONNECT


# TLS


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    return ours, theirs


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "broker.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def encrypted(certificate: Path) -> Iterator[tuple[Tap, ssl.SSLSocket]]:
    ours, theirs = tcp_pair()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    accepted: list[ssl.SSLSocket] = []
    shaking = threading.Thread(
        target=lambda: accepted.append(serving.wrap_socket(theirs, server_side=True))
    )
    shaking.start()
    trusting = ssl.create_default_context(cafile=str(certificate))
    client = trusting.wrap_socket(ours, server_hostname="localhost")
    shaking.join()
    client.setblocking(False)
    tap = Tap(client, stream())
    yield tap, accepted[0]
    tap.lost = True
    tap.close()
    accepted[0].close()


def test_everything_that_tls_has_decrypted_is_read(encrypted: tuple[Tap, ssl.SSLSocket]) -> None:
    tap, broker = encrypted
    sender = threading.Thread(target=broker.sendall, args=(MESSAGE * 5000,))
    sender.start()
    count = 0
    while count < 5000:
        while tap.fill():
            pass
        # No ``select`` would show what is left here.
        assert tap.pending() == 0
        count += len(tap.stream.take().messages)
    sender.join()
    assert count == 5000


def test_a_part_that_tls_could_not_write_goes_first_the_next_time(
    encrypted: tuple[Tap, ssl.SSLSocket],
) -> None:
    tap, broker = encrypted
    packets = [bytes((index,)) * 60_000 for index in range(200)]
    for packet in packets:
        tap.queue(packet)
    tap.drain()
    assert tap.unsent_bytes > 0
    tap.queue(b"!")
    whole = b"".join(packets) + b"!"
    received = b""
    while len(received) < len(whole):
        tap.drain()
        received += broker.recv(2**20)
    assert received == whole


# The seam


def test_the_paho_that_is_installed_can_be_tapped() -> None:
    # When this fails, a new paho has broken the seam: run the contract suite with it, mend the
    # tap, and add the version to ``TESTED``.
    assert misfit() is None


def test_a_paho_of_an_untested_version_is_not_tapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paho.mqtt, "__version__", "2.99.0")
    assert "2.99.0" in (misfit() or "")


def without_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Client, "_create_socket")


def with_another_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "_create_socket", lambda self, host: None)


def without_a_call_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def reconnect(self: Any) -> None:
        self.connect_in_another_way()

    monkeypatch.setattr(Client, "reconnect", reconnect)


@pytest.mark.parametrize(
    "change", [without_the_method, with_another_signature, without_a_call_of_it]
)
def test_a_paho_without_the_seam_is_not_tapped(
    change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch)
    assert "_create_socket" in (misfit() or "")
