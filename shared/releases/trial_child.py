"""The child that tries a model: ``python -P -m shared.releases.trial_child``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from shared.releases.confinement import confine, confine_memory


def main(arguments: list[str]) -> int:
    """Tries one model and prints the result in one line.

    Args:
        arguments: the parent's process id, time-out in s, processor time in s, memory in bytes,
            file of the trial.
    """
    parent, timeout_s, cpu_s, memory_bytes, trial = arguments
    isolated = confine(int(parent), float(timeout_s), int(cpu_s))
    tried = importlib.import_module("shared.releases.trial")  # see confinement.py: not before
    confine_memory(int(memory_bytes))
    sys.stdout.write(tried.run(Path(trial), isolated))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
