"""Stands between a link and its broker: cuts, mutes, goes away, and keeps what the link sent."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import NamedTuple, Self

CHUNK_BYTES = 2**16
PINGREQ = 0xC0
HOST = "127.0.0.1"


class Packet(NamedTuple):
    """A packet that the link sent.

    Attributes:
        connection: counts the connections from 1 up.
        head: its first byte.
        body: what follows its length.
    """

    connection: int
    head: int
    body: bytes


class CuttingProxy:
    """Passes bytes on between one link and a broker.

    Args:
        port: the broker's.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener: socket.socket | None = None
        self._port = 0
        self._sockets: list[socket.socket] = []
        self._sent: list[bytearray] = []
        self._speaks = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """What the link connects to."""
        return f"mqtt://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        """Listens."""
        self.come_back()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends all connections and threads."""
        self.go_away()
        self._speaks.set()
        for thread in self._threads:
            thread.join()

    def come_back(self) -> None:
        """Listens, on the same port as before."""
        self._speaks.set()
        listener = socket.create_server((HOST, self._port))
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._run(self._accept, listener)

    def go_away(self) -> None:
        """Refuses connections, and ends those that stand."""
        if self._listener is not None:
            # Closing alone does not wake a thread that waits in accept.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Ends the connections that stand, without a word."""
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
            self._sockets.clear()

    def mute(self) -> None:
        """Holds back what the broker says, on connections that stay open."""
        self._speaks.clear()

    def unmute(self) -> None:
        """Passes on what was held back."""
        self._speaks.set()

    def packets(self) -> list[Packet]:
        """Returns the packets that the link has sent, in order."""
        with self._lock:
            streams = [bytes(each) for each in self._sent]
        return [
            Packet(number, head, body)
            for number, stream in enumerate(streams, start=1)
            for head, body in split(stream)
        ]

    def pings(self) -> int:
        """Returns how many PINGREQs the link has sent."""
        return sum(packet.head == PINGREQ for packet in self.packets())

    def _run(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                down, _ = listener.accept()
                up = socket.create_connection((HOST, self._upstream))
            except OSError:
                return
            for each in (down, up):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sent = bytearray()
            with self._lock:
                self._sockets += [down, up]
                self._sent.append(sent)
            self._run(self._pass_up, down, up, sent)
            self._run(self._pass_down, up, down)

    def _pass_up(self, down: socket.socket, up: socket.socket, sent: bytearray) -> None:
        with contextlib.suppress(OSError):
            while received := down.recv(CHUNK_BYTES):
                with self._lock:
                    sent += received
                up.sendall(received)
        _end(up, down)

    def _pass_down(self, up: socket.socket, down: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := up.recv(CHUNK_BYTES):
                self._speaks.wait()
                down.sendall(received)
        _end(up, down)


def split(stream: bytes) -> list[tuple[int, bytes]]:
    """Takes packets apart, plainly: first byte and body; a piece at the end is left out."""
    packets, at = [], 0
    while at < len(stream):
        length, shift, body = 0, 0, at + 1
        while body < len(stream):
            byte = stream[body]
            length |= (byte & 0x7F) << shift
            shift, body = shift + 7, body + 1
            if byte < 128:
                break
        if body + length > len(stream):
            break
        packets.append((stream[at], stream[body : body + length]))
        at = body + length
    return packets


def _end(*pair: socket.socket) -> None:
    for each in pair:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
