"""What a broker's refusal means, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

from paho.mqtt.reasoncodes import ReasonCode

from shared.config import BrokerConfig

UNSPECIFIED_ERROR = 0x80
UNSUPPORTED_VERSION = 0x84
IDENTIFIER_REJECTED = 0x85
BAD_CREDENTIALS = 0x86
NOT_AUTHORISED = 0x87
SERVER_UNAVAILABLE = 0x88
SERVER_BUSY = 0x89
BANNED = 0x8A
SESSION_TAKEN_OVER = 0x8E
QUOTA_EXCEEDED = 0x97
RATE_EXCEEDED = 0x9F
PASSING = (SERVER_UNAVAILABLE, SERVER_BUSY, QUOTA_EXCEEDED, RATE_EXCEEDED)


class Trouble(NamedTuple):
    """What is wrong with the connection.

    Attributes:
        text: for the log.
        needs_a_person: whether trying again mends nothing.
    """

    text: str
    needs_a_person: bool = False


def explain(code: ReasonCode, broker: BrokerConfig, client_id: str) -> Trouble:
    """Says why a broker does not accept us, and what to do.

    Args:
        code: of its CONNACK; paho gives those of 3.1.1 as MQTT 5's.
        broker: the broker.
        client_id: whom it refuses.
    """
    if code.value in PASSING:
        return Trouble(f"{broker.url} does not accept us now: {code}")
    user = f"user {broker.username}" if broker.username else "no user name"
    fixes = {
        UNSUPPORTED_VERSION: "set broker.protocol to the version that it speaks",
        IDENTIFIER_REJECTED: f"let the broker accept the client id {client_id}, which is made of "
        "prefix, site and node",
        BAD_CREDENTIALS: "set broker.username and broker.password to what the broker knows",
        NOT_AUTHORISED: f"let the broker accept {user} with the client id {client_id}",
        BANNED: f"ask who runs the broker why it bans the client id {client_id} ({user})",
    }
    fix = fixes.get(code.value, "see the broker's log")
    return Trouble(f"{broker.url} refuses us: {code}. Fix: {fix}", needs_a_person=True)


def no_answer(broker: BrokerConfig) -> Trouble:
    """Says that a broker ended the connection where it should have accepted or refused us."""
    return Trouble(f"{broker.url} ends the connection without an answer{_doubt(broker)}")


def silent(broker: BrokerConfig) -> Trouble:
    """Says that a broker neither accepted nor refused us."""
    return Trouble(f"{broker.url} takes the connection but says nothing{_doubt(broker)}")


def _doubt(broker: BrokerConfig) -> str:
    if broker.protocol != "5":
        return ""
    return "; does it speak MQTT 5? If not, set broker.protocol to 3.1.1"


def taken_over(broker: BrokerConfig, client_id: str) -> Trouble:
    """Says that the broker ended the connection because another client came with our name."""
    return Trouble(
        f"another client took our name {client_id} at {broker.url}: two nodes run under one name. "
        "Fix: give each node its own `node:` and end the one that is too many",
        needs_a_person=True,
    )
