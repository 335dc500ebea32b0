"""The process that trains: ``python -P -m cloud.training.child PARENT TIMEOUT_S BYTES FOLDER``."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from cloud.training.limits import Limits, confine
from shared.errors import EscalonError


def main(arguments: list[str]) -> int:
    """Runs the order in a folder. Returns 0, or 1 with the reason on standard error.

    Args:
        arguments: the parent's process id, time-out in s, memory in bytes, the job's folder.
    """
    parent, timeout_s, memory_bytes, folder = arguments
    confine(int(parent), Limits(int(memory_bytes), float(timeout_s)))
    try:
        _run(Path(folder))
    except EscalonError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed(
            f"it needs more memory than the {int(memory_bytes):,} bytes of training.memory_bytes. "
            "Fix: raise that, or let it learn from fewer samples or in smaller batches"
        )
    return 0


def _run(folder: Path) -> None:
    # Not before: what these import is held to the limits as well.
    run = importlib.import_module("cloud.training.run").run
    progress = importlib.import_module("cloud.training.progress")
    run(folder, progress.ProgressLines(_say, time.monotonic))


def _say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def _failed(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
