"""A broker in memory: sessions, retained messages, redelivery, wills, take-over, refusal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakes import FakeLink


@dataclass(frozen=True)
class Published:
    """What a link gave to the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass
class Session:
    """What the broker knows of one client.

    Attributes:
        client_id: whose it is.
        persistent: whether it outlives the connection.
        link: the connection, while it stands.
        subscriptions: QoS by filter.
        unacknowledged: topic and payload by packet identifier, in the order of delivery.
        waiting: QoS 1 messages that wait for the client, or for room in its window.
    """

    client_id: str
    persistent: bool
    link: FakeLink | None = None
    subscriptions: dict[str, int] = field(default_factory=dict)
    unacknowledged: dict[int, tuple[str, bytes, bool]] = field(default_factory=dict)
    waiting: deque[tuple[str, bytes, bool]] = field(default_factory=deque)
    last_mid: int = 0


@dataclass
class FakeBroker:
    """Keeps retained messages and sessions, and routes the others to the links.

    Attributes:
        retained: by topic.
        published: everything that a link gave it, in order.
        links: connected or not.
        sessions: by client id.
        away: nobody can connect.
        refuses: client ids that it does not accept.
        delivers_shared: whether ``$share/…`` brings anything; it is granted in any case.
    """

    retained: dict[str, bytes] = field(default_factory=dict)
    published: list[Published] = field(default_factory=list)
    links: list[FakeLink] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    away: bool = False
    refuses: set[str] = field(default_factory=set)
    delivers_shared: bool = False
    _turns: dict[str, int] = field(default_factory=dict)

    # What a test does

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Routes a message, as from a client of no interest here."""
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for session, qos in list(self._receivers(topic)):
            self._send(session, topic, payload, qos, retain=False)

    def payloads(self, topic: str) -> list[bytes]:
        """Returns what links published on a topic, in order."""
        return [message.payload for message in self.published if message.topic == topic]

    def forget(self) -> None:
        """Loses what is retained, as a broker killed by the kernel does."""
        self.retained.clear()

    # What a link does

    def accept(self, link: FakeLink) -> Session | None:
        """Opens a client's session; ends another connection of its name. None refuses it."""
        if self.away or link.client_id in self.refuses:
            return None
        session = self.sessions.get(link.client_id)
        if session is not None and session.link is not None:
            session.link.cut()
        session = self.sessions.get(link.client_id)
        if session is None or not link.persistent:
            session = Session(link.client_id, link.persistent)
        self.sessions[link.client_id] = session
        session.link = link
        return session

    def leave(self, session: Session) -> None:
        """Ends a connection."""
        session.link = None
        if not session.persistent and self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]

    def subscribe(self, session: Session, topic_filter: str, qos: int) -> None:
        """Grants a subscription and sends what is retained for it; never for a shared one."""
        session.subscriptions[topic_filter] = qos
        for topic, payload in list(self.retained.items()):
            if matches(topic_filter, topic):
                self._send(session, topic, payload, qos, retain=True)

    def send_again(self, session: Session) -> None:
        """Delivers on a new connection what the last one left unacknowledged, and what waited."""
        for mid, (topic, payload, retain) in session.unacknowledged.items():
            if session.link is not None:
                session.link.deliver(topic, payload, mid, dup=True, retain=retain)
        self._send_waiting(session)

    def acknowledged(self, session: Session, mid: int) -> None:
        """Forgets a delivery; the next one has room."""
        session.unacknowledged.pop(mid, None)
        self._send_waiting(session)

    # Inside

    def _receivers(self, topic: str) -> Iterator[tuple[Session, int]]:
        """Yields who gets a message, once each, at the highest QoS that it subscribed with."""
        groups: dict[str, list[tuple[Session, int]]] = {}
        for session in self.sessions.values():
            best = -1
            for topic_filter, qos in session.subscriptions.items():
                if matches(topic_filter, topic):
                    best = max(best, qos)
                elif self.delivers_shared and topic_filter.startswith("$share/"):
                    shared = topic_filter.split("/", 2)[2]
                    if matches(shared, topic) and session.link is not None:
                        groups.setdefault(topic_filter, []).append((session, qos))
            if best >= 0:
                yield session, best
        for group, members in groups.items():
            turn = self._turns[group] = self._turns.get(group, -1) + 1
            yield members[turn % len(members)]

    def _send(
        self, session: Session, topic: str, payload: bytes, qos: int, *, retain: bool
    ) -> None:
        if qos:
            session.waiting.append((topic, payload, retain))
            self._send_waiting(session)
        elif session.link is not None:
            session.link.deliver(topic, payload, 0, dup=False, retain=retain)

    def _send_waiting(self, session: Session) -> None:
        link = session.link
        while link is not None and session.waiting:
            if len(session.unacknowledged) >= link.receive_maximum:
                return
            topic, payload, retain = session.waiting.popleft()
            session.last_mid += 1
            session.unacknowledged[session.last_mid] = (topic, payload, retain)
            link.deliver(topic, payload, session.last_mid, dup=False, retain=retain)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter that is not shared matches a topic (MQTT 3.1.1, section 4.7)."""
    wanted, given = topic_filter.split("/"), topic.split("/")
    if given[0].startswith("$") and wanted[0] in ("+", "#"):
        return False
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        given = given[: len(wanted)] if len(given) >= len(wanted) else given
    return len(wanted) == len(given) and all(
        want in ("+", level) for want, level in zip(wanted, given, strict=True)
    )
