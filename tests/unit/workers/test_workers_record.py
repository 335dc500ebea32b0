"""How many workers a broker may still know outlives restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import StorageError
from shared.workers.record import WorkersRecord
from shared.workers.worker import MAX_WORKERS


def test_without_a_file_there_was_one_process(tmp_path: Path) -> None:
    assert WorkersRecord(tmp_path / "not-there-yet").read() == 1


def test_what_was_written_is_read_by_the_next_life(tmp_path: Path) -> None:
    WorkersRecord(tmp_path / "state").write(4)
    assert WorkersRecord(tmp_path / "state").read() == 4


@pytest.mark.parametrize(("content", "number"), [(b"0", 1), (b"-3", 1), (b"99999", MAX_WORKERS)])
def test_a_number_that_cannot_be_is_brought_into_range(
    tmp_path: Path, content: bytes, number: int
) -> None:
    (tmp_path / "workers.json").write_bytes(content)
    assert WorkersRecord(tmp_path).read() == number


@pytest.mark.parametrize("content", [b"", b"{}", b"2.5", b"\xff", b"1" * 400])
def test_a_file_that_cannot_be_read_makes_every_worker_looked_for(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "workers.json").write_bytes(content)
    assert WorkersRecord(tmp_path).read() == MAX_WORKERS


def test_a_disk_that_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "workers.json").mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        WorkersRecord(tmp_path).read()
