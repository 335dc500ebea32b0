"""Stands between a node and its broker and notes every message and acknowledgement that passes."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

HOST = "127.0.0.1"
CHUNK_BYTES = 2**16
PUBLISH, PUBACK = 3, 4


class Passed(NamedTuple):
    """A PUBLISH or a PUBACK of MQTT 3.1.1.

    Attributes:
        connection: counts the node's connections, from 1 up.
        to_node: whether the broker sent it.
        kind: ``PUBLISH`` or ``PUBACK``.
        mid: packet identifier, 0 at QoS 0.
        topic: of a PUBLISH.
        payload: of a PUBLISH.
        dup: of a PUBLISH.
    """

    connection: int
    to_node: bool
    kind: int
    mid: int
    topic: str = ""
    payload: bytes = b""
    dup: bool = False


class Wiretap:
    """Passes bytes on, and notes what they are before it does; or ends the connection instead.

    When the broker dies, the node still gets every byte that the broker had sent: what was noted as
    delivered was.

    Args:
        port: of the broker on 127.0.0.1.

    Attributes:
        cuts: what is not passed on, but ends the connection.
    """

    def __init__(self, port: int) -> None:
        self.cuts: Callable[[Passed], bool] = lambda passed: False
        self._broker_port = port
        self._passed: list[Passed] = []
        self._connections = 0
        self._ended = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(0.1)

    @property
    def url(self) -> str:
        """What the node connects to."""
        return f"mqtt://{HOST}:{self._listener.getsockname()[1]}"

    @property
    def passed(self) -> list[Passed]:
        """What passed so far, in order."""
        with self._lock:
            return list(self._passed)

    @property
    def has_read_all(self) -> bool:
        """Whether the broker has ended every connection, and all that it sent is in ``passed``."""
        return self._ended == self._connections

    def __enter__(self) -> Self:
        """Begins to listen."""
        self._start(self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends all connections."""
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                node, _ = self._listener.accept()
            except TimeoutError:
                continue
            try:
                broker = socket.create_connection((HOST, self._broker_port))
            except OSError:
                node.close()
                continue
            for each in (node, broker):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections += 1
            self._start(self._pass_on, node, broker, self._connections)

    def _pass_on(self, node: socket.socket, broker: socket.socket, connection: int) -> None:
        """Passes on until both ends are closed."""
        rests = {node: b"", broker: b""}
        others = {node: broker, broker: node}
        open_ends = {node, broker}
        with node, broker:
            while open_ends and not self._closing.is_set():
                for each in select.select(list(open_ends), [], [], 0.1)[0]:
                    received = _receive(each)
                    if received:
                        passed, rests[each] = split(
                            rests[each] + received, connection, to_node=each is broker
                        )
                        if any(map(self.cuts, passed)):
                            return
                        with self._lock:
                            self._passed += passed
                        with contextlib.suppress(OSError):  # the other end is gone
                            others[each].sendall(received)
                        continue
                    open_ends.remove(each)
                    self._ended += each is broker
                    with contextlib.suppress(OSError):
                        others[each].shutdown(socket.SHUT_WR)


def split(stream: bytes, connection: int, *, to_node: bool) -> tuple[list[Passed], bytes]:
    """Returns the messages and acknowledgements in a stream, and the piece at its end."""
    passed, at = [], 0
    while (found := _packet(stream, at)) is not None:
        body, end = found
        if stream[at] >> 4 in (PUBLISH, PUBACK):
            passed.append(_read(stream[at], stream[body:end], connection, to_node=to_node))
        at = end
    return passed, stream[at:]


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(CHUNK_BYTES)
    except OSError:
        return b""


def _packet(stream: bytes, at: int) -> tuple[int, int] | None:
    """Returns where the body of a packet begins and ends; None if it is not whole."""
    length, shift = 0, 0
    for place in range(at + 1, min(at + 5, len(stream))):
        length |= (stream[place] & 0x7F) << shift
        shift += 7
        if stream[place] < 128:
            end = place + 1 + length
            return (place + 1, end) if end <= len(stream) else None
    return None


def _read(head: int, body: bytes, connection: int, *, to_node: bool) -> Passed:
    kind = head >> 4
    if kind == PUBACK:
        return Passed(connection, to_node, kind, int.from_bytes(body[:2], "big"))
    at = 2 + int.from_bytes(body[:2], "big")
    topic, mid = body[2:at].decode(), 0
    if head & 0b110:
        mid, at = int.from_bytes(body[at : at + 2], "big"), at + 2
    return Passed(connection, to_node, kind, mid, topic, body[at:], bool(head & 0b1000))
