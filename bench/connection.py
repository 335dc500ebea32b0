"""A raw MQTT connection of the load generator: bytes out, bytes in."""

from __future__ import annotations

import contextlib
import socket
from types import TracebackType
from typing import Self

from bench import packets
from bench.errors import BenchError

HOST = "127.0.0.1"
BUFFER_BYTES = 2**18
TIMEOUT_S = 10.0


class Connection:
    """A socket that never blocks once it is connected.

    Args:
        port: the broker's, on 127.0.0.1.
        client_id: unique on the broker.
    """

    def __init__(self, port: int, client_id: str) -> None:
        self._port = port
        self._client_id = client_id
        self._unsent = bytearray()
        self._arrived = bytearray(BUFFER_BYTES)

    def __enter__(self) -> Self:
        """Connects.

        Raises:
            BenchError: the broker refuses.
        """
        with contextlib.ExitStack() as opened:
            self._socket = opened.enter_context(self._connected())
            self._ask(packets.connect(self._client_id), packets.CONNACK, b"\x00\x00")
            opened.pop_all()
        self._socket.setblocking(False)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Says goodbye, where the broker still listens, and closes."""
        with self._socket, contextlib.suppress(BenchError):
            self.send(packets.DISCONNECT)

    def fileno(self) -> int:
        """Returns the descriptor, for ``select``."""
        return self._socket.fileno()

    @property
    def unsent_bytes(self) -> int:
        """What the socket has not taken yet."""
        return len(self._unsent)

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Subscribes, and waits for the broker's answer. Only before the first message.

        Raises:
            BenchError: the broker refuses.
        """
        self._socket.settimeout(TIMEOUT_S)
        granted = b"\x00\x01" + bytes([qos])
        self._ask(packets.subscribe(topic_filter, qos), packets.SUBACK, granted)
        self._socket.setblocking(False)

    def send(self, data: bytes) -> None:
        """Sends, or keeps what the socket does not take now."""
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Sends what was kept, as far as the socket takes it."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError as error:
            raise BenchError(f"the broker hung up on the load generator: {error}") from error

    def receive(self) -> memoryview:
        """Returns what is there, at most 256 KiB; it is overwritten by the next call.

        Raises:
            BenchError: the broker hung up.
        """
        try:
            size = self._socket.recv_into(self._arrived)
        except BlockingIOError:
            return memoryview(b"")
        except OSError as error:
            raise BenchError(f"the broker hung up on the load generator: {error}") from error
        if not size:
            raise BenchError("the broker hung up on the load generator")
        return memoryview(self._arrived)[:size]

    def _connected(self) -> socket.socket:
        try:
            connected = socket.create_connection((HOST, self._port), TIMEOUT_S)
        except OSError as error:
            raise BenchError(f"no broker on port {self._port}: {error}") from error
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    def _ask(self, question: bytes, answer: int, expected: bytes) -> None:
        wanted = packets.packet(answer, expected)
        try:
            self._socket.sendall(question)
            got = b""
            while len(got) < len(wanted) and (more := self._socket.recv(len(wanted) - len(got))):
                got += more
        except OSError as error:
            raise BenchError(f"the broker does not answer: {error}") from error
        if got != wanted:
            raise BenchError(f"the broker answers {got.hex()}, not {wanted.hex()}")
