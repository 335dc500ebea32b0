"""A model proves itself in a child process, and whatever it does there harms nobody."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shared.errors import SmokeError
from shared.messages import Tensor
from shared.releases.manifest import Golden, Manifest
from shared.releases.smoke import TIMEOUT_S, SmokeReport, SmokeTest
from tests.builders import diagonal_onnx, echo_onnx, golden, manifest, nan_onnx
from tests.fakes import wait_until

GOOD = diagonal_onnx(1.0)


def smoke(folder: Path, data: bytes, described: Manifest | None = None) -> SmokeTest:
    model = folder / "model.onnx"
    model.write_bytes(data)
    return SmokeTest(described or manifest(data), model, folder / "work")


def outcome(test: SmokeTest) -> SmokeReport:
    """Runs a smoke test to its end; raises as ``poll`` does."""
    found: list[SmokeReport] = []

    def ended() -> bool:
        report = test.poll(0.0)
        found.extend([report] if report is not None else [])
        return bool(found)

    test.start(0.0)
    try:
        wait_until(ended, "the child ends")
    finally:
        test.stop()
    return found[0]


def memory_eater() -> bytes:
    """Returns a small file whose run wants 6 GB."""
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["size"], ["huge"]),
            helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
            helper.make_node("Add", ["x", "most"], ["y"]),
        ],
        "eater",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([1_600_000_000], np.int64), "size")],
    )
    opset = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a shell script in the place of the child."""
    path = folder / "child"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_good_model_reports_how_near_and_how_fast_it_is(tmp_path: Path) -> None:
    report = outcome(smoke(tmp_path, GOOD))
    assert report.difference <= 1e-6
    assert report.latency_ms > 0


def test_a_difference_within_the_tolerance_is_forgiven_on_another_cpu(tmp_path: Path) -> None:
    described = manifest(GOOD, golden=golden(1.05, tolerance=0.1))
    assert outcome(smoke(tmp_path, GOOD, described)).difference == pytest.approx(0.05, abs=1e-6)


EMPTY = Tensor.of(np.zeros((0, 3), np.float32))


@pytest.mark.parametrize(
    ("data", "described", "reason"),
    [
        pytest.param(diagonal_onnx(2.0), manifest(GOOD), "a score differs by 1 from", id="other"),
        pytest.param(nan_onnx(), manifest(nan_onnx()), "answers NaN", id="nan"),
        pytest.param(b"no model", manifest(b"no model"), "does not load", id="does-not-load"),
        pytest.param(GOOD[:-30], manifest(GOOD[:-30]), "does not load", id="truncated"),
        pytest.param(
            echo_onnx(4),
            manifest(echo_onnx(4)),
            "does not take samples of shape",
            id="other-inputs",
        ),
        pytest.param(
            GOOD,
            manifest(GOOD, golden=Golden(inputs=EMPTY, scores=EMPTY, tolerance=0.1)),
            None,
            id="nothing-to-answer",
        ),
        pytest.param(
            GOOD,
            manifest(
                GOOD,
                golden=Golden(
                    inputs=Tensor("float32", (3, 3), bytes(8)),
                    scores=golden(1.0).scores,
                    tolerance=0.1,
                ),
            ),
            "takes 36 bytes",
            id="golden-set-without-its-bytes",
        ),
    ],
)
def test_a_model_that_must_not_serve_fails_with_the_reason(
    tmp_path: Path, data: bytes, described: Manifest, reason: str | None
) -> None:
    with pytest.raises(SmokeError, match=reason):
        outcome(smoke(tmp_path, data, described))


def test_a_model_that_eats_memory_is_stopped_by_its_limit(tmp_path: Path) -> None:
    data = memory_eater()
    with pytest.raises(SmokeError, match=r"(?i)alloc|memory"):
        outcome(smoke(tmp_path, data, manifest(data)))


def test_a_model_that_crashes_the_child_is_named_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "kill -SEGV $$")
    with pytest.raises(SmokeError, match=r"crashed the process .* \(signal 11\)"):
        outcome(smoke(tmp_path, GOOD))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param("exit 0", None, id="says-nothing"),
        pytest.param("echo all is well", None, id="says-something-else"),
        pytest.param("exit 3", "ended with code 3", id="ends-with-a-code"),
        pytest.param("head -c 4000 /dev/zero | tr '\\0' x; exit 1", "^x{500}$", id="says-too-much"),
    ],
)
def test_a_child_without_a_report_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str | None
) -> None:
    program(tmp_path, monkeypatch, script)
    with pytest.raises(SmokeError, match=reason):
        outcome(smoke(tmp_path, GOOD))


def test_a_model_that_takes_too_long_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "pid"
    program(tmp_path, monkeypatch, f"echo $$ > {said}.new; mv {said}.new {said}; exec sleep 600")
    test = smoke(tmp_path, GOOD)
    test.start(100.0)
    wait_until(said.exists, "the child runs")
    assert test.poll(100.0 + TIMEOUT_S - 0.1) is None
    with pytest.raises(SmokeError, match="did not answer within 60 s"):
        test.poll(100.0 + TIMEOUT_S)
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()), 0)


def test_a_test_that_was_not_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(SmokeError, match="was not started"):
        smoke(tmp_path, GOOD).poll(0.0)


def test_stopping_twice_or_before_the_start_is_nothing(tmp_path: Path) -> None:
    test = smoke(tmp_path, GOOD)
    test.stop()
    test.start(0.0)
    test.stop()
    test.stop()
