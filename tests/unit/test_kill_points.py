"""A fetch that dies by kill -9, at whatever call, goes on where it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import kill_points

ROOT = Path(kill_points.__file__).parents[1]


def test_kill_9_before_and_after_each_change_of_the_disk_loses_no_chunk(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kill_points", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    plain, packed = map(int, run.stdout.split())
    # Each chunk is two writes; making the files, syncing and renaming are more.
    assert plain > 2 * len(kill_points.PLAIN.chunks) + 4
    assert packed > 2 * len(kill_points.PACKED.chunks) + 4
