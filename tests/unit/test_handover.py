"""No sample falls between two workers when their number changes, where each gets every sample."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics
from shared.mqtt.message import Message
from shared.mqtt.shared_subscriptions import TRIES
from shared.workers.session_record import SessionRecord
from shared.workers.worker import Worker
from tests.fakes import FakeBroker, FakeLink
from tier1.config import Tier1Config
from tier1.shares import make_shares

SENSORS = [f"cam-{number}" for number in range(12)]


def config_of(folder: Path) -> Tier1Config:
    (folder / "small.onnx").touch()
    model = {"path": folder / "small.onnx", "labels": ["good", "bent"]}
    node = {
        "role": "tier1",
        "node": "press-3",
        "site": "plant",
        "state_dir": folder / "state",
        "broker": {"url": "mqtt://127.0.0.1"},
        "pipelines": {"meter": {"input": {"shape": [3]}, "model": model}},
    }
    return Tier1Config.model_validate(node, strict=False)


class Life:
    """One worker's process: it answers what is its own, one sample after the other."""

    def __init__(self, plant: Plant, worker: Worker) -> None:
        self.worker = worker
        self.plant = plant
        self.link = FakeLink(
            plant.hub, connected=False, client_id=f"press-3{worker.client_suffix}",
            persistent=True, receive_maximum=4,
        )  # fmt: skip
        self.shares = make_shares(
            worker, plant.config, filters={"escalon/plant/meter/samples/+": 1}, link=self.link,
            metrics=NodeMetrics(CollectorRegistry()), seed=plant.rng.getrandbits(32),
        )  # fmt: skip
        self.shares.start()
        self.in_hand: list[Message] = []

    def connect(self) -> None:
        self.link.connect()
        self.shares.on_connected()

    def turn(self, now_s: float) -> None:
        """Takes what is there, and answers the oldest that it has in hand."""
        if not self.link.connected:
            return
        for message in self.link.receive():
            self._take(message)
        for message in self.shares.poll(now_s):
            self._take(message)
        self.in_hand = [each for each in self.in_hand if each.session == self.link.session]
        if self.in_hand:
            message = self.in_hand.pop(0)
            self.plant.answers[message.payload] += 1
            self.link.done(message)

    def _take(self, message: Message) -> None:
        if self.shares.take_probe(message):
            self.link.done(message)
        elif self.shares.holds(message):
            return
        elif self.shares.takes_all or self.shares.takes(message.topic.rsplit("/", 1)[-1]):
            self.in_hand.append(message)
        else:
            self.link.done(message)


class Plant:
    """A node whose workers come, go and change in number, at a broker that splits nothing."""

    def __init__(self, folder: Path, seed: int, *, delivers: bool = False) -> None:
        self.rng = random.Random(seed)
        self.config = config_of(folder)
        self.hub = FakeBroker(delivers_shared=delivers)
        self.now_s = 1000.0
        self.lives: list[Life] = []
        self.sent: list[bytes] = []
        self.answers: Counter[bytes] = Counter()

    def start(self, workers: Sequence[Worker]) -> None:
        """Starts processes; each connects at a moment of its own."""
        self.lives = [Life(self, worker) for worker in workers]

    def stop(self) -> None:
        """Ends every process where it stands."""
        for life in self.lives:
            life.link.disconnect()

    def publish(self, number: int = 1) -> None:
        for _ in range(number):
            self.sent.append(str(len(self.sent)).encode())
            topic = f"escalon/plant/meter/samples/{self.rng.choice(SENSORS)}"
            self.hub.publish(topic, self.sent[-1])

    def run(self, turns: int, *, samples: bool) -> None:
        """Lets processes take turns in any order, with samples in between."""
        for _ in range(turns):
            life = self.rng.choice(self.lives)
            if not life.link.connected and self.rng.random() < 0.1:
                life.connect()
            life.turn(self.now_s)
            self.now_s += self.rng.choice([0.0, 0.1, 0.3])
            if samples and self.rng.random() < 0.2:
                self.publish()

    def settle(self) -> None:
        """Lets every process come, and do all that it has to do."""
        for _ in range(40 * TRIES + len(self.sent)):
            for life in self.lives:
                if not life.link.connected:
                    life.connect()
                life.turn(self.now_s)
            self.now_s += 0.3

    def counts(self, index: int) -> tuple[int, ...]:
        url = self.config.broker.url
        return SessionRecord(self.config.state_dir, Worker(index, 9), url).read().counts


def workers(count: int, known: int = 0) -> list[Worker]:
    return [Worker(index, count) for index in range(max(count, known))]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "counts",
    [(2, 3), (3, 2), (1, 3), (3, 1), (2, 3, 5), (4, 3, 2)],
    ids=lambda counts: "-".join(map(str, counts)),
)
def test_no_sample_is_lost_from_one_number_of_workers_to_another(
    tmp_path: Path, counts: tuple[int, ...], seed: int
) -> None:
    plant = Plant(tmp_path, seed)
    plant.start(workers(counts[0]))
    plant.settle()
    known = counts[0]
    for count in counts[1:]:
        plant.run(60, samples=True)
        plant.stop()
        plant.publish(10)
        known = max(known, count)
        plant.start(workers(count, known))
        plant.run(200, samples=True)
    plant.settle()
    assert set(plant.answers) == set(plant.sent)
    assert all(life.shares.is_drained for life in plant.lives if life.worker.leaves)
    assert [plant.counts(index) for index in range(counts[-1])] == [
        (counts[-1] if counts[-1] > 1 else 0,)
    ] * counts[-1]
    before = plant.answers.total()
    plant.publish(50)
    plant.settle()
    assert plant.answers.total() == before + 50, "each is answered once again"


@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_always_had_its_workers_answers_each_sample_once(
    tmp_path: Path, seed: int
) -> None:
    plant = Plant(tmp_path, seed)
    for _ in range(2):
        plant.start(workers(3))
        plant.settle()
        plant.publish(50)
        plant.settle()
        plant.stop()
        plant.publish(10)
    plant.start(workers(3))
    plant.settle()
    assert plant.answers == Counter(plant.sent)


@pytest.mark.parametrize("seed", range(3))
def test_where_the_broker_deals_out_nothing_is_lost_or_answered_twice(
    tmp_path: Path, seed: int
) -> None:
    plant = Plant(tmp_path, seed, delivers=True)
    plant.start(workers(3))
    plant.settle()
    plant.publish(30)
    plant.stop()
    plant.start(workers(2, 3))
    plant.settle()
    plant.publish(30)
    plant.settle()
    assert plant.answers == Counter(plant.sent)
    assert all(life.shares.is_drained for life in plant.lives if life.worker.leaves)


def test_until_the_last_of_the_new_workers_has_come_the_old_ones_answer_for_it(
    tmp_path: Path,
) -> None:
    plant = Plant(tmp_path, 1)
    plant.start(workers(1))
    plant.settle()
    plant.stop()
    plant.start(workers(2))
    late = plant.lives.pop()
    plant.settle()
    assert plant.counts(0) == (0, 2)
    plant.publish(40)
    plant.settle()
    assert plant.answers == Counter(plant.sent)
    plant.lives.append(late)
    plant.settle()
    assert (plant.counts(0), plant.counts(1)) == ((2,), (2,))
    assert plant.answers == Counter(plant.sent)


def test_a_worker_that_leaves_and_knows_nothing_of_its_session_answers_all_that_is_in_it(
    tmp_path: Path,
) -> None:
    plant = Plant(tmp_path, 1)
    plant.start(workers(2))
    plant.settle()
    plant.stop()
    plant.publish(20)
    SessionRecord(plant.config.state_dir, Worker(1, 2), plant.config.broker.url).remove()
    plant.start([Worker(1, 1)])
    plant.settle()
    assert plant.answers == Counter(plant.sent)
