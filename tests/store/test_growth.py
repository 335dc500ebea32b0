"""Memory does not grow with what is stored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_process_that_stores_five_times_as_much_takes_no_more_memory(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.sqlite"
    command = [sys.executable, "-m", "tests.store.growth", url, str(tmp_path / "inputs")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before_mib, after_mib = map(float, done.stdout.split())
    stored_mib = (tmp_path / "t.sqlite").stat().st_size / 2**20
    assert stored_mib > 40
    assert after_mib - before_mib < 10, (before_mib, after_mib)
