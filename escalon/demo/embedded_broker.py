"""The pip-installable MQTT 3.1.1 broker (amqtt) as a process of its own.

Run as ``python -m escalon.demo.embedded_broker --port N``. It listens on loopback only, accepts
anonymous clients, publishes no ``$SYS`` topics, and ends cleanly on SIGTERM or SIGINT. It keeps
everything in memory and is meant for a local demo; see ``broker.py`` for who starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from typing import Any

from amqtt.broker import Broker
from amqtt.errors import BrokerError
from amqtt.session import Session

from escalon.demo.broker_programs import EMBEDDED_READY

SHUTDOWN_TIMEOUT_S = 3.0

logger = logging.getLogger(__name__)


def broker_config(port: int) -> dict[str, Any]:
    """Return amqtt's configuration in its plugin form; the ``auth`` form is deprecated.

    Args:
        port: TCP port on 127.0.0.1.
    """
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


class LoopbackBroker(Broker):  # type: ignore[misc]  # amqtt ships no type information
    """amqtt's broker, sending a retained message only to a session that subscribed to it."""

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        # amqtt 0.12.1 walks the subscriptions of *all* clients whenever one connects, so each
        # newcomer would be sent retained messages (model chunks among them) it never asked for.
        subscribers = self.subscriptions.get(subscription[0], ())
        if any(subscriber == session for subscriber, _ in subscribers):
            await super()._publish_retained_messages_for_subscription(subscription, session)


async def serve(port: int) -> None:
    """Run the broker until SIGTERM or SIGINT.

    Args:
        port: TCP port on 127.0.0.1.

    Raises:
        BrokerError: the port is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    broker = LoopbackBroker(broker_config(port))
    await broker.start()
    sys.stdout.write(f"{EMBEDDED_READY}\n")
    sys.stdout.flush()
    await stop.wait()
    try:
        # From Python 3.12 a listener waits for its last connection, which may be half open.
        await asyncio.wait_for(broker.shutdown(), SHUTDOWN_TIMEOUT_S)
    except TimeoutError:
        logger.warning("shutdown took over %.1f s; connections were cut", SHUTDOWN_TIMEOUT_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m escalon.demo.embedded_broker")
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1")
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        asyncio.run(serve(arguments.port))
    except BrokerError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
