"""What is said of memory is what the kernel says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.releases.memory import available_bytes, peak_bytes, virtual_bytes

ROOT = Path(__file__).parents[2]
PROGRAM = """
from shared.releases.memory import peak_bytes, reset_peak
bytearray(2**27)
high = peak_bytes()
reset_peak()
print(high - peak_bytes())
"""


def machine(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux alone offers")
def test_the_peak_begins_anew_once_it_is_reset() -> None:
    command = [sys.executable, "-c", PROGRAM]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(told.stdout) > 2**26


def test_the_figures_of_a_process_are_read(tmp_path: Path) -> None:
    proc = machine(tmp_path, self__status="Name:\tx\nVmSize:\t  300 kB\nVmHWM:\t   200 kB\n")
    assert (peak_bytes(proc), virtual_bytes(proc)) == (200 * 1024, 300 * 1024)


def test_a_system_that_says_nothing_is_no_error(tmp_path: Path) -> None:
    assert virtual_bytes(tmp_path) is None
    assert available_bytes(tmp_path, tmp_path) is None
    assert peak_bytes(tmp_path) > 0


@pytest.mark.parametrize(
    ("most", "available_kib"),
    [
        pytest.param("max", 900, id="no-limit"),
        pytest.param(str(800 * 1024), 800 - 500 + 100, id="less-than-the-machine"),
        pytest.param(str(300 * 1024), 0, id="used-up"),
        pytest.param(str(9999 * 1024), 900, id="more-than-the-machine"),
    ],
)
def test_a_container_has_left_what_its_limit_leaves(
    tmp_path: Path, most: str, available_kib: int
) -> None:
    machine(
        tmp_path,
        meminfo="MemTotal:  2000 kB\nMemAvailable:    900 kB\n",
        memory_max=most,
        memory_current=str(500 * 1024),
        memory_stat=f"anon 7\ninactive_file {100 * 1024}\n",
    )
    assert available_bytes(tmp_path, tmp_path) == available_kib * 1024
