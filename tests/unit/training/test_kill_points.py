"""A training that dies by kill -9, at whatever call, leaves no half candidate and goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import training_kill_points

ROOT = Path(training_kill_points.__file__).parents[1]


def test_kill_9_before_each_change_of_the_disk_leaves_no_half_candidate(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training_kill_points", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    empty, stood = map(int, run.stdout.split())
    # Two data sets, job, model and report of two models, what is deployed and what tests it, each
    # made, synced and renamed; and beside those the candidate that is replaced.
    assert empty > 40
    assert stood > empty
