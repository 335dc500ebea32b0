"""Hard samples that could not be asked wait on the disk, and go up when nothing else does."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from shared.cascade.backlog import COMMIT_EVERY_S, MAX_SENT, REOPEN_S, Backlog
from shared.cascade.config import BacklogConfig, EscalationConfig
from shared.errors import StorageError
from shared.messages import Escalation
from shared.metrics import NodeMetrics
from shared.spool import Spool, SpoolLimits
from tests.builders import SHAPE, escalated

ROOMY = BacklogConfig(retry_s=10.0, max_retry_s=40.0)


class Rig:
    """A backlog on a file."""

    def __init__(self, folder: Path, config: BacklogConfig, *, seed: int, node: str) -> None:
        self.metrics = NodeMetrics(CollectorRegistry())
        self.spool = Spool(
            folder / "backlog.sqlite", SpoolLimits(config.max_bytes, config.max_age_s)
        )
        self.backlog = Backlog(
            node=node,
            pipeline="meter",
            reply_to=node,
            config=EscalationConfig(max_batch_samples=4, backlog=config),
            spool=self.spool,
            rng=random.Random(seed),
            metrics=self.metrics,
        )
        self.backlog.start()

    def keep(self, *numbers: int) -> None:
        rows = np.full((len(numbers), *SHAPE), 7, np.float32)
        scores = np.zeros((len(numbers), 3), np.float32)
        self.backlog.keep([escalated(number) for number in numbers], rows, scores, "1")

    def write(self, *numbers: int, now_s: float) -> None:
        """Keeps samples and writes them to the disk."""
        self.keep(*numbers)
        self.backlog.poll(now_s)
        assert self.backlog.due_s() is None

    def send(self, now_s: float) -> Escalation | None:
        return self.backlog.next(now_s, idle=True)

    def sent(self, now_s: float) -> Escalation:
        message = self.send(now_s)
        assert message is not None
        return message

    @property
    def shown_bytes(self) -> float | None:
        registry = self.metrics.registry
        return registry.get_sample_value("edge_backlog_bytes", {"pipeline": "meter"})

    def drops(self, reason: str) -> float:
        found = self.metrics.registry.get_sample_value("edge_drops_total", {"reason": reason})
        return found or 0.0


@contextmanager
def rig_at(
    folder: Path, config: BacklogConfig = ROOMY, *, seed: int = 1, node: str = "tier1-a"
) -> Iterator[Rig]:
    rig = Rig(folder, config, seed=seed, node=node)
    try:
        yield rig
    finally:
        rig.backlog.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_at(tmp_path) as rig:
        yield rig


def ids(message: Escalation | None) -> list[str]:
    return [] if message is None else [sample.id for sample in message.samples]


def numbers(message: Escalation) -> tuple[int, ...]:
    return tuple(sample.correlation for sample in message.samples)


def test_what_is_kept_goes_to_the_disk_and_out_as_it_came(rig: Rig) -> None:
    rig.write(1, 2, now_s=0.0)
    message = rig.sent(0.0)
    assert ids(message) == ["id-1", "id-2"]
    assert message.backlog
    assert message.reply_to == "tier1-a"
    assert message.inputs.array().tolist() == [[7.0] * 3] * 2


def test_it_writes_at_most_once_a_second(rig: Rig) -> None:
    rig.write(1, now_s=0.0)
    written_bytes = rig.spool.payload_bytes
    rig.keep(2)
    rig.backlog.poll(COMMIT_EVERY_S - 0.1)
    assert rig.spool.payload_bytes == written_bytes
    assert rig.backlog.due_s() == COMMIT_EVERY_S
    rig.backlog.poll(COMMIT_EVERY_S)
    assert rig.spool.payload_bytes > written_bytes


def test_past_a_messages_worth_until_the_next_write_samples_are_dropped_and_counted(
    rig: Rig,
) -> None:
    rig.write(0, now_s=0.0)
    row = np.zeros((1, 2**17), np.float32)  # half a MiB alone
    rig.backlog.keep([escalated(1)], row, np.zeros((1, 3), np.float32), "1")
    assert rig.backlog.full
    rig.keep(2, 3)
    rig.backlog.refuse(5)
    assert rig.drops("backlog_full") == 7
    rig.backlog.poll(1.0)
    assert not rig.backlog.full


def test_nothing_goes_while_the_next_tier_is_busy_or_away(rig: Rig) -> None:
    rig.write(1, now_s=0.0)
    assert rig.backlog.next(0.0, idle=False) is None
    assert ids(rig.send(0.0)) == ["id-1"]


def test_one_message_is_on_its_way_at_a_time(rig: Rig) -> None:
    rig.write(1, now_s=0.0)
    rig.write(2, now_s=1.0)
    first = rig.sent(1.0)
    assert rig.send(1.1) is None
    assert rig.backlog.on_reply(numbers(first))
    assert ids(rig.send(1.2)) == ["id-2"]


def test_what_is_confirmed_is_gone(rig: Rig) -> None:
    rig.write(1, now_s=0.0)
    assert rig.shown_bytes == rig.spool.payload_bytes > 0
    rig.backlog.on_reply(numbers(rig.sent(0.0)))
    assert rig.shown_bytes == rig.spool.payload_bytes == 0
    assert rig.send(1000.0) is None


def test_a_message_that_is_not_confirmed_is_sent_again_later_and_later(rig: Rig) -> None:
    rig.write(1, now_s=0.0)
    sent_s = [step / 2 for step in range(400) if rig.send(step / 2) is not None]
    waits = [later - earlier for earlier, later in itertools.pairwise(sent_s)]
    for wait_s, longest_s in zip(waits[:5], (10, 20, 40, 40, 40), strict=True):
        assert longest_s / 2 <= wait_s <= longest_s + 0.5


def test_one_that_is_never_confirmed_holds_up_none_behind_it(rig: Rig) -> None:
    for second in range(3):
        rig.write(second, now_s=float(second))
    poison = rig.sent(10.0)
    confirmed = []
    now_s = 60.0
    for _ in range(2):
        message = rig.sent(now_s)
        confirmed += ids(message)
        rig.backlog.on_reply(numbers(message))
    assert ids(poison) == ["id-0"]
    assert confirmed == ["id-1", "id-2"]
    assert ids(rig.send(now_s)) == ["id-0"]


def test_a_confirmation_that_comes_after_the_next_message_still_counts(rig: Rig) -> None:
    rig.write(1, now_s=0.0)
    rig.write(2, now_s=1.0)
    first, second = rig.sent(1.0), rig.sent(60.0)
    rig.backlog.on_reply(numbers(first))
    rig.backlog.on_reply(numbers(second))
    assert rig.spool.payload_bytes == 0


@pytest.mark.parametrize("reply", [(), (5, 6), (0,)], ids=["empty", "live", "zero"])
def test_a_reply_to_a_live_question_is_none_of_its_own(rig: Rig, reply: tuple[int, ...]) -> None:
    assert not rig.backlog.on_reply(reply)


def test_a_reply_that_fits_no_message_removes_nothing(rig: Rig) -> None:
    rig.write(1, 2, now_s=0.0)
    message = rig.sent(0.0)
    assert rig.backlog.on_reply(numbers(message)[:1])
    assert rig.backlog.on_reply((-12345,))
    assert rig.spool.payload_bytes > 0


def test_it_survives_a_restart_under_the_new_name(tmp_path: Path) -> None:
    with rig_at(tmp_path) as rig:
        rig.keep(1)  # closing writes it
    with rig_at(tmp_path, seed=2, node="tier1-b") as again:
        again.write(2, now_s=0.0)
        message = again.sent(0.0)
        assert (ids(message), message.node, message.reply_to) == (["id-1"], "tier1-b", "tier1-b")
        again.backlog.on_reply(numbers(message))
        newer = again.sent(0.0)
        assert ids(newer) == ["id-2"]
        assert not set(numbers(newer)) & set(numbers(message))


def test_past_its_bytes_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    with rig_at(tmp_path, BacklogConfig(max_bytes=500)) as rig:
        for second in range(4):
            rig.write(second, now_s=float(second))
        assert rig.drops("backlog_expired") >= 1
        assert ids(rig.send(10.0)) != ["id-0"]
        assert rig.spool.payload_bytes <= 500


def test_without_room_on_the_disk_it_keeps_nothing_counts_nothing_and_opens_nothing(
    tmp_path: Path,
) -> None:
    with rig_at(tmp_path) as before:
        before.write(1, now_s=0.0)
    left = tmp_path / "backlog.sqlite"
    left.write_bytes(b"no database, and to be left alone" * 100)
    content = left.read_bytes()
    with rig_at(tmp_path, BacklogConfig(max_bytes=0)) as rig:
        rig.backlog.start([left])
        assert rig.backlog.full
        rig.keep(1)
        rig.backlog.refuse(3)
        assert rig.backlog.due_s() is None
        rig.backlog.poll(100.0)
        assert rig.send(100.0) is None
        assert rig.drops("backlog_full") == rig.drops("backlog_broken") == 0
    assert left.read_bytes() == content


def test_a_disk_that_fails_costs_samples_and_no_more(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise StorageError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "add_all", broken)
        rig.write(1, 2, now_s=0.0)
    assert rig.drops("backlog_broken") == 2
    assert "disk full" in caplog.text
    assert rig.backlog.full
    rig.keep(3, 4, 5)
    rig.backlog.poll(REOPEN_S - 0.1)
    rig.backlog.refuse(1)
    assert rig.drops("backlog_broken") == 6
    rig.backlog.poll(REOPEN_S)
    rig.write(6, now_s=REOPEN_S)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "after", broken)
        assert rig.send(REOPEN_S) is None
    assert rig.send(2 * REOPEN_S - 0.1) is None
    rig.backlog.poll(2 * REOPEN_S)
    message = rig.sent(2 * REOPEN_S)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "remove", broken)
        assert rig.backlog.on_reply(numbers(message))
    assert rig.backlog.on_reply(numbers(message))
    assert rig.spool.payload_bytes == 0


def test_a_folder_that_cannot_be_written_turns_it_off_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.write_bytes(b"no folder")
    with rig_at(folder) as rig:
        rig.write(1, now_s=0.0)
        assert rig.drops("backlog_broken") == 1
        assert rig.send(0.0) is None
        folder.unlink()
        rig.backlog.poll(REOPEN_S)
        rig.write(2, now_s=REOPEN_S)
        assert ids(rig.send(REOPEN_S)) == ["id-2"]


def test_what_is_on_a_disk_that_comes_late_goes_up_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(path)

    folder, away = tmp_path / "disk", tmp_path / "away"
    with rig_at(tmp_path / "disk") as before:
        before.write(1, now_s=0.0)
    folder.rename(away)
    folder.write_bytes(b"no folder")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", forbidden)
        rig = Rig(folder, ROOMY, seed=1, node="tier1-a")
    with closing(rig.backlog):
        rig.backlog.poll(0.0)
        assert rig.backlog.full
        folder.unlink()
        away.rename(folder)
        rig.backlog.poll(REOPEN_S)
        assert ids(rig.send(REOPEN_S)) == ["id-1"]


def test_a_file_that_is_damaged_meanwhile_is_begun_anew(rig: Rig, tmp_path: Path) -> None:
    for second in range(20):
        rig.keep(*range(20))
        rig.backlog.poll(float(second))
    rig.spool.close()
    path = tmp_path / "backlog.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    rig.write(1, now_s=100.0)
    rig.backlog.poll(100.0 + REOPEN_S)
    rig.write(2, now_s=101.0 + REOPEN_S)
    assert ids(rig.send(200.0))[0] in ("id-1", "id-2")
    assert (tmp_path / "backlog.corrupt").exists()


def test_an_entry_that_cannot_be_read_is_dropped_and_the_next_one_goes(rig: Rig) -> None:
    rig.spool.add_all([("damaged", b"\xc1 no message")])
    rig.write(1, now_s=0.0)
    assert ids(rig.send(0.0)) == ["id-1"]
    assert rig.drops("backlog_unreadable") == 1


def test_many_unconfirmed_messages_are_all_tried_in_bounded_memory(rig: Rig) -> None:
    count = MAX_SENT + 2
    for second in range(count):
        rig.write(second, now_s=float(second))
    tried = [ids(rig.send(1000.0 + 100.0 * step))[0] for step in range(count + 1)]
    assert tried == [*(f"id-{second}" for second in range(count)), "id-0"]
    assert len(rig.backlog._sent) <= MAX_SENT


def test_a_message_that_is_too_large_to_be_sent_goes_in_halves(rig: Rig) -> None:
    rig.write(1, 2, 3, now_s=0.0)
    rig.write(4, now_s=1.0)
    rig.backlog.discard(rig.sent(1.0))
    assert rig.drops("backlog_unsendable") == 0
    went: list[list[str]] = []
    for _ in range(3):
        message = rig.sent(1.0)
        went.append(ids(message))
        assert len(message.inputs.array()) == len(message.probabilities.array()) == len(went[-1])
        assert rig.backlog.on_reply(numbers(message))
    assert went == [["id-4"], ["id-1"], ["id-2", "id-3"]]
    assert rig.spool.payload_bytes == 0


def test_a_sample_that_is_too_large_alone_is_dropped_and_counted(rig: Rig) -> None:
    rig.write(1, now_s=0.0)
    message = rig.sent(0.0)
    rig.backlog.discard(message)
    rig.backlog.discard(message)
    assert rig.drops("backlog_unsendable") == 1
    assert rig.spool.payload_bytes == 0


def test_a_disk_that_does_not_take_the_halves_costs_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise StorageError("disk full")

    rig.write(1, 2, now_s=0.0)
    message = rig.sent(0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "replace", broken)
        rig.backlog.discard(message)
    assert ids(rig.send(1000.0)) == ["id-1", "id-2"]


def test_what_is_left_where_nobody_comes_back_to_it_is_counted(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.backlog.abandon()
    assert not caplog.records
    rig.write(1, 2, 3, now_s=0.0)
    rig.write(4, 5, 6, now_s=10.0)
    rig.keep(7)
    confirmed = rig.sent(10.0)
    rig.backlog.on_reply(numbers(confirmed))
    rig.backlog.abandon()
    assert rig.drops("backlog_abandoned") == 7 - len(confirmed.samples)
    assert "4 hard samples could not be asked, and are dropped" in caplog.text


def test_numbers_of_the_sensor_side_are_replaced(rig: Rig) -> None:
    rig.write(1, now_s=0.0)
    message = rig.sent(0.0)
    assert all(number < 0 for number in numbers(message))
    assert msgspec.structs.replace(message.samples[0], correlation=1) == escalated(1)


def test_the_backlog_of_a_process_that_is_no_more_goes_up_with_the_own_one(tmp_path: Path) -> None:
    with rig_at(tmp_path / "gone", seed=2) as gone:
        gone.write(3, now_s=0.0)
    with rig_at(tmp_path / "own") as rig:
        rig.write(1, now_s=0.0)
        rig.backlog.close()
        rig.backlog.start([tmp_path / "gone" / "backlog.sqlite"])
        first = rig.sent(10.0)
        assert rig.backlog.on_reply([each.correlation for each in first.samples])
        assert [each.id for each in rig.sent(1000.0).samples] == [escalated(3).id]


def test_a_backlog_that_cannot_be_taken_over_is_said_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no database" * 200)
    with rig_at(tmp_path) as rig:
        rig.backlog.close()
        rig.backlog.start([broken])
        rig.write(1, now_s=0.0)
        assert rig.send(10.0) is not None
    assert "the backlog of a worker that is no more stays" in caplog.text
    assert broken.exists()
