"""The least that a model needs: ``python -m bench.floor``. A yardstick, and no node.

It speaks MQTT over a bare socket with one read and one write a message, and decodes, infers and
encodes by the quickest means that a node has. It knows no paho, no gate, no bounds and no counts,
and it loses what is under way when the connection ends: nothing that keeps a promise is faster.
"""

from __future__ import annotations

import argparse
import itertools
import select

import msgspec
import numpy as np
import onnxruntime as ort

from bench import packets
from bench.connection import Connection
from bench.naive import LABELS


class Sample(msgspec.Struct):
    """What a sensor sends."""

    id: str
    timestamp: float | str
    features: list[float]


class Floor:
    """Answers samples, one at a time.

    Args:
        topics: prefix of the topics.
        model: the ONNX file.
    """

    def __init__(self, topics: str, model: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._topics = topics
        self._decode = msgspec.json.Decoder(Sample).decode
        self._encode = msgspec.json.Encoder().encode
        self._identifiers = itertools.cycle(
            each.to_bytes(2, "big") for each in range(1, packets.MAX_PACKET_ID + 1)
        )
        self._unacknowledged: dict[bytes, bytes] = {}

    def react(self, first: int, body: bytes) -> bytes:
        """Returns what a packet of the broker is to be answered with.

        Args:
            first: the packet's first byte.
            body: what follows its fixed header.
        """
        if first == packets.PUBACK:
            theirs = self._unacknowledged.pop(body, b"")
            return packets.puback(theirs) if theirs else b""
        topic_end = 2 + int.from_bytes(body[:2], "big")
        sensor = body[2:topic_end].decode().rsplit("/", 1)[-1]
        payload_at = topic_end + 2 if first & 0b110 else topic_end
        answer = self._answer(sensor, body[payload_at:])
        identifier = next(self._identifiers)
        if first & 0b110:
            self._unacknowledged[identifier] = body[topic_end:payload_at]
        head = packets.publish_head(f"{self._topics}/predictions/{sensor}", 1, len(answer))
        return head + identifier + answer

    def _answer(self, sensor: str, payload: bytes) -> bytes:
        sample = self._decode(payload)
        features = np.array([sample.features], np.float32)
        logits = self._session.run(None, {self._input: features})[0][0]
        scores = np.exp(logits - logits.max())
        best = int(scores.argmax())
        prediction = {
            "id": sample.id,
            "device_id": sensor,
            "timestamp": sample.timestamp,
            "prediction": LABELS[best],
            "confidence": float(scores[best] / scores.sum()),
        }
        return self._encode(prediction)


def main() -> None:
    """Answers samples until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topics", required=True, help="prefix of the topics")
    parser.add_argument("--model", required=True, help="ONNX file")
    arguments = parser.parse_args()

    floor = Floor(arguments.topics, arguments.model)
    unread = b""
    with Connection(arguments.port, "floor") as connection:
        connection.subscribe(f"{arguments.topics}/samples/+", 1)
        while True:
            select.select([connection], [], [])
            unread += connection.receive()
            frames, read = packets.frames(unread)
            if frames:
                reactions = [
                    floor.react(each.first, unread[each.body : each.end]) for each in frames
                ]
                connection.send(b"".join(reactions))
            unread = unread[read:]


if __name__ == "__main__":
    main()
