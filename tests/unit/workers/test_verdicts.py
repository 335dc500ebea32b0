"""All workers of a node go by what worker 0 has found out, now and in their next lives."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from shared.mqtt.shared_subscriptions import TRIES, SharedProbe, Verdict
from shared.topics import Topics
from shared.workers.verdicts import (
    LOOK_S,
    RETRY_S,
    FollowedVerdict,
    LeadingVerdict,
    VerdictRecord,
    Verdicts,
    make_verdicts,
)
from shared.workers.worker import ALONE, Worker
from tests.fakes import FakeBroker, FakeLink

URL = "mqtt://127.0.0.1:1883"
TOPICS = Topics("escalon", "plant")


class Rig:
    """Two workers of a node at a fake broker."""

    def __init__(self, folder: Path, *, delivers: bool) -> None:
        self.folder = folder
        self.hub = FakeBroker(delivers_shared=delivers)
        self.links = [FakeLink(self.hub), FakeLink(self.hub)]
        self.workers = [self.make(index) for index in range(2)]
        self.now_s = 1000.0

    def make(self, index: int) -> Verdicts:
        made = make_verdicts(
            Worker(index, 2), Worker(index, 2).name("press-3"), self.links[index], TOPICS,
            folder=self.folder, url=URL, rng=random.Random(index),
        )  # fmt: skip
        made.start()
        return made

    def turn(self, index: int) -> None:
        worker = self.workers[index]
        worker.poll(self.now_s)
        for message in self.links[index].receive():
            assert worker.take(message)

    def settle(self) -> list[Verdict]:
        for _ in range(TRIES + 2):
            for index in range(2):
                self.turn(index)
            self.now_s += 10.0
        return self.verdicts

    @property
    def verdicts(self) -> list[Verdict]:
        return [worker.verdict for worker in self.workers]


@pytest.mark.parametrize(
    ("delivers", "verdict"),
    [(True, Verdict.DELIVERED), (False, Verdict.NOT_DELIVERED)],
    ids=["delivers", "grants-only"],
)
def test_the_verdict_of_worker_0_is_everybodys(
    tmp_path: Path, delivers: bool, verdict: Verdict
) -> None:
    rig = Rig(tmp_path, delivers=delivers)
    assert rig.verdicts == [Verdict.UNKNOWN] * 2
    assert rig.settle() == [verdict] * 2
    assert rig.links[1].subscribed == []


def test_a_worker_that_the_broker_treats_otherwise_does_not_disagree(tmp_path: Path) -> None:
    rig = Rig(tmp_path, delivers=True)
    rig.links[1].refuses_shared = True
    assert rig.settle() == [Verdict.DELIVERED] * 2


def test_it_stands_in_their_next_lives_until_the_broker_shows_otherwise(tmp_path: Path) -> None:
    Rig(tmp_path, delivers=True).settle()
    rig = Rig(tmp_path, delivers=False)
    assert rig.verdicts == [Verdict.DELIVERED] * 2
    rig.turn(0)
    assert rig.verdicts == [Verdict.DELIVERED] * 2
    assert rig.settle() == [Verdict.NOT_DELIVERED] * 2


def test_the_others_know_it_as_soon_as_worker_0_goes_by_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, delivers=True)
    rig.turn(1)
    rig.turn(0)
    rig.workers[0].poll(rig.now_s)
    assert rig.verdicts == [Verdict.DELIVERED, Verdict.UNKNOWN]
    due_s = rig.workers[1].due_s()
    assert due_s is not None
    assert due_s <= rig.now_s + LOOK_S
    rig.workers[1].poll(due_s)
    assert rig.verdicts == [Verdict.DELIVERED] * 2


def test_worker_0_does_not_go_by_what_the_others_cannot_know(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path / "state", delivers=True)
    (tmp_path / "state").write_bytes(b"no folder")
    rig.turn(0)
    for _ in range(3):
        rig.turn(0)
    assert rig.verdicts == [Verdict.UNKNOWN] * 2
    assert len(caplog.records) == 1
    (tmp_path / "state").unlink()
    rig.now_s += RETRY_S
    rig.turn(0)
    assert rig.verdicts == [Verdict.DELIVERED, Verdict.UNKNOWN]


def test_each_broker_has_its_own(tmp_path: Path) -> None:
    one, other = VerdictRecord(tmp_path, URL), VerdictRecord(tmp_path, f"{URL}1")
    one.write(Verdict.DELIVERED)
    assert other.read() is Verdict.UNKNOWN
    other.write(Verdict.NOT_DELIVERED)
    assert (one.read(), other.read()) == (Verdict.DELIVERED, Verdict.NOT_DELIVERED)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": "maybe"}', b"\xff", b"[" * 100_000])
def test_what_cannot_be_read_is_not_known(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sharing.json").write_bytes(content)
    record = VerdictRecord(tmp_path, URL)
    assert record.read() is Verdict.UNKNOWN
    record.write(Verdict.DELIVERED)
    assert record.read() is Verdict.DELIVERED


@pytest.mark.parametrize(
    ("worker", "kind"),
    [
        (ALONE, SharedProbe),
        (Worker(0, 2), LeadingVerdict),
        (Worker(1, 2), FollowedVerdict),
        (Worker(1, 1), FollowedVerdict),
    ],
    ids=str,
)
def test_only_worker_0_asks_the_broker(tmp_path: Path, worker: Worker, kind: type) -> None:
    made = make_verdicts(
        worker, "press-3", FakeLink(FakeBroker()), TOPICS,
        folder=tmp_path, url=URL, rng=random.Random(1),
    )  # fmt: skip
    assert isinstance(made, kind)
    made.start()
    assert list(tmp_path.iterdir()) == []
