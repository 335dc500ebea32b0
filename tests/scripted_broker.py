"""A broker that does what a test says, byte by byte: refusals, silence, limits, nonsense."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CONNECT = 0x10
SUBSCRIBE = 0x82
UNSUBSCRIBE = 0xA2
DISCONNECT = 0xE0
ACCEPT = {"3.1.1": b"\x20\x02\x00\x00", "5": b"\x20\x03\x00\x00\x00"}


class Peer:
    """The broker's end of one connection.

    Args:
        connection: the socket.
        number: of the connection, from 1 up.
    """

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.number = number
        self._connection = connection
        self._reader = connection.makefile("rb")

    def receive(self) -> tuple[int, bytes] | None:
        """Returns the next packet's first byte and body, or None at the end or the farewell."""
        head = self._reader.read(1)
        if not head or head[0] == DISCONNECT:
            return None
        length = shift = 0
        while True:
            (byte,) = self._reader.read(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 128:
                return head[0], self._reader.read(length)

    def until(self, *heads: int) -> bytes:
        """Reads until a packet of a kind comes; returns its body. The link went away: EOFError."""
        while (packet := self.receive()) is not None:
            if packet[0] in heads:
                return packet[1]
        raise EOFError

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self._connection.sendall(data)

    def accept(self, protocol: str) -> None:
        """Takes the CONNECT and accepts it."""
        self.until(CONNECT)
        self.send(ACCEPT[protocol])

    def drain(self) -> None:
        """Reads until the link goes away."""
        while self.receive() is not None:
            pass


class ScriptedBroker:
    """Runs a script on each connection, and ends it when the script does.

    Args:
        script: what it does.
    """

    def __init__(self, script: Callable[[Peer], None]) -> None:
        self._script = script
        self._listener = socket.create_server((HOST, 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.connections = 0
        self.failures: list[Exception] = []

    @property
    def url(self) -> str:
        """What a link connects to."""
        return f"mqtt://{HOST}:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        """Listens."""
        self._run(self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends everything; a script that failed makes the test fail."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        assert self.failures == []

    def _run(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open.append(connection)
            self._run(self._serve, connection, self.connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection:
            try:
                self._script(Peer(connection, number))
            except (OSError, EOFError, ValueError):
                pass  # the link went away
            except Exception as error:
                self.failures.append(error)


def publish(topic: bytes, payload: bytes, mid: int = 0, *, protocol: str, qos: int = 1) -> bytes:
    """Encodes a short PUBLISH, independently of the product's own code."""
    body = len(topic).to_bytes(2, "big") + topic
    if mid:
        body += mid.to_bytes(2, "big")
    if protocol == "5":
        body += b"\0"
    body += payload
    assert len(body) < 128
    return bytes((0x30 | (qos << 1 if mid else 0), len(body))) + body
