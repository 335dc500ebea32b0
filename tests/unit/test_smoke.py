"""A release proves itself in child processes, and whatever it does there harms nobody."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from shared.errors import SmokeError, StorageError
from shared.inputs import InputSpec
from shared.messages import Tensor
from shared.releases.choice import ChoiceLimits, choose
from shared.releases.confined_process import NICE
from shared.releases.smoke import SmokeReport, SmokeTest
from shared.releases.trial import Trial, TrialResult
from shared.releases.trial_process import SmokeLimits
from shared.scores import Floats
from tests.builders import GOLDEN_INPUTS, SHAPE, diagonal_onnx, echo_onnx, nan_onnx, sha256, spec
from tests.fakes import wait_until
from tests.hostile_models import (
    adding,
    crashes_on_x86,
    endless,
    external_tensor,
    fails_at_ones,
    memory_eater,
    nan_at_ones,
    nested,
    of_nodes,
    with_operator,
)
from tests.onnx_models import FLOAT, onnx_file

ROOT = Path(__file__).parents[2]
GOOD = diagonal_onnx(1.0)
OTHER = diagonal_onnx(2.0)
LINUX = sys.platform == "linux"
linux_only = pytest.mark.skipif(not LINUX, reason="what Linux alone offers")


def trial(folder: Path, data: bytes, **changes: Any) -> Trial:
    """Returns the trial of an artefact on disk that should answer what ``GOOD`` does."""
    digest = sha256(data)
    path = folder / digest
    path.write_bytes(data)
    whole = Trial(
        spec=replace(spec(scores="logits"), sha256=digest),
        path=path,
        input_shape=SHAPE,
        golden_inputs=Tensor.of(GOLDEN_INPUTS),
        golden_scores=Tensor.of(GOLDEN_INPUTS),
        tolerance=1e-3,
    )
    return replace(whole, **changes)


def running(folder: Path, data: bytes) -> Trial:
    """Returns the trial of a model that is only measured."""
    return trial(folder, data, golden_scores=None)


def outcome(folder: Path, *trials: Trial, limits: SmokeLimits | None = None) -> SmokeReport:
    """Runs a smoke test to its end; raises as ``poll`` does."""
    test = SmokeTest(trials, folder / "work", limits)
    found: list[SmokeReport] = []

    def ended() -> bool:
        report = test.poll(0.0)
        found.extend([report] if report is not None else [])
        return bool(found)

    test.start(0.0)
    try:
        wait_until(ended, "the children end")
    finally:
        test.stop()
    return found[0]


def result(folder: Path, data: bytes, **changes: Any) -> TrialResult:
    """Returns what came of the trial of one artefact that passes."""
    (only,) = outcome(folder, trial(folder, data, **changes)).results
    return only


# Models as they should be


def test_a_good_model_reports_how_near_how_fast_and_how_large_it_is(tmp_path: Path) -> None:
    found = result(tmp_path, GOOD)
    assert (found.passed, found.reason, found.sha256) == (True, "", sha256(GOOD))
    assert found.difference <= 1e-6
    assert found.latency_ms > 0
    assert found.memory_bytes > 0


def test_a_difference_within_the_tolerance_is_forgiven_on_another_cpu(tmp_path: Path) -> None:
    found = result(
        tmp_path, GOOD, golden_scores=Tensor.of(np.float32(1.05) * GOLDEN_INPUTS), tolerance=0.1
    )
    assert found.difference == pytest.approx(0.05, abs=1e-6)


def test_a_model_of_two_inputs_is_asked_by_their_layout(tmp_path: Path) -> None:
    data = onnx_file(
        [onnx.helper.make_node("Concat", ["a", "b"], ["y"], axis=1)],
        [("a", FLOAT, ["N", 1]), ("b", FLOAT, ["N", 2])],
        [("y", FLOAT, ["N", 3])],
    )
    inputs = (InputSpec((1,), "a"), InputSpec((2,), "b"))
    assert result(tmp_path, data, inputs=inputs).passed


def test_the_running_model_is_measured_and_no_golden_score_speaks_against_it(
    tmp_path: Path,
) -> None:
    report = outcome(tmp_path, trial(tmp_path, GOOD), running(tmp_path, OTHER))
    assert [each.sha256 for each in report.results] == [sha256(GOOD)]
    assert report.running is not None
    assert (report.running.passed, report.running.sha256) == (True, sha256(OTHER))
    assert report.running.latency_ms > 0


def test_a_running_model_that_cannot_be_measured_stops_no_release(tmp_path: Path) -> None:
    report = outcome(tmp_path, running(tmp_path, b"no model"), trial(tmp_path, GOOD))
    assert report.running is not None
    assert "not an ONNX file" in report.running.reason
    assert report.results[0].passed


def slow() -> bytes:
    """Returns a model that answers what ``GOOD`` does, four million multiplications later."""
    weights = np.zeros((1000, 4000), np.float32)
    weights[:3, :3] = np.eye(3)
    back: Floats = np.eye(4000, 3, dtype=np.float32)
    spread: Floats = np.eye(3, 1000, dtype=np.float32)
    return of_nodes(
        [
            onnx.helper.make_node("Gemm", ["x", "spread"], ["wide"]),
            onnx.helper.make_node("Gemm", ["wide", "w"], ["hidden"]),
            onnx.helper.make_node("Gemm", ["hidden", "back"], ["y"]),
        ],
        {"w": weights, "back": back, "spread": spread},
    )


def test_a_larger_model_is_measured_to_take_more_memory(tmp_path: Path) -> None:
    grown = result(tmp_path, slow()).memory_bytes - result(tmp_path, GOOD).memory_bytes
    assert grown > 1000 * 4000 * 4 // 2


@pytest.mark.parametrize("fast", ["int8", "fp32"])
def test_the_artefact_that_is_faster_on_this_machine_is_chosen(tmp_path: Path, fast: str) -> None:
    slower = "fp32" if fast == "int8" else "int8"
    report = outcome(
        tmp_path,
        trial(tmp_path, slow(), precision=slower),
        trial(tmp_path, GOOD, precision=fast),
        running(tmp_path, OTHER),
    )
    choice = choose(report.results, report.running, ChoiceLimits(available_bytes=2**30))
    assert choice.chosen.sha256 == sha256(GOOD)
    assert choice.reason.startswith(f"{fast} is taken: ")


# Models as they should not be


def adds_elsewhere() -> bytes:
    return bytes(adding(external_tensor()).SerializeToString())


def huge_tensor() -> bytes:
    tensor = onnx.TensorProto(name="w", data_type=FLOAT, dims=[2**20, 2**20])
    return bytes(adding(tensor).SerializeToString())


NO_TENSOR = Tensor.of(np.zeros((0, 3), np.float32))

BAD = [
    pytest.param(
        OTHER, {}, "a score differs by 1 from the golden one, more than 0.001", id="wrong"
    ),
    pytest.param(nan_onnx(), {}, "the model answers NaN or infinity", id="nan"),
    pytest.param(nan_at_ones(), {}, "the model answers NaN or infinity", id="nan-to-golden-ones"),
    pytest.param(b"no model", {}, "does not load it: not an ONNX file", id="no-model"),
    pytest.param(b"", {}, "does not load it: not an ONNX file: it holds no graph", id="empty"),
    pytest.param(GOOD[:-30], {}, "does not load it: .* ends within a field", id="truncated"),
    pytest.param(huge_tensor(), {}, "bytes in a tensor, more than 1,073,741,824", id="huge"),
    pytest.param(nested(17), {}, "17 levels of subgraphs, more than 16", id="deep"),
    pytest.param(adds_elsewhere(), {}, "numbers lie in another file", id="external-data"),
    pytest.param(
        with_operator("Frob", "evil"), {}, "operator 'Frob' is of domain 'evil'", id="foreign"
    ),
    pytest.param(
        with_operator("Frob", ""), {}, "does not load: .* No Op registered for Frob", id="unknown"
    ),
    pytest.param(echo_onnx(4), {}, "does not take samples of shape", id="other-inputs"),
    pytest.param(
        GOOD,
        {"spec": spec(labels=("a", "b"), scores="logits")},
        "answers .*1, 3.* where .*1, 2.* are expected",
        id="other-labels",
    ),
    pytest.param(
        GOOD,
        {"golden_scores": Tensor.of(np.zeros((3, 2), np.float32))},
        r"scores of shape \[3, 3\], the golden ones are of shape \[3, 2\]",
        id="golden-scores-of-another-shape",
    ),
    pytest.param(fails_at_ones(), {}, "it cannot run: .*out of data bounds", id="loads-and-fails"),
    pytest.param(
        GOOD,
        {"golden_inputs": NO_TENSOR, "golden_scores": NO_TENSOR},
        "no golden input",
        id="nothing-to-answer",
    ),
    pytest.param(
        GOOD,
        {"golden_inputs": Tensor("float32", (3, 3), bytes(8))},
        "takes 36 bytes",
        id="golden-set-without-its-bytes",
    ),
    pytest.param(GOOD, {"path": Path("/nowhere/at/all")}, "cannot read /nowhere", id="gone"),
]


@pytest.mark.parametrize(("data", "changes", "reason"), BAD)
def test_a_model_that_must_not_serve_fails_with_the_reason(
    tmp_path: Path, data: bytes, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SmokeError, match=reason):
        outcome(tmp_path, trial(tmp_path, data, **changes))


@linux_only
def test_a_model_that_eats_memory_is_stopped_by_its_limit(tmp_path: Path) -> None:
    with pytest.raises(SmokeError, match=r"Failed to allocate memory .* of size 6400000000"):
        outcome(tmp_path, trial(tmp_path, memory_eater()))


@linux_only
def test_a_model_that_hangs_is_stopped_by_its_limit_of_processor_time(tmp_path: Path) -> None:
    with pytest.raises(SmokeError, match="more than 1 s of processor time"):
        outcome(tmp_path, trial(tmp_path, endless()), limits=SmokeLimits(cpu_s=1))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="no such signal on Arm")
def test_a_model_that_crashes_the_runtime_is_named_so(tmp_path: Path) -> None:
    with pytest.raises(SmokeError, match=r"crashed the process that tried it \(signal 8\)"):
        outcome(tmp_path, trial(tmp_path, crashes_on_x86()))


def test_a_model_that_fails_hides_neither_those_before_nor_those_behind_it(
    tmp_path: Path,
) -> None:
    report = outcome(
        tmp_path,
        trial(tmp_path, GOOD),
        trial(tmp_path, crashes_on_x86(), precision="int8"),
        trial(tmp_path, diagonal_onnx(1.0001)),
    )
    assert [each.passed for each in report.results] == [True, False, True]
    assert [each.precision for each in report.results] == ["fp32", "int8", "fp32"]


def test_a_release_of_which_nothing_passes_says_why_of_each(tmp_path: Path) -> None:
    with pytest.raises(SmokeError) as raised:
        outcome(
            tmp_path,
            trial(tmp_path, OTHER),
            trial(tmp_path, b"no model", precision="int8"),
            running(tmp_path, GOOD),
        )
    wrong, unreadable = str(raised.value).split("; ")
    assert wrong.startswith(f"fp32 ({sha256(OTHER)[:8]}): a score differs by 1")
    assert unreadable.startswith(f"int8 ({sha256(b'no model')[:8]}): this node does not load it")


@pytest.mark.parametrize("only_running", [False, True], ids=["nothing", "the-running-model"])
def test_a_release_of_no_artefact_is_not_tried(tmp_path: Path, only_running: bool) -> None:
    trials = [running(tmp_path, GOOD)] if only_running else []
    with pytest.raises(SmokeError, match="brings no artefact"):
        SmokeTest(trials, tmp_path / "work").start(0.0)


# The child and its parent


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a shell script in the place of the child."""
    path = folder / "child"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


FORGED = '{"sha256":"0","precision":"fp32","passed":true}'


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param("exit 0", "ended without a result", id="says-nothing"),
        pytest.param("echo all is well", "ended without a result", id="says-something-else"),
        pytest.param("printf '\\377'", "ended without a result", id="says-no-text"),
        pytest.param(f"echo '{FORGED}'", "answered for another model", id="speaks-for-another"),
        pytest.param("yes '' | head -c 99999", "ended without a result", id="says-too-much"),
        pytest.param("exit 3", "ended with code 3", id="ends-with-a-code"),
        pytest.param("echo why >&2; exit 1", "^why$", id="ends-with-a-reason"),
        pytest.param(
            "head -c 40000 /dev/zero | tr '\\0' x >&2; exit 1", "^x{500}$", id="complains-too-much"
        ),
        pytest.param("kill -SEGV $$", r"crashed the process .* \(signal 11\)", id="crashes"),
        pytest.param("kill -KILL $$", "was killed .* want of memory", id="is-killed"),
        pytest.param("kill -ALRM $$", "did not answer within 120 s", id="ends-itself"),
    ],
)
def test_a_child_without_a_result_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    program(tmp_path, monkeypatch, script)
    with pytest.raises(SmokeError, match=reason):
        outcome(tmp_path, trial(tmp_path, GOOD))


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_model_that_takes_too_long_is_killed_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "pids"
    script = f"sleep 600 & echo $$ $! > {said}.new; mv {said}.new {said}; wait"
    program(tmp_path, monkeypatch, script)
    test = SmokeTest([trial(tmp_path, GOOD)], tmp_path / "work", SmokeLimits(timeout_s=60.0))
    test.start(100.0)
    wait_until(said.exists, "the child runs")
    assert test.poll(159.9) is None
    with pytest.raises(SmokeError, match="did not answer within 60 s"):
        test.poll(160.0)
    child, grandchild = map(int, said.read_text().split())
    wait_until(lambda: gone(child) and gone(grandchild), "both are killed")


def test_what_a_child_leaves_behind_is_killed_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "pid"
    program(tmp_path, monkeypatch, f"sleep 600 & echo $! > {said}; exit 3")
    with pytest.raises(SmokeError, match="code 3"):
        outcome(tmp_path, trial(tmp_path, GOOD))
    left = int(said.read_text())
    wait_until(lambda: gone(left), "the process that was left is killed")


def test_an_endless_model_is_killed_at_its_time_out(tmp_path: Path) -> None:
    test = SmokeTest([trial(tmp_path, endless())], tmp_path / "work", SmokeLimits(timeout_s=5.0))
    test.start(0.0)
    assert test.poll(4.9) is None
    with pytest.raises(SmokeError, match="did not answer within 5 s"):
        test.poll(5.0)


def test_the_child_sees_nothing_of_the_nodes_environment_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "secret")
    monkeypatch.setenv("PYTHONPATH", f"relative{os.pathsep}/absolute")
    monkeypatch.chdir(tmp_path)
    seen = tmp_path / "seen"
    program(tmp_path, monkeypatch, f'{{ env; pwd; echo "$@"; }} > {seen}; exit 3')
    with pytest.raises(SmokeError, match="code 3"):
        outcome(tmp_path, trial(tmp_path, GOOD))
    lines = seen.read_text().splitlines()
    assert "secret" not in seen.read_text()
    assert f"PYTHONPATH={ROOT}{os.pathsep}/absolute" in lines
    assert "ORT_DISABLE_TELEMETRY=1" in lines
    assert str(tmp_path / "work") in lines
    assert lines[-1].startswith("-P -m shared.releases.trial_child ")


def test_a_module_in_the_nodes_folder_is_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path, tmp_path / "work"):
        folder.mkdir(exist_ok=True)
        for name in ("numpy", "shared", "json"):
            (folder / f"{name}.py").write_text("raise SystemExit('hostile code runs')\n")
    monkeypatch.chdir(tmp_path)
    assert result(tmp_path, GOOD).passed


def test_a_child_that_cannot_be_started_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(StorageError, match="cannot start the smoke test"):
        SmokeTest([trial(tmp_path, GOOD)], tmp_path / "work").start(0.0)


def test_a_folder_that_cannot_be_written_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "work").write_bytes(b"a file")
    with pytest.raises(StorageError, match="cannot start the smoke test"):
        SmokeTest([trial(tmp_path, GOOD)], tmp_path / "work").start(0.0)


def test_a_test_that_was_not_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(SmokeError, match="was not started"):
        SmokeTest([trial(tmp_path, GOOD)], tmp_path / "work").poll(0.0)


def test_stopping_twice_or_before_the_start_is_nothing(tmp_path: Path) -> None:
    test = SmokeTest([trial(tmp_path, GOOD)], tmp_path / "work")
    test.stop()
    test.start(0.0)
    test.stop()
    test.stop()


# A node that is killed

NODE = """
import sys
from pathlib import Path
from shared.releases.smoke import SmokeTest
from tests.hostile_models import endless
from tests.unit.test_smoke import trial
folder = Path(sys.argv[1])
test = SmokeTest([trial(folder, endless())], folder / "work")
test.start(0.0)
print("started", flush=True)
sys.stdin.read()
"""


def child_of(parent: int) -> int | None:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == parent:
            return int(stat.parent.name)
    return None


def is_confined(pid: int) -> bool:
    return Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A node that waits for the end of an endless model."""
    with subprocess.Popen(
        [sys.executable, "-c", NODE, str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


@linux_only
def test_the_child_steps_back_and_stays_within_the_nodes_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "pid"
    program(tmp_path, monkeypatch, f"echo $$ > {said}.new; mv {said}.new {said}; exec sleep 600")
    test = SmokeTest([trial(tmp_path, GOOD)], tmp_path / "work")
    test.start(0.0)
    try:
        wait_until(said.exists, "the child runs")
        child = int(said.read_text())
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, child) == min(19, mine + NICE)
        # In another session the nice value would count for nothing beside the node.
        assert (os.getsid(child), os.getpgid(child)) == (os.getsid(0), child)
    finally:
        test.stop()


@linux_only
@pytest.mark.parametrize(
    "ready",
    [
        pytest.param(lambda child: True, id="as-soon-as-it-is-there"),
        pytest.param(is_confined, id="while-it-runs"),
    ],
)
def test_no_child_outlives_a_node_that_is_killed(
    node: subprocess.Popen[bytes], ready: Callable[[int], bool]
) -> None:
    assert node.stdout is not None
    assert node.stdout.readline() == b"started\n"
    child = child_of(node.pid)
    assert child is not None
    wait_until(lambda: ready(child), "the child has come so far")
    node.send_signal(signal.SIGKILL)
    node.wait()
    wait_until(lambda: gone(child), "the child ends")
