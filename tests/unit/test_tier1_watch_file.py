"""What a node has found of its model outlives a restart, a crash and a damaged file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.errors import StorageError
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.slot import Slot
from tests.builders import load_echo
from tests.watch_rig import Rig, certified
from tier1 import watch_file
from tier1.calibration_watch import WINDOW
from tier1.drift_config import DriftConfig
from tier1.watch import MAX_KEPT, Watch
from tier1.watch_file import MAX_BYTES, SAVE_S, WatchFile


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_echo(tmp_path_factory.mktemp("echo"))


class Life(Rig):
    """One life of a node: a watch and its file."""

    def __init__(self, folder: Path, model: Model) -> None:
        self.metrics = NodeMetrics(CollectorRegistry())
        self.slot = Slot("meter", self.metrics)
        self.watch = Watch(DriftConfig(), self.slot, self.metrics)
        self.path = folder / "certificates" / "meter.watch"
        self.file = WatchFile(self.path, self.watch)
        self.model = model
        self.slot.put(model)
        self.file.start()

    def break_it(self) -> None:
        self.audit(2, 3000, 1 / 6, least=0.75)
        assert self.state == "broken"


def test_a_raised_threshold_is_there_in_the_next_life_before_anything_is_answered(
    tmp_path: Path, echo: Model
) -> None:
    life = Life(tmp_path, certified(echo))
    life.break_it()
    life.file.poll(0.0)
    after = Life(tmp_path, certified(echo))
    assert (after.state, after.threshold) == ("broken", life.threshold)
    assert after.slot.info == life.slot.info


def test_to_accept_nothing_is_remembered_too(tmp_path: Path, echo: Model) -> None:
    life = Life(tmp_path, certified(echo))
    life.audit(3, 500, 0.5)
    life.file.poll(0.0)
    assert Life(tmp_path, certified(echo)).threshold == math.inf


def test_it_is_written_at_once_even_if_something_was_just_written(
    tmp_path: Path, echo: Model
) -> None:
    life = Life(tmp_path, certified(echo))
    life.audit(1, 10, 0.0)
    life.file.poll(0.0)
    life.break_it()
    life.file.poll(0.001)
    assert Life(tmp_path, certified(echo)).state == "broken"


def test_the_evidence_goes_on_where_it_was(tmp_path: Path, echo: Model) -> None:
    life, whole = Life(tmp_path, certified(echo)), Rig(certified(echo))
    for seed in range(8):
        for each in (life, whole):
            each.audit(seed, 200, 0.05)
        life.file.save()
        life = Life(tmp_path, certified(echo))
    assert life.watch.kept == whole.watch.kept


def test_what_changes_nothing_of_the_threshold_is_written_once_a_minute(
    tmp_path: Path, echo: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    life, written = Life(tmp_path, certified(echo)), []
    monkeypatch.setattr(watch_file, "write_durably", lambda path, data: written.append(len(data)))
    for second in range(int(3 * SAVE_S)):
        life.audit(second, 5, 0.0)
        life.file.poll(float(second))
    assert len(written) == 3
    life.file.poll(4 * SAVE_S)
    life.file.poll(5 * SAVE_S)
    assert len(written) == 4


def test_a_node_that_audits_nothing_writes_nothing(tmp_path: Path, echo: Model) -> None:
    life = Life(tmp_path, certified(echo))
    life.gate(1, 20_000, 0.1)
    life.file.poll(0.0)
    life.file.save()
    assert not life.path.exists()


def test_the_file_stays_small(tmp_path: Path, echo: Model) -> None:
    life = Life(tmp_path, certified(echo))
    for version in range(MAX_KEPT + 2):
        life.put(certified(echo, str(version)))
        for _ in range(WINDOW + 100):
            life.watch.audited(life.model.spec, 0.9, agrees=True)
    life.file.save()
    assert life.path.stat().st_size < MAX_BYTES / 2
    assert len(Life(tmp_path, life.model).watch.kept) == MAX_KEPT


def test_another_calibration_starts_afresh_and_the_old_one_is_not_forgotten(
    tmp_path: Path, echo: Model
) -> None:
    life = Life(tmp_path, certified(echo))
    life.break_it()
    life.file.poll(0.0)
    swapped = Life(tmp_path, certified(echo, "2"))
    assert (swapped.state, swapped.threshold) == ("holds", 0.5)
    swapped.audit(1, 10, 0.0)
    swapped.file.save()
    assert Life(tmp_path, certified(echo)).state == "broken"


def test_that_it_drifted_is_remembered(tmp_path: Path, echo: Model) -> None:
    life = Life(tmp_path, certified(echo))
    life.gate(1, 20_000, 0.1)
    life.gate(2, 2000, 0.5)
    life.file.poll(0.0)
    after = Life(tmp_path, certified(echo))
    assert after.state == "void"
    assert after.slot.info == life.slot.info


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: b"",
        lambda data: data + b"x" * MAX_BYTES,
    ],
    ids=["cut-off", "bit-turned", "empty", "too-large"],
)
def test_a_damaged_file_is_put_aside_said_and_begun_anew(
    tmp_path: Path, echo: Model, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(tmp_path, certified(echo))
    life.break_it()
    life.file.poll(0.0)
    life.path.write_bytes(damage(life.path.read_bytes()))
    after = Life(tmp_path, certified(echo))
    assert (after.state, after.threshold) == ("holds", 0.5)
    assert "the released one again" in caplog.text
    assert life.path.with_suffix(".broken").exists()
    after.break_it()
    after.file.poll(0.0)
    assert Life(tmp_path, certified(echo)).state == "broken"


def test_a_disk_that_is_full_is_said_and_asked_again_in_a_minute(
    tmp_path: Path, echo: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(tmp_path, certified(echo))

    def full(*_: object) -> None:
        raise StorageError("no space left")

    with monkeypatch.context() as context:
        context.setattr(watch_file, "write_durably", full)
        life.break_it()
        for turn in range(100):
            life.file.poll(turn / 100)
    assert caplog.text.count("not on disk") == 1
    assert life.state == "broken"
    life.file.poll(SAVE_S)
    assert Life(tmp_path, certified(echo)).state == "broken"


def test_what_a_write_that_was_cut_off_has_left_is_cleared(tmp_path: Path, echo: Model) -> None:
    life = Life(tmp_path, certified(echo))
    life.break_it()
    life.file.poll(0.0)
    left = life.path.with_name(f".{life.path.name}.1.tmp")
    left.write_bytes(b"half")
    assert Life(tmp_path, certified(echo)).state == "broken"
    assert not left.exists()
