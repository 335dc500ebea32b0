"""A channel's record outlives restarts, and a broken one costs no start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.errors import StorageError
from shared.messages import Step, UpdateReport
from shared.releases.machine import State
from shared.releases.record import Accepted, ChannelFile, ChannelRecord, Quarantine

RECORD = ChannelRecord(
    seq=5,
    key_epoch=2,
    issued=7.5,
    expires=8.5,
    active=Accepted(b"\x00\xffenvelope", "cd" * 32),
    previous=Accepted(b"before", "ef" * 32),
    pending=Accepted(b"coming"),
    state=State.PROBATION,
    quarantined=(Quarantine("ab" * 32, 1),),
    report=UpdateReport(
        node="tier1-a", channel="c", seq=5, version="5", state="PROBATION", reason="", since=1.5,
        steps=[Step(state="OFFERED", seconds=0.1)],
    ),
)  # fmt: skip


def test_what_was_written_is_read_by_the_next_life(tmp_path: Path) -> None:
    ChannelFile(tmp_path / "channels" / "c.json").write(RECORD)
    assert ChannelFile(tmp_path / "channels" / "c.json").read() == RECORD


def test_without_a_file_the_record_is_empty(tmp_path: Path) -> None:
    assert ChannelFile(tmp_path / "c.json").read() == ChannelRecord()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut-off"),
        pytest.param(b'{"seq": "five"}', id="wrong-type"),
        pytest.param(b'{"state": "DREAMING"}', id="unknown-state"),
        pytest.param(b'{"quarantined": ["\xff\xfe"]}', id="not-utf8"),
        pytest.param(b"[" * 50_000, id="nested-without-end"),
        pytest.param(b"0" * 64 + b"\n{}", id="another-digest"),
    ],
)
def test_a_broken_file_is_put_aside_and_the_record_begun_anew(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    assert ChannelFile(path).read() == ChannelRecord()
    assert not path.exists()
    assert (tmp_path / "c.broken").read_bytes() == content


def test_a_write_that_fails_leaves_the_old_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ChannelFile(tmp_path / "c.json")
    file.write(RECORD)

    def broken_disk(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken_disk)
    with pytest.raises(StorageError, match="Input/output error"):
        file.write(ChannelRecord())
    assert file.read() == RECORD
