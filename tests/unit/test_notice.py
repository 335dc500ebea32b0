"""Beside a cloud node it is known whether it runs, and what holds it up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cloud.notice import EVERY_S, MAX_TROUBLE, Notice, NoticeFile
from shared.durable import write_durably
from tests.fakes import wait_until

HOLDS = """
import pathlib, sys
from cloud.notice import NoticeFile
with NoticeFile(pathlib.Path(sys.argv[1])).running():
    print("runs", flush=True)
    sys.stdin.read()
"""


def test_who_only_looks_makes_nothing_and_sees_that_nobody_runs(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    assert not NoticeFile(folder).is_running
    assert NoticeFile(folder).read() == Notice(taken=0.0)
    assert not folder.exists()


def test_that_it_runs_ends_with_the_process_also_by_kill_9(tmp_path: Path) -> None:
    notice = NoticeFile(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        assert notice.is_running
        process.kill()
        process.wait()
    wait_until(lambda: not notice.is_running, "its lock is gone")


def test_a_node_that_ends_is_seen_to_have_ended(tmp_path: Path) -> None:
    notice = NoticeFile(tmp_path)
    with NoticeFile(tmp_path).running():
        assert notice.is_running
    assert not notice.is_running


def test_what_holds_it_up_is_kept_as_it_changes_and_no_more_often_than_is_of_use(
    tmp_path: Path,
) -> None:
    notice = NoticeFile(tmp_path)
    notice.keep("", {"a": "a blob is damaged", "b": ""}, 1000.0, 1.0)
    assert notice.read() == Notice(taken=1000.0, channels={"a": "a blob is damaged"})
    notice.keep("", {"a": "", "b": ""}, 1001.0, 1.0 + EVERY_S / 2)
    assert notice.read().trouble("a") == "a blob is damaged"
    notice.keep("a key is missing", {"a": "", "b": ""}, 1002.0, 1.0 + EVERY_S)
    assert notice.read() == Notice(taken=1002.0, node="a key is missing")
    notice.keep("a key is missing", {}, 2000.0, 2000.0)
    assert notice.read().taken == 1002.0
    assert notice.read().trouble("b") == "a key is missing"


def test_it_is_bounded(tmp_path: Path) -> None:
    notice = NoticeFile(tmp_path)
    notice.keep("x" * 10_000, {"a": "y" * 10_000}, 1.0, 1.0)
    assert len(notice.read().trouble("a")) <= 2 * MAX_TROUBLE + len("; ")


@pytest.mark.parametrize("data", [b"{", b"", b"\xff"])
def test_a_damaged_one_says_nothing_and_is_written_anew(tmp_path: Path, data: bytes) -> None:
    write_durably(tmp_path / "notice.json", data)
    assert NoticeFile(tmp_path).read() == Notice(taken=0.0)
    NoticeFile(tmp_path).keep("", {}, 5.0, 5.0)
    assert NoticeFile(tmp_path).read() == Notice(taken=5.0)


def test_one_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "notice.json").mkdir()
    assert "cannot read" in NoticeFile(tmp_path).read().trouble("a")


def test_one_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    notice = NoticeFile(tmp_path)
    (tmp_path / "notice.json").mkdir()
    notice.keep("", {"a": "x"}, 1.0, 1.0)
    (tmp_path / "notice.json").rmdir()
    notice.keep("", {"a": "x"}, 9.0, 9.0)
    assert notice.read().trouble("a") == "x"
