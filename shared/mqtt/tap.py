"""Between paho and its socket: takes off the packets that carry the traffic, leaves paho the rest.

paho reads a packet in three or more ``recv`` calls and builds several objects for each
acknowledgement. With this under it, it never sees a PUBLISH or a PUBACK: they are taken from one
large read and put into one write. It goes on doing CONNECT, SUBSCRIBE, keepalive and TLS.

The one private thing of paho's that this rests on is ``Client._create_socket``. ``misfit`` says
where a paho does not have it; the link then says so and uses paho as it is.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import paho.mqtt
from paho.mqtt.client import Client

from shared.mqtt.packet_stream import PacketStream
from shared.mqtt.packets import DISCONNECT

TESTED = ("2.2",)
"""The versions of paho with which the contract suite passed."""
READ_BYTES = 2**16
WRITE_BYTES = 2**18
LINGER_S = 0.5
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

log = logging.getLogger(__name__)


class Tap:
    """A socket for paho, with the traffic taken off.

    Args:
        connection: the connected socket, perhaps TLS.
        stream: takes apart what comes in.

    Attributes:
        stream: what came in; paho's share is ``stream.control``.
        unsent_bytes: how much waits for the socket to take it.
        lost: the connection has ended: paho's next read finds it so.
    """

    def __init__(self, connection: Any, stream: PacketStream) -> None:
        self._connection = connection
        self._encrypted = hasattr(connection, "pending")
        # Not ``recv``: it makes an object of that size first, 19 µs instead of 3.
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._unsent: deque[bytes] = deque()
        self._says_goodbye = False
        self._takes_nothing = False
        self.unsent_bytes = 0
        self.stream = stream
        self.lost = False

    # What the link uses

    def fill(self) -> bool:
        """Reads once from the network; returns whether there may be more to read."""
        if self.lost:
            return False
        try:
            count = self._connection.recv_into(self._buffer)
        except WOULD_BLOCK:
            return False
        except OSError:
            count = 0
        if not count:
            self.lost = True
            return False
        try:
            self.stream.feed(bytes(self._view[:count]))
        except ValueError as error:
            log.error("the broker does not speak MQTT: %s", error)
            self.lost = True
            return False
        # TLS hands out a record at a time, and no ``select`` shows one that is decrypted already.
        return count == READ_BYTES or self._encrypted

    def queue(self, packet: bytes) -> None:
        """Puts a packet behind those that wait for ``drain``."""
        if self._takes_nothing:
            return
        self._unsent.append(packet)
        self.unsent_bytes += len(packet)

    def drain(self) -> None:
        """Writes what waits, as far as the socket takes it: with one call where that is enough."""
        unsent = self._unsent
        while unsent and not self.lost:
            waiting = self._next_write()
            try:
                written = self._connection.send(waiting)
            except WOULD_BLOCK:
                written = 0
            except OSError:
                self._give_up_writing()
                return
            self.unsent_bytes -= written
            if written < len(waiting):
                unsent.appendleft(waiting[written:])
                return

    def _give_up_writing(self) -> None:
        """Leaves it to ``fill`` to find the end.

        A broker that died may have sent messages before that are here and not read yet, and that
        it acknowledged to their senders: nobody else has them.
        """
        self._takes_nothing = True
        self._unsent.clear()
        self.unsent_bytes = 0

    def _next_write(self) -> bytes:
        """Takes packets off that make one write, or one large packet."""
        unsent = self._unsent
        if self.unsent_bytes <= WRITE_BYTES:
            waiting = b"".join(unsent) if len(unsent) > 1 else unsent[0]
            unsent.clear()
            return waiting
        pieces = [unsent.popleft()]
        size = len(pieces[0])
        while unsent and size + len(unsent[0]) <= WRITE_BYTES:
            size += len(unsent[0])
            pieces.append(unsent.popleft())
        return b"".join(pieces)

    # What paho uses

    def recv(self, size: int) -> bytes:
        """Returns bytes of paho's packets; raises BlockingIOError while there are none."""
        control = self.stream.control
        if not control:
            if self.lost:
                return b""
            raise BlockingIOError
        taken = bytes(control[:size])
        del control[:size]
        return taken

    def send(self, packet: bytes) -> int:
        """Takes a packet of paho's; it leaves with the next ``drain``."""
        if self.lost:
            raise ConnectionResetError
        self._says_goodbye = packet[0] == DISCONNECT
        self.queue(bytes(packet))
        return len(packet)

    def close(self) -> None:
        """Closes the socket; after paho's farewell, as soon as the broker has it."""
        if self._says_goodbye and not self.lost:
            with contextlib.suppress(OSError):
                self._linger(time.monotonic() + LINGER_S)
        self._connection.close()

    def _linger(self, ends_s: float) -> None:
        """Writes what waits and reads until the broker ends the connection.

        Closing a socket with bytes unread resets the connection, and the broker loses what it has
        not read yet: our last acknowledgements and the farewell.
        """
        self._connection.settimeout(LINGER_S)
        self._connection.sendall(b"".join(self._unsent))
        while time.monotonic() < ends_s and self._connection.recv_into(self._buffer):
            pass

    def fileno(self) -> int:
        """Returns the socket's number."""
        number: int = self._connection.fileno()
        return number

    def setblocking(self, flag: bool) -> None:
        """Makes the socket blocking or not."""
        self._connection.setblocking(flag)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Sets an option of the socket."""
        self._connection.setsockopt(level, option, value)

    def shutdown(self, how: int) -> None:
        """Ends the connection; the next read finds it ended."""
        self._connection.shutdown(how)

    def pending(self) -> int:
        """Returns how many bytes TLS has decrypted already, which no ``select`` shows."""
        return self._connection.pending() if self._encrypted else 0


class TappedClient(Client):
    """paho's client with a tap between it and its socket.

    Attributes:
        make_stream: what takes the bytes of a new connection apart; set before it connects.
    """

    make_stream: Callable[[], PacketStream]

    def _create_socket(self) -> Any:
        return Tap(super()._create_socket(), self.make_stream())


def misfit() -> str | None:
    """Returns why this paho cannot be tapped, or None if it can."""
    version = paho.mqtt.__version__
    if version.rsplit(".", 1)[0] not in TESTED:
        return f"paho-mqtt {version} is not one of {', '.join(TESTED)}"
    create = getattr(Client, "_create_socket", None)
    connects_by_it = "_create_socket" in Client.reconnect.__code__.co_names
    if create is None or not connects_by_it or create.__code__.co_argcount != 1:
        return f"paho-mqtt {version} does not connect by Client._create_socket()"
    return None
