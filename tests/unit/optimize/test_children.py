"""A child is believed no more than it can do harm."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloud.optimize.children import MAX_OUTPUT_BYTES, Children
from cloud.optimize.measuring import Measured
from shared.errors import ArtefactError
from shared.releases.confined_process import ProcessLimits


class Job(msgspec.Struct, frozen=True):
    left: tuple[str, ...]


def begins(name: str) -> str:
    return f"echo '{json.dumps({'type': 'Measured', 'name': name})}'"


def ends(name: str, reason: str = "slow") -> str:
    return f"echo '{json.dumps({'type': 'Measured', 'name': name, 'reason': reason})}'"


def steps(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *scripts: str, seconds: float = 60.0
) -> list[Any]:
    """Returns the steps of things a, b and c; the children are these shell scripts in turn."""
    started = folder / "started"
    program = folder / "child"
    turns = "\n".join(f"{number}) {script};;" for number, script in enumerate(scripts, 1))
    program.write_text(
        f"#!/bin/sh\necho >> {started}\ncase $(wc -l < {started}) in\n{turns}\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    children = Children(
        "measuring", Measured, lambda left, seconds: Job(tuple(left)), folder,
        ProcessLimits(), time.monotonic() + seconds,
    )  # fmt: skip
    found = list(children.steps("abc"))
    assert len(started.read_text().splitlines()) == len(scripts)
    return found


def names(found: list[Any]) -> list[str]:
    return [step[0] if isinstance(step, tuple) else step.name for step in found]


def jobs(folder: Path) -> list[list[str]]:
    """Returns what each child was asked for."""
    paths = sorted(folder.glob("measuring-*/job.msgpack"))
    return [list(msgspec.msgpack.decode(path.read_bytes())["left"]) for path in paths]


def test_a_child_that_does_everything_is_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "; ".join(f"{begins(name)}; {ends(name)}" for name in "abc")
    assert names(steps(tmp_path, monkeypatch, script)) == list("aabbcc")


def test_what_ends_its_child_is_written_off_and_the_rest_done_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = steps(
        tmp_path, monkeypatch,
        f"{begins('a')}; {ends('a')}; {begins('b')}; kill -SEGV $$",
        f"{begins('c')}; {ends('c')}",
    )  # fmt: skip
    assert found[3] == ("b", "the model crashed the process that tried it (signal 11)")
    assert names(found) == ["a", "a", "b", "b", "c", "c"]
    assert jobs(tmp_path) == [["a", "b", "c"], ["c"]]


def test_a_child_that_dies_between_two_things_costs_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = steps(
        tmp_path, monkeypatch,
        f"{begins('a')}; {ends('a')}; kill -KILL $$",
        "; ".join(f"{begins(name)}; {ends(name)}" for name in "bc"),
    )  # fmt: skip
    assert names(found) == list("aabbcc")
    assert jobs(tmp_path) == [["a", "b", "c"], ["b", "c"]]


def test_a_child_that_refuses_the_model_is_an_error_with_its_reason_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = json.dumps({"type": "Refused", "reason": "it is quantized already"})
    with pytest.raises(ArtefactError, match=r"^it is quantized already$"):
        steps(tmp_path, monkeypatch, f"echo 'a log line' >&2; echo '{refusal}'")


def test_a_child_that_does_nothing_is_an_error_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArtefactError, match=r"^its input is of another shape$"):
        steps(tmp_path, monkeypatch, "echo 'its input is of another shape' >&2; exit 1")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param("echo nonsense", "says what nobody understands: b'nonsense'", id="nonsense"),
        pytest.param(begins("z"), "speaks of 'z', which nobody asked for", id="another-thing"),
        pytest.param(
            f"head -c {MAX_OUTPUT_BYTES + 1} /dev/zero | tr '\\0' x", "says more than it may",
            id="too-much",
        ),
    ],
)  # fmt: skip
def test_a_child_that_says_what_it_should_not_is_not_believed(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArtefactError, match=reason):
        steps(tmp_path, monkeypatch, script)


def test_when_the_time_is_up_no_child_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "started").write_text("")
    assert steps(tmp_path, monkeypatch, seconds=-1.0) == []
