"""Messages at QoS 1 that the broker has not acknowledged yet. Pure.

Source: MQTT 3.1.1 sections 2.3.1, 4.4 and 4.6; MQTT 5 sections 2.2.1, 4.4, 4.6 and 4.9.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from shared.mqtt.packets import again, for_the_first_time

MAX_MESSAGES = 10_000
MAX_BYTES = 2**25
MAX_IN_FLIGHT = 1000
MAX_FUTILE_CONNECTIONS = 8
QUARTER = 2**14

OnAck = Callable[[], None]


class PacketIds:
    """Hands out packet identifiers, apart from those that paho gives its SUBSCRIBEs.

    Both kinds come from one space of 65,535 numbers [MQTT-2.3.1-2], and paho counts through it from
    1 up. So ours come from the quarter of it that is opposite to where paho is.
    """

    def __init__(self) -> None:
        self._first = self._next = 2 * QUARTER

    def note(self, taken: int) -> None:
        """Notes which number paho took last."""
        first = max(1, (taken // QUARTER + 2) % 4 * QUARTER)
        if first != self._first:
            self._first = self._next = first

    def take(self) -> int:
        """Returns the next number; the caller passes over one that is in use."""
        mid = self._next
        self._next = mid + 1 if (mid + 1) % QUARTER else self._first
        return mid


class Refusal(NamedTuple):
    """A message that is given up, for it would end every connection that it is sent on.

    Attributes:
        size: of its packet, in bytes.
        on_ack: who waits for it, if somebody does.
    """

    size: int
    on_ack: OnAck | None


class Outbox:
    """Keeps what was published until it is acknowledged; sends no more than the broker takes.

    Attributes:
        ids: numbers for new messages.
    """

    def __init__(self) -> None:
        self.ids = PacketIds()
        self._bytes = 0
        self._window = MAX_IN_FLIGHT
        self._kept: dict[int, tuple[bytes, OnAck | None]] = {}
        self._held: deque[int] = deque()
        self._expires_s: dict[int, float] = {}
        self._standing = False
        self._progress = False
        self._futile_connections = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def is_full(self) -> bool:
        """Whether a message more has no room."""
        return len(self._kept) >= MAX_MESSAGES or self._bytes > MAX_BYTES

    def next_mid(self) -> int:
        """Returns a packet identifier that is free."""
        take, kept = self.ids.take, self._kept
        mid = take()
        while mid in kept:
            mid = take()
        return mid

    def add(self, mid: int, packet: bytes, on_ack: OnAck | None) -> bool:
        """Keeps a message.

        Args:
            mid: its packet identifier, from ``next_mid``.
            packet: it, encoded.
            on_ack: whom to tell.

        Returns:
            Whether to send it now; otherwise ``release`` returns it in its turn.
        """
        kept, held = self._kept, self._held
        # Behind those that are held, or it would overtake them.
        now = not held and len(kept) < self._window
        kept[mid] = (packet, on_ack)
        self._bytes += len(packet)
        if not now:
            held.append(mid)
        return now

    def expire_at(self, mid: int, expires_s: float) -> None:
        """Notes that nobody wants a message any more from a time on, monotonic."""
        self._expires_s[mid] = expires_s

    def acknowledged(self, mids: list[int]) -> list[OnAck]:
        """Forgets what the broker has answered; returns whom to tell, in that order."""
        told: list[OnAck] = []
        for mid in mids:
            kept = self._kept.pop(mid, None)
            if kept is None:
                continue
            packet, on_ack = kept
            self._bytes -= len(packet)
            self._progress = True
            if on_ack is not None:
                told.append(on_ack)
            if self._expires_s:
                self._expires_s.pop(mid, None)
        return told

    def release(self) -> list[bytes]:
        """Returns packets that were held and may go now."""
        held = self._held
        if not held:
            return []
        room = self._window - (len(self._kept) - len(held))
        return [self._kept[held.popleft()][0] for _ in range(min(room, len(held)))]

    def begin(self, now_s: float, *, present: bool, receive_maximum: int) -> list[bytes]:
        """Begins a new connection; what was sent on the last one is sent again, in its order.

        Args:
            now_s: monotonic.
            present: whether the broker kept our session. If not, it is all new to it.
            receive_maximum: how many unacknowledged messages the broker takes.

        Returns:
            What to send first.
        """
        self._standing = True
        self._expire(now_s)
        held = set(self._held)
        for mid, (packet, on_ack) in self._kept.items():
            if not present:
                self._kept[mid] = (for_the_first_time(packet), on_ack)
            elif mid not in held:
                self._kept[mid] = (again(packet), on_ack)
        self._held = deque(self._kept)
        self._window = min(MAX_IN_FLIGHT, receive_maximum)
        return self.release()

    def lost(self, *, soon: bool) -> Refusal | None:
        """Ends a connection, or an attempt at one, which says nothing about a message.

        A broker that ends the connection over a message (its size, a forbidden topic) would get it
        again at the next one, and again: nothing would go through any more. A broker acknowledges
        in order, so the first in flight is the culprit when connection after connection ends soon
        and without one acknowledgement.

        Args:
            soon: whether the connection had just begun.

        Returns:
            The message that is given up, if one is.
        """
        sent = self._standing and len(self._kept) > len(self._held)
        progress, self._standing, self._progress = self._progress, False, False
        if progress or not soon:
            self._futile_connections = 0
        elif sent:
            self._futile_connections += 1
        if self._futile_connections < MAX_FUTILE_CONNECTIONS or not sent:
            return None
        self._futile_connections = 0
        first = next(iter(self._kept))
        packet, on_ack = self._kept[first]
        self._drop(first)
        return Refusal(len(packet), on_ack)

    def _expire(self, now_s: float) -> None:
        for mid in [mid for mid, expires_s in self._expires_s.items() if now_s >= expires_s]:
            self._drop(mid)

    def _drop(self, mid: int) -> None:
        packet, _ = self._kept.pop(mid)
        self._bytes -= len(packet)
        self._expires_s.pop(mid, None)
