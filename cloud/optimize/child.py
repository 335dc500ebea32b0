"""The child that makes or measures candidates: ``python -P -m cloud.optimize.child``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from shared.errors import EscalonError
from shared.releases.confinement import confine, confine_memory

WRITTEN_BYTES = 2**31
"""A candidate may be as large as the model, and the one whose values are all outputs is larger."""


def main(arguments: list[str]) -> int:
    """Does one job and prints what came of it, a line for each step.

    Args:
        arguments: the parent's process id, time-out in s, processor time in s, memory in bytes,
            file of the job, module that does it.
    """
    parent, timeout_s, cpu_s, memory_bytes, job, module = arguments
    confine(int(parent), float(timeout_s), int(cpu_s), WRITTEN_BYTES)
    doing = importlib.import_module(f"cloud.optimize.{module}")  # see confinement.py: not before
    confine_memory(int(memory_bytes))
    try:
        doing.run(Path(job))
    except (EscalonError, MemoryError) as error:
        # Not to where ONNX Runtime writes its log.
        reason = str(error) or "it takes more memory than it may"
        sys.stdout.write(json.dumps({"type": "Refused", "reason": reason}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
