"""What a session is subscribed to is known to the next life, whatever the disk does."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import StorageError
from shared.workers.session_record import RememberedSession, SessionRecord, SessionState
from shared.workers.worker import ALONE, Worker

URL = "mqtt://127.0.0.1:1883"
STATE = SessionState(("a/+", "b/+"), confirmed=True, counts=(0, 2))


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert SessionRecord(tmp_path / "not-there-yet", ALONE, URL).read() == SessionState()


def test_what_was_written_is_read_by_the_next_life(tmp_path: Path) -> None:
    SessionRecord(tmp_path / "state", ALONE, URL).write(STATE)
    assert SessionRecord(tmp_path / "state", ALONE, URL).read() == STATE


def test_each_worker_and_each_broker_has_its_own(tmp_path: Path) -> None:
    SessionRecord(tmp_path, ALONE, URL).write(STATE)
    SessionRecord(tmp_path, Worker(1, 2), URL).write(SessionState(("c",)))
    SessionRecord(tmp_path, ALONE, f"{URL}1").write(SessionState(("d",)))
    assert SessionRecord(tmp_path, Worker(0, 2), URL).read() == STATE
    assert SessionRecord(tmp_path, Worker(1, 4), URL).read().filters == ("c",)
    assert SessionRecord(tmp_path, ALONE, f"{URL}1").read().filters == ("d",)


def test_what_was_removed_is_not_known(tmp_path: Path) -> None:
    record = SessionRecord(tmp_path, Worker(1, 1), URL)
    record.write(STATE)
    record.remove()
    record.remove()
    assert record.read() == SessionState()


BROKEN = [b"", b"[]", b'{"a": 1}', b'{"a": {"counts": [65]}}', b'{"a": {"counts": [-1]}}', b"\xff"]


@pytest.mark.parametrize("content", BROKEN)
def test_a_file_that_cannot_be_read_is_said_and_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "subscriptions.json").write_bytes(content)
    record = SessionRecord(tmp_path, ALONE, URL)
    with pytest.raises(StorageError, match="cannot be read"):
        record.read()
    record.write(STATE)
    assert record.read() == STATE


def test_a_disk_that_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "subscriptions.json").mkdir()
    record = SessionRecord(tmp_path, ALONE, URL)
    with pytest.raises(StorageError, match="cannot read"):
        record.read()
    with pytest.raises(StorageError, match="cannot write"):
        record.write(STATE)
    with pytest.raises(StorageError, match="cannot remove"):
        record.remove()


def test_a_session_is_remembered_only_where_something_is_new(tmp_path: Path) -> None:
    session = RememberedSession(SessionRecord(tmp_path, ALONE, URL))
    session.start()
    session.remember(SessionState())
    assert list(tmp_path.iterdir()) == []
    session.remember(STATE)
    again = RememberedSession(SessionRecord(tmp_path, ALONE, URL))
    again.start()
    assert again.state == STATE


def test_what_the_disk_did_not_take_it_is_given_again_at_the_next_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_bytes(b"no folder")
    session = RememberedSession(SessionRecord(tmp_path / "state", ALONE, URL))
    session.start()
    session.remember(STATE)
    assert session.state == STATE
    session.on_connected()
    assert caplog.text.count("the next life will not know") == 1
    (tmp_path / "state").unlink()
    session.on_connected()
    assert SessionRecord(tmp_path / "state", ALONE, URL).read() == STATE
    (tmp_path / "state" / "subscriptions.json").unlink()
    session.on_connected()
    assert not (tmp_path / "state" / "subscriptions.json").exists()
