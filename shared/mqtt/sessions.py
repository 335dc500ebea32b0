"""Ends a session that nobody will come back to."""

from __future__ import annotations

import random
import time

from shared.config import BrokerConfig
from shared.errors import EscalonError
from shared.mqtt.link import Link, wait_for_any

LOOK_S = 0.5


def remove_session(broker: BrokerConfig, client_id: str, timeout_s: float) -> None:
    """Has a broker forget a client: its subscriptions, and what waits for it.

    To connect with a clean session is how MQTT discards an old one (3.1.1, section 3.1.2.4).

    Args:
        broker: the broker.
        client_id: the client. Nothing else connects by this name meanwhile.
        timeout_s: how long to try.

    Raises:
        EscalonError: the broker did not accept us in time.
    """
    rng = random.Random()  # noqa: S311 - jitter, not a secret
    link = Link(broker, client_id, persistent=False, will=None, rng=rng)
    ends_s = time.monotonic() + timeout_s
    try:
        while not link.connected:
            now_s = time.monotonic()
            if now_s >= ends_s:
                raise EscalonError(f"the session of {client_id} on {broker.url} is not removed yet")
            link.receive()
            link.flush()
            link.tend(now_s)
            wait_for_any([link], LOOK_S)
    finally:
        link.close()
