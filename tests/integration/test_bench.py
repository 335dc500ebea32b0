"""The benchmarks run and lose nothing. What they measure is asserted nowhere: machines differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120.0


@pytest.mark.usefixtures("require_mosquitto")
def test_a_quick_run_measures_what_it_was_asked_for_and_loses_nothing(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    told = subprocess.run(
        [
            sys.executable, "-m", "bench", "--quick", "--runs", "1",
            "--only", "throughput_vs_naive,lost", "--json", str(result),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    read = json.loads(result.read_bytes())
    assert read.keys() == {"throughput_vs_naive", "lost", "machine", "figures"}
    for key in ("throughput_vs_naive", "lost"):
        row = read[key]
        assert row["value"] is not None, told.stdout
        assert row["low"] <= row["value"] <= row["high"]
        assert isinstance(row["ok"], bool)
    assert read["throughput_vs_naive"]["value"] > 0
    assert read["lost"]["value"] == 0, told.stdout
    assert {figure["contestant"] for figure in read["figures"]} == {"naive", "echo", "ours"}
    assert "throughput_vs_naive" in told.stdout
