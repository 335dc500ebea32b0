"""The folders of a pipeline's trainings: one for each version, the oldest of them deleted."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

KEPT = 10
"""So many are kept to look at: what each was trained on, and what came of it."""


def job_folder(folder: Path, pipeline: str, number: str) -> Path:
    """Returns the folder of a training, and deletes those of long ago.

    Args:
        folder: of all trainings.
        pipeline: the pipeline.
        number: the version that it is to become.
    """
    wanted = folder / f"{pipeline}-{number}"
    others = [each for each in folder.glob(f"{pipeline}-*") if _is_of(each, pipeline)]
    others = sorted((each for each in others if each != wanted), key=_age)
    for old in others[: max(0, len(others) - KEPT + 1)]:
        with contextlib.suppress(OSError):
            shutil.rmtree(old)
    return wanted


def _is_of(folder: Path, pipeline: str) -> bool:
    return folder.name.removeprefix(f"{pipeline}-").isdecimal()


def _age(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])
