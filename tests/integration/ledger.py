"""An independent account of deliveries: what a sensor sent, what the broker acknowledged to it,
what came back.

Plain paho and the standard library; nothing here is the product's. Samples are told apart by their
timestamp, a text that no other has: a node hands it on as the sensor wrote it, also where the node
makes the id.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

Json = dict[str, Any]

HOST = "127.0.0.1"
WAIT_S = 40.0
WINDOW = 100
RETRY_S = 1


class Sample(NamedTuple):
    """A sample as it was sent.

    Attributes:
        mark: its timestamp.
        id: the sensor's, or None where the node is to make one.
        features: the numbers.
        payload: the message.
    """

    mark: str
    id: str | None
    features: list[float]
    payload: bytes


class Ledger:
    """The account of one test.

    Attributes:
        sent: the samples by their mark.
        acknowledged: marks of the samples that the broker acknowledged to their sensor.
        answers: the final predictions by the mark of their sample, in the order of arrival.
        corrections: what superseded one of them, likewise.
        errors: what a node said was wrong with a sample, by the sample's id.
    """

    def __init__(self) -> None:
        self.sent: dict[str, Sample] = {}
        self.answers: defaultdict[str, list[Json]] = defaultdict(list)
        self.corrections: defaultdict[str, list[Json]] = defaultdict(list)
        self.errors: defaultdict[str | None, list[Json]] = defaultdict(list)
        self.acknowledged: set[str] = set()
        self.news = threading.Condition()
        self._marks: dict[tuple[int, int], str] = {}
        self._early: set[tuple[int, int]] = set()
        self._numbers = itertools.count()

    def sample(self, features: list[float], *, with_id: bool) -> Sample:
        """Makes a sample and notes it as sent."""
        number = next(self._numbers)
        mark, identity = f"t-{number:06d}", f"s-{number:06d}" if with_id else None
        fields: Json = {"timestamp": mark, "features": features}
        if identity is not None:
            fields["id"] = identity
        sample = Sample(mark, identity, features, json.dumps(fields).encode())
        self.sent[mark] = sample
        return sample

    def on_published(self, sensor: int, mid: int, mark: str) -> None:
        """Notes by which number a sensor's sample went."""
        with self.news:
            self._marks[sensor, mid] = mark
            if (sensor, mid) in self._early:
                self.acknowledged.add(mark)
                self.news.notify_all()

    def on_acknowledged(self, sensor: int, mid: int) -> None:
        """Notes the broker's PUBACK. It may come before the sensor knows the number."""
        with self.news:
            mark = self._marks.get((sensor, mid))
            if mark is None:
                self._early.add((sensor, mid))
            else:
                self.acknowledged.add(mark)
                self.news.notify_all()

    def on_answer(self, answer: Json) -> None:
        """Notes a prediction or a correction."""
        kind = self.corrections if answer.get("supersedes") is not None else self.answers
        with self.news:
            kind[answer["timestamp"]].append(answer)
            self.news.notify_all()

    def on_error(self, error: Json) -> None:
        """Notes what was wrong with a sample."""
        with self.news:
            self.errors[error["id"]].append(error)
            self.news.notify_all()

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
        """Waits for a condition on the account; the bound is reached by a failure alone."""
        ends_s = time.monotonic() + timeout_s
        with self.news:
            while not condition():
                left_s = ends_s - time.monotonic()
                assert left_s > 0, f"not within {timeout_s:g} s: {what}; {self.summary()}"
                self.news.wait(min(left_s, 1.0))

    def until_count(self, answered: int) -> None:
        """Waits until so many samples have a final prediction."""
        self.until(lambda: len(self.answers) >= answered, f"answers to {answered} samples")

    def until_answered(self, marks: Iterable[str]) -> None:
        """Waits until every one of these samples has a final prediction."""
        self.until(_all_in(self.answers, marks), "answers to all samples")

    def until_acknowledged(self, marks: Iterable[str]) -> None:
        """Waits until the broker has acknowledged every one of these samples."""
        self.until(_all_in(self.acknowledged, marks), "acknowledgements of all samples")

    def summary(self) -> str:
        """Returns where things stand, for a failure's message."""
        open_marks = sorted(self.sent.keys() - self.answers.keys())
        return (
            f"{len(self.sent)} sent, {len(self.acknowledged)} acknowledged, "
            f"{len(self.answers)} answered; unanswered: {open_marks[:5]}…{open_marks[-2:]}"
        )

    def assert_one_id_each(self) -> None:
        """Duplicates carry the same id; no two samples carry the same one; none is unknown."""
        unknown = self.answers.keys() - self.sent.keys()
        assert not unknown, f"answers to what nobody sent: {sorted(unknown)[:5]}"
        owners: dict[str, str] = {}
        for mark, answers in self.answers.items():
            ids = {answer["id"] for answer in answers}
            assert len(ids) == 1, f"one sample, several ids: {answers}"
            (identity,) = ids
            assert identity
            assert self.sent[mark].id in (None, identity)
            assert owners.setdefault(identity, mark) == mark, f"one id, two samples: {answers}"

    @property
    def repeated(self) -> Counter[str]:
        """How often each sample was answered that was answered more than once."""
        return Counter({mark: len(all_) for mark, all_ in self.answers.items() if len(all_) > 1})


class Sensor:
    """Publishes samples at QoS 1 from a thread of paho's, and counts PUBACKs.

    It comes back after a lost connection and sends again what is unacknowledged, as sensors do.

    Args:
        ledger: where everything is noted.
        port: of the broker on 127.0.0.1.
        topic: where to.
    """

    _names = itertools.count(1)

    def __init__(self, ledger: Ledger, port: int, topic: str) -> None:
        self._ledger = ledger
        self._port = port
        self._topic = topic
        self._name = next(self._names)
        self._gone = threading.Event()
        self._client = _client(f"sensor-{self._name}")
        self._client.max_inflight_messages_set(WINDOW)
        self._client.on_publish = lambda client, data, mid, *_: ledger.on_acknowledged(
            self._name, mid
        )
        self._client.on_disconnect = lambda *_: self._gone.set()

    def __enter__(self) -> Self:
        """Connects."""
        self._client.connect(HOST, self._port)
        self._client.loop_start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnects."""
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, samples: Iterable[Sample]) -> list[str]:
        """Hands samples over, which leave as fast as the broker acknowledges; returns their marks.

        At most 65,535 in all, so that no number comes twice.
        """
        marks = []
        for sample in samples:
            info = self._client.publish(self._topic, sample.payload, 1)
            self._ledger.on_published(self._name, info.mid, sample.mark)
            marks.append(sample.mark)
        return marks

    def until_disconnected(self) -> None:
        """Waits until the broker has gone, and what it had acknowledged is noted."""
        assert self._gone.wait(WAIT_S), "the broker is still there"

    @contextmanager
    def streaming(self, samples: Iterable[Sample], *, most_open: int) -> Iterator[None]:
        """Sends sample after sample beside the block, which ends when all are sent.

        Args:
            samples: in the order of sending.
            most_open: at most so many are sent and not answered yet.
        """
        ledger = self._ledger

        def stream() -> None:
            for sample in samples:
                self.send([sample])
                ledger.until(
                    lambda: len(ledger.sent) - len(ledger.answers) < most_open,
                    "answers before more is sent",
                )

        with ThreadPoolExecutor(1) as pool:
            streamed = pool.submit(stream)
            yield
            streamed.result()


class Audience:
    """Subscribes to all predictions and errors of a broker at QoS 1.

    Args:
        ledger: where everything is noted.
        port: of the broker on 127.0.0.1.
        prefix: first levels of the topics.
    """

    _names = itertools.count(1)

    def __init__(self, ledger: Ledger, port: int, prefix: str) -> None:
        self._port = port
        self._ready = threading.Event()
        client = self._client = _client(f"audience-{next(self._names)}")
        topics = [(f"{prefix}/+/{kind}/+", 1) for kind in ("predictions", "errors")]
        client.on_connect = lambda subscriber, *_: subscriber.subscribe(topics)
        client.on_subscribe = lambda *_: self._ready.set()
        client.message_callback_add(
            f"{prefix}/+/predictions/+", lambda *got: ledger.on_answer(json.loads(got[2].payload))
        )
        client.message_callback_add(
            f"{prefix}/+/errors/+", lambda *got: ledger.on_error(json.loads(got[2].payload))
        )

    def __enter__(self) -> Self:
        """Connects and subscribes."""
        self._client.connect(HOST, self._port)
        self._client.loop_start()
        assert self._ready.wait(WAIT_S), "the broker does not answer"
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnects."""
        self._client.disconnect()
        self._client.loop_stop()


def _all_in(found: Container[str], wanted: Iterable[str]) -> Callable[[], bool]:
    """Returns a condition that looks at each of the wanted but once after it was found."""
    missing = list(wanted)

    def holds() -> bool:
        while missing and missing[-1] in found:
            missing.pop()
        return not missing

    return holds


def _client(name: str) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv311)
    client.max_queued_messages_set(0)
    client.reconnect_delay_set(RETRY_S, RETRY_S)
    return client
