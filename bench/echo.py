"""A bare echo on stock paho: ``python -m bench.echo``. It has no model and reads no payload."""

from __future__ import annotations

import argparse
import socket
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

MAX_INFLIGHT = 20  # as in naive.py


def without_delay(client: mqtt.Client, data: Any, opened: Any) -> None:
    """Turns Nagle's algorithm off, which would make each acknowledged publish 40 ms longer."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> None:
    """Sends every sample back until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topics", required=True, help="prefix of the topics")
    parser.add_argument("--qos", type=int, choices=(0, 1), required=True)
    arguments = parser.parse_args()

    def on_message(client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        sensor = message.topic.rsplit("/", 1)[-1]
        client.publish(f"{arguments.topics}/predictions/{sensor}", message.payload, arguments.qos)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, "echo", protocol=mqtt.MQTTv311)
    client.max_inflight_messages_set(MAX_INFLIGHT)
    client.max_queued_messages_set(0)
    client.on_socket_open = without_delay
    client.on_connect = lambda client, *_: client.subscribe(
        f"{arguments.topics}/samples/+", arguments.qos
    )
    client.on_message = on_message
    client.connect("127.0.0.1", arguments.port)
    client.loop_forever()


if __name__ == "__main__":
    main()
