"""Kills a training before every call by which it changes the disk, and looks what is left.

A program of its own, so that each life is a real process that dies by a real SIGKILL: it forks one
for each call. It prints how many there were; what does not hold ends it with an error. What takes
long and touches no disk of the job's (the fits, the quantization) is done once, before the first.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cloud.optimize.quantize import quantize_int8
from cloud.training import making, trial
from cloud.training.config import TrainingConfig
from cloud.training.contract import TrainerReport, read_job, write_result
from cloud.training.export import to_onnx
from cloud.training.order import CANDIDATE, read_report
from cloud.training.progress import Say
from cloud.training.run import WORK, run
from shared.scores import Floats
from tests.training_data import SILENT, network_of, order_in, write_base

CALLS = ("fsync", "mkdir", "rename", "replace", "rmdir", "unlink")
BASE_FILES = 30, 40


def kill_at(number: int) -> None:
    """Has this process die before its nth call; 0 for never."""
    count = 0

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))


class Lives:
    """Trainings in one folder, one after the other.

    Args:
        folder: the job's.
        trained: a file in which they say what they train.
    """

    def __init__(self, folder: Path, trained: Path) -> None:
        self._folder = folder
        self._trained = trained

    def live(self, number: int) -> tuple[bool, list[str]]:
        """Runs one life; returns whether it was killed, and which models it trained."""
        self._trained.write_text("")
        child = os.fork()
        if child == 0:
            self.trains()
            kill_at(number)
            run(self._folder, SILENT)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        if not killed and status:
            raise SystemExit(f"a life ended with {status}")
        return killed, self._trained.read_text().split()

    def trains(self) -> None:
        """Puts a training that takes no time in the place of a real one."""
        patch.object(making, "train", self._train).start()

    def _train(self, folder: Path, settings: TrainingConfig, say: Say) -> None:
        job = read_job(folder)
        with self._trained.open("a") as file:
            file.write(f"{job.tier} ")
        network = network_of(seed=settings.seed + (job.tier == "tier2"))
        write_result(folder, to_onnx(network, job.tier), TrainerReport(notes="fitted before"))


def contents(folder: Path) -> dict[str, bytes]:
    """Returns all files, by name; of the report, how long it took is left out."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".npz"
    }
    found |= {str(path.relative_to(folder)): b"" for path in folder.rglob("*.npz")}
    if "report.json" in found:
        found["report.json"] = found["report.json"].split(b',"seconds"')[0]
    return found


def check(folder: Path, stood: Path | None, whole: dict[str, bytes], number: int) -> bool:
    """Kills one training and has the next one go on; returns whether there was one to kill."""
    if stood is not None:
        shutil.copytree(stood, folder)
    order_in(folder, folder.parent / "base")
    lives = Lives(folder, folder.with_suffix(".trained"))
    killed, _ = lives.live(number)
    candidate = folder / CANDIDATE
    before = None if stood is None else contents(stood / CANDIDATE)
    if candidate.exists() and contents(candidate) not in (whole, before):
        raise SystemExit(f"call {number}: half a candidate is taken for a whole one")
    finished = [tier for tier, file in making.FILES.items() if (folder / WORK / file).exists()]
    is_of_this = (folder / WORK / "fingerprint").exists() and read_report(candidate) is None
    again, trained = lives.live(0)
    if again or contents(candidate) != whole:
        raise SystemExit(f"call {number}: the next training leaves {sorted(contents(candidate))}")
    if is_of_this and stood is None and set(finished) & set(trained):
        raise SystemExit(f"call {number}: {finished} were there, and {trained} were trained again")
    left = {path.name for path in folder.iterdir()} - {CANDIDATE, "order.json", "lock"}
    if left:
        raise SystemExit(f"call {number}: {left} was left behind")
    return killed


def main(folder: Path) -> None:
    """Kills at every call: in an empty folder, and where the candidate of another order stands."""
    train, calibration = BASE_FILES
    write_base(folder / "base", train, calibration)
    quantized: dict[bytes, bytes] = {}

    def remembered(model: bytes, inputs: Floats) -> bytes:
        if model not in quantized:
            quantized[model] = quantize_int8(model, inputs)
        return quantized[model]

    patch.object(trial, "quantize_int8", remembered).start()
    stood = folder / "stood"
    for name, seed in (("stood", 5), ("whole", 1)):
        order_in(folder / name, folder / "base", seed=seed)
        Lives(folder / name, folder / "trained").trains()
        run(folder / name, SILENT)
    whole = contents(folder / "whole" / CANDIDATE)
    number = 0
    for kind, before in (("empty", None), ("stood", stood)):
        # Where a candidate stands, all goes on alike until the new one is to take its place.
        number, killed = max(0, number - 10), True
        while killed:
            number += 1
            killed = check(folder / f"{kind}-{number}", before, whole, number)
            shutil.rmtree(folder / f"{kind}-{number}")
        print(number - 1)  # noqa: T201 - its result


if __name__ == "__main__":
    main(Path(sys.argv[1]))
