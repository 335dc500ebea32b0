"""The link to one broker: it connects, stays connected, subscribes, acknowledges in order.

It starts no network thread: ``receive``, ``flush`` and ``tend`` drive paho through its public
external-loop calls from the one loop that owns the node. Only the attempt to connect runs aside, so
that a broker that does not answer stalls nobody. How the messages go is the wire's (``wire.py``).
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.reasoncodes import ReasonCode

from shared.config import BrokerConfig
from shared.mqtt.ack_queue import AckQueue
from shared.mqtt.link_drops import LinkDrops
from shared.mqtt.message import Message, Will
from shared.mqtt.open_client import CONNECT_TIMEOUT_S, limits_of, make_client, make_wire
from shared.mqtt.outbox import Refusal
from shared.mqtt.packet_stream import Arrivals, Skipped
from shared.mqtt.reconnects import Reconnects
from shared.mqtt.refusals import (
    SESSION_TAKEN_OVER,
    UNSPECIFIED_ERROR,
    Trouble,
    explain,
    no_answer,
    silent,
    taken_over,
)
from shared.mqtt.subscriptions import Subscriptions
from shared.mqtt.trouble_log import TroubleLog
from shared.mqtt.waiting import wait_for_any

__all__ = ["Link", "wait_for_any"]

log = logging.getLogger(__name__)


class Link:
    """A client of one broker.

    Args:
        broker: where and how to connect.
        client_id: unique at this broker.
        persistent: whether the broker keeps messages for us while we are away.
        will: last will.
        rng: jitter of the reconnects.
        receive_maximum: how many unacknowledged messages the broker may send us, 1 to 65,535
            (MQTT 5 only; in 3.1.1 the broker alone decides); None for the protocol's default.

    Attributes:
        session: counts the connections; 0 before the first. A new number means: the broker may
            have forgotten everything, so publish what is retained again.
        refuses_shared: whether the broker says that it has no shared subscriptions (MQTT 5 only).
        after_outage: whether the broker could not be reached before this connection.
        evictions: how often the broker said that another client took our name (MQTT 5 only).
    """

    def __init__(
        self,
        broker: BrokerConfig,
        client_id: str,
        *,
        persistent: bool,
        will: Will | None,
        rng: random.Random,
        receive_maximum: int | None = None,
    ) -> None:
        self.session = 0
        self.broker = broker
        self.client_id = client_id
        self.after_outage = False
        self.evictions = 0
        self.refuses_shared = False
        self._drops = LinkDrops(broker.url, log)
        self._acks = AckQueue()
        self._connected = False
        self._closing = False
        self._ended = False
        self._restarting = False
        self._accepted = False
        self._unreachable = False
        self._trouble: Trouble | None = None
        self._connector: threading.Thread | None = None
        self._silent_s = 0.0
        self._reconnects = Reconnects(rng)
        self._troubles = TroubleLog(log)
        client = self._client = make_client(broker, client_id, persistent, will, receive_maximum)
        self._wire = make_wire(client, broker)
        self._subscriptions = Subscriptions(self._wire, broker.url)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe

    # What the node uses

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and the connection stands."""
        return self._connected

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Subscribes now and again at every connect.

        Args:
            topic_filter: a topic, perhaps with wildcards, perhaps ``$share/group/…``.
            qos: 0 or 1.
        """
        self._subscriptions.add(topic_filter, qos)

    def unsubscribe(self, topic_filter: str) -> None:
        """Ends a subscription, now or at the next connection; of an unknown one, nothing."""
        self._subscriptions.end(topic_filter)

    def forget(self, topic_filter: str) -> None:
        """Ends a subscription that an earlier process may have left in the session."""
        self._subscriptions.forget(topic_filter)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: float | None = None,
        on_ack: Callable[[], None] | None = None,
    ) -> bool:
        """Queues a message for the next ``flush``.

        Args:
            topic: where to.
            payload: what.
            qos: 0 or 1.
            retain: whether the broker keeps it for later subscribers.
            expiry_s: nobody wants it after that long. The broker may drop it then (MQTT 5), and it
                is not sent again on a later connection.
            on_ack: called from ``receive`` once the broker has answered for it (QoS 1): it has it,
                or refused it for good, which is logged and counted. Not called for a message that
                expired.

        Returns:
            False if it was not taken, and may be later: no connection, or too many unacknowledged.
            A taken QoS 1 message outlives a lost connection, but not this process.

        Raises:
            PayloadError: it can never be sent: ``too_large`` or ``bad_topic``.
        """
        if not self._connected:
            return False
        return self._wire.publish(
            topic, payload, qos=qos, retain=retain, expiry_s=expiry_s, on_ack=on_ack
        )

    def done(self, message: Message) -> None:
        """Acknowledges a message to the broker, in the order of arrival."""
        if message.mid and message.session == self.session and self._connected:
            for mid in self._acks.done(message.mid):
                self._wire.acknowledge(mid)

    def owes(self, message: Message) -> bool:
        """Whether a message is not acknowledged yet: for itself, or for one that came before it."""
        return message.session == self.session and message.mid in self._acks

    def restart(self) -> None:
        """Ends the connection and makes a new one at once.

        A broker then brings again what is unacknowledged in a persistent session. With a farewell:
        without it, the broker would publish the last will.
        """
        if self._connected:
            self._restarting = True
            self._say_goodbye()

    def contested(self) -> None:
        """Says that another client has our name: reconnects are slow until there is peace."""
        self._reconnects.contested()

    # What the loop uses

    def socket(self) -> socket.socket | None:
        """Returns the socket to wait on, or None while there is none to read."""
        if self._connector is not None:
            return None
        return self._client.socket()  # type: ignore[return-value]

    @property
    def connecting(self) -> bool:
        """Whether an attempt to connect runs."""
        return self._connector is not None

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the socket to take them."""
        return self._connector is None and self._wire.wants_write

    @property
    def pending(self) -> bool:
        """Whether there is something to read that waiting on the socket would not show."""
        return self._connector is None and self._wire.pending

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way out."""
        return not self._connected or (self._wire.settled and not self._wire.wants_write)

    @property
    def confirmed(self) -> bool:
        """Whether the broker has answered every subscription, and every end of one."""
        return self._connected and not self._subscriptions.open

    @property
    def unacknowledged(self) -> int:
        """How many messages of this connection the broker still waits for."""
        return len(self._acks)

    def receive(self) -> list[Message]:
        """Reads what is there, a bounded amount; runs the callbacks of what was acknowledged."""
        if self._connector is not None:
            return []
        arrivals = self._wire.read()
        if arrivals.mids:
            self._acks.add(arrivals.mids)
        if arrivals.skipped or arrivals.refused:
            self._note_drops(arrivals)
        return arrivals.messages

    def take_drops(self) -> dict[str, int]:
        """Returns how many messages were not used since the last time, by reason.

        ``too_large`` and ``bad_topic`` came in; ``refused`` were ours, and the broker's to refuse.
        """
        return self._drops.take()

    def take_skipped(self) -> list[Skipped]:
        """Returns the latest messages that came and were not handed on, since the last time."""
        return self._drops.take_skipped()

    def flush(self) -> None:
        """Writes what is queued, as far as the socket takes it."""
        if self._connector is None:
            self._wire.write()

    def tend(self, now_s: float) -> None:
        """Keeps the connection alive, or makes a new one when its time has come.

        Args:
            now_s: monotonic.
        """
        if self._connector is not None:
            self._after_attempt(now_s)
            return
        self._note_events(now_s)
        if self._client.socket() is None:
            if now_s >= self._reconnects.due_s and not self._closing:
                self._attempt()
        elif not self._connected and now_s >= self._silent_s:
            self._trouble = silent(self.broker)
            self._close_socket()
        else:
            self._client.loop_misc()

    def close(self) -> None:
        """Says goodbye to the broker. The last will is not published."""
        self._closing = True
        if self._connector is not None:
            self._connector.join(CONNECT_TIMEOUT_S)
            if self._connector.is_alive():
                return  # a name server that does not answer; the thread ends with the process
            self._connector = None
        self._say_goodbye()

    # Connecting

    def _attempt(self) -> None:
        self._connector = threading.Thread(target=self._connect, name="connect", daemon=True)
        self._connector.start()

    def _connect(self) -> None:
        try:
            self._client.reconnect()
        except Exception as error:  # of resolver, socket, TLS or paho: all the same to us
            self._trouble = Trouble(f"cannot reach {self.broker.url}: {error}; trying again")
            self._ended = self._unreachable = True

    def _after_attempt(self, now_s: float) -> None:
        if self._connector is not None and not self._connector.is_alive():
            self._connector.join()
            self._connector = None
            self._silent_s = now_s + CONNECT_TIMEOUT_S
            self._note_events(now_s)

    def _note_events(self, now_s: float) -> None:
        """Draws the consequences of what paho's callbacks noted."""
        reconnects, troubles = self._reconnects, self._troubles
        if self._accepted:
            self._accepted = False
            reconnects.accepted(now_s)
            troubles.say(logging.INFO, f"connected to {self.broker.url}", now_s)
        trouble, self._trouble = self._trouble, None
        if self._ended:
            self._ended = False
            soon = reconnects.is_young(now_s) and not self._restarting
            self._give_up(self._wire.end(soon=soon))
            if self._restarting:
                reconnects.restarted(now_s)
            else:
                reconnects.failed(now_s, slow=trouble is not None and trouble.needs_a_person)
            self._restarting = False
        if trouble is not None:
            level = logging.ERROR if trouble.needs_a_person else logging.WARNING
            troubles.say(level, trouble.text, now_s)
        self._drops.say(now_s)
        if self._connected and not reconnects.is_young(now_s):
            troubles.clear()

    def _give_up(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            self._drops.give_up(refusal.size)
            if refusal.on_ack is not None:
                refusal.on_ack()

    def _note_drops(self, arrivals: Arrivals) -> None:
        for skipped in arrivals.skipped:
            self._drops.skip(skipped)
            for mid in self._acks.done(skipped.mid):
                self._wire.acknowledge(mid)
        self._drops.refuse(arrivals.refused.values())

    def _say_goodbye(self) -> None:
        if self._client.socket() is not None:
            self._client.disconnect()
            self._client.loop_write()

    def _close_socket(self) -> None:
        """Ends a connection so that paho itself finds it ended at its next read."""
        ready = self.socket()
        if ready is not None:
            with contextlib.suppress(OSError):  # it may be closed by the other side already
                ready.shutdown(socket.SHUT_RDWR)

    # Called by paho, within ``receive``, ``flush`` or ``tend``. Each only takes note.

    def _on_connect(
        self, client: Client, userdata: Any, flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        if code.is_failure:
            self._trouble = explain(code, self.broker, self.client_id)
            return
        limits = limits_of(properties)
        self.session += 1
        self.refuses_shared = limits.refuses_shared
        self.after_outage, self._unreachable = self._unreachable, False
        self._connected = self._accepted = True
        self._acks.clear()
        self._wire.begin(
            self.session,
            present=flags.session_present,
            receive_maximum=limits.receive_maximum,
            max_packet_bytes=limits.max_packet_bytes,
        )
        self._subscriptions.connected(present=flags.session_present)

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: Any, code: ReasonCode, properties: Any
    ) -> None:
        if not self._closing and not self._restarting and self._trouble is None:
            self._trouble = self._why_ended(code)
        self._subscriptions.lost()
        self._connected = False
        self._ended = True

    def _why_ended(self, code: ReasonCode) -> Trouble:
        if not self._connected:
            return no_answer(self.broker)
        if code.value == SESSION_TAKEN_OVER:
            self.evictions += 1
            return taken_over(self.broker, self.client_id)
        why = "" if code.value == UNSPECIFIED_ERROR else f": {code}"
        return Trouble(f"connection to {self.broker.url} lost{why}")

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, codes: list[ReasonCode], properties: Any
    ) -> None:
        self._subscriptions.answered(mid, codes)

    def _on_unsubscribe(
        self, client: Client, userdata: Any, mid: int, codes: Any, properties: Any
    ) -> None:
        self._subscriptions.ended(mid)
