"""The usual script: ``python -m bench.naive``. One callback decodes, infers, encodes, publishes.

It is written as one would write it in an afternoon, and given what an expert would add in one line
each: no Nagle delay on its socket, one ONNX Runtime thread, a window of its own choice.
"""

from __future__ import annotations

import argparse
import json
import socket
from typing import Any

import numpy as np
import onnxruntime as ort
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

LABELS = ("idle", "walking", "running", "cycling", "driving", "other")
MAX_INFLIGHT = 20  # paho's own default; more makes each PUBACK dearer, as it scans them all


def without_delay(client: mqtt.Client, data: Any, opened: Any) -> None:
    """Turns Nagle's algorithm off, which would make each acknowledged publish 40 ms longer."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> None:
    """Answers samples until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topics", required=True, help="prefix of the topics")
    parser.add_argument("--qos", type=int, choices=(0, 1), required=True)
    parser.add_argument("--model", required=True, help="ONNX file")
    arguments = parser.parse_args()

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    input_name = session.get_inputs()[0].name

    def on_message(client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        sensor = message.topic.rsplit("/", 1)[-1]
        sample = json.loads(message.payload)
        features = np.array([sample["features"]], dtype=np.float32)
        logits = session.run(None, {input_name: features})[0][0]
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        best = int(scores.argmax())
        prediction = {
            "id": sample["id"],
            "device_id": sensor,
            "timestamp": sample["timestamp"],
            "prediction": LABELS[best],
            "confidence": float(scores[best]),
        }
        topic = f"{arguments.topics}/predictions/{sensor}"
        client.publish(topic, json.dumps(prediction), arguments.qos)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, "naive", protocol=mqtt.MQTTv311)
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
