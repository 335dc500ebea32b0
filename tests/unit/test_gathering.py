"""What a training learns from is written in slices, of one teacher, and whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cloud import gathering
from cloud.gathering import Gathering, Wanted
from cloud.selection import Selection
from cloud.training.dataset import Telemetry
from cloud.training.telemetry import read_telemetry
from shared.errors import StorageError
from shared.messages import TelemetryRecord, Tensor
from tests.builders import LABELS, SHAPE, record
from tests.fakes import wait_until
from tests.store.desk import NOON_S, StoreDesk, of_sample, told

WANTED = Wanted(
    pipeline="meter", since_s=0.0, tier2_version="7", shape=SHAPE, labels=len(LABELS),
    most_bytes=2**20, seed=1,
)  # fmt: skip
AUDITS, HARD = 60, 150


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[StoreDesk]:
    desk = StoreDesk(f"sqlite:///{tmp_path / 'telemetry.sqlite'}", str(tmp_path / "inputs"))
    yield desk
    desk.close()


def fill(desk: StoreDesk, first: int = 0, version: str = "7") -> None:
    """Has the audit's and hard samples have come, turn about."""
    records: list[TelemetryRecord] = []
    for number in range(first, first + AUDITS + HARD):
        found = record(number)
        if number - first < AUDITS:
            found = of_sample(
                record(number, audit=True), reason="audit", inclusion_probability=0.25
            )
        records.append(msgspec.structs.replace(found, tier2_version=version))
    desk.send(*records, now_s=NOON_S)


def gathered(desk: StoreDesk, path: Path, wanted: Wanted = WANTED) -> Selection:
    gathering = Gathering(desk.store, wanted, path)
    gathering.start()
    found: list[Selection] = []

    def ends() -> bool:
        found.extend(each for each in (gathering.poll(),) if each)
        return bool(found)

    wait_until(ends, "it is gathered")
    return found[0]


def telemetry(desk: StoreDesk, tmp_path: Path, wanted: Wanted = WANTED) -> Telemetry:
    gathered(desk, tmp_path / "job" / "telemetry.npz", wanted)
    return read_telemetry(tmp_path / "job" / "telemetry.npz")


def test_all_that_came_is_there_with_its_inputs_and_labels(
    desk: StoreDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "SLICE_BYTES", 7 * 12)  # seven inputs
    fill(desk)
    desk.store.label([told("id-3", "one"), told("id-70", "two")], NOON_S)
    numbers = [each.number for each in desk.store.queue("meter", 5, NOON_S)]
    found = telemetry(desk, tmp_path)
    stored = desk.traffic()
    assert_array_equal(found.inputs, desk.store.inputs(stored.number, SHAPE))
    assert_array_equal(found.tier2, stored.tier2)
    assert_array_equal(found.audit, stored.audit)
    assert_array_equal(found.labels, stored.label)
    assert_array_equal(found.inclusion_probability, stored.inclusion_probability)
    assert sorted(found.labels.tolist())[-2:] == [1, 2]
    assert_array_equal(found.asked, np.isin(stored.number, numbers))
    assert found.certifies.all()


def test_what_another_teacher_answered_is_left_out(desk: StoreDesk, tmp_path: Path) -> None:
    """Its answers are others, and its probabilities have another temperature."""
    fill(desk, version="6")
    fill(desk, first=1000)
    found = telemetry(desk, tmp_path)
    assert len(found.labels) == AUDITS + HARD
    assert found.inputs.min() == 1000


def test_no_more_bytes_are_taken_than_were_allowed_and_the_audit_comes_first(
    desk: StoreDesk, tmp_path: Path
) -> None:
    fill(desk)
    wanted = replace(WANTED, most_bytes=150 * (12 + 12 + 64))
    found = telemetry(desk, tmp_path, wanted)
    assert np.count_nonzero(found.inclusion_probability == 0.25) == AUDITS
    assert AUDITS < len(found.labels) < 180
    hard = found.inclusion_probability[found.inclusion_probability != 0.25]
    assert set(hard.tolist()) == {90 / HARD}


def test_inputs_of_another_shape_are_left_out(desk: StoreDesk, tmp_path: Path) -> None:
    fill(desk)
    desk.send(msgspec.structs.replace(record(999), input=Tensor.of(np.zeros(5, np.float32))))
    assert len(telemetry(desk, tmp_path).labels) == AUDITS + HARD


def test_too_little_to_certify_writes_nothing_and_says_so(desk: StoreDesk, tmp_path: Path) -> None:
    """People have labelled many hard samples, and the audit has drawn none."""
    desk.send(*map(record, range(570)))
    desk.store.label([told(f"id-{number}", "one") for number in range(570)], NOON_S)
    with pytest.raises(StorageError, match="are the fewest to certify on"):
        gathered(desk, tmp_path / "job" / "telemetry.npz")
    assert not (tmp_path / "job").exists()


def test_a_cloud_that_ends_waits_for_one_slice_and_leaves_no_file(
    desk: StoreDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "SLICE_BYTES", 1)
    fill(desk)
    path = tmp_path / "job" / "telemetry.npz"
    gathering_ = Gathering(desk.store, WANTED, path)
    gathering_.start()
    gathering_.stop()
    with pytest.raises(StorageError, match="the cloud ends"):
        gathering_.poll()
    assert not path.exists()


def test_a_full_disk_is_an_error_of_storage(desk: StoreDesk, tmp_path: Path) -> None:
    fill(desk)
    (tmp_path / "job").write_text("no folder")
    with pytest.raises(StorageError, match="cannot write"):
        gathered(desk, tmp_path / "job" / "telemetry.npz")
