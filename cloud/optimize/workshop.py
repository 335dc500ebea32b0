"""Has candidates made and measured, each by confined children, and says how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloud.optimize.children import Children
from cloud.optimize.making import Looked, Made, MakingJob, file_of
from cloud.optimize.measuring import Measured, MeasuringJob
from cloud.optimize.rows import Figures
from shared.errors import ArtefactError
from shared.releases.confined_process import ProcessLimits

UP = "the time was up"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Workshop:
    """Where candidates are made and measured.

    Attributes:
        folder: for files of the children.
        limits: what a child may take.
        say: takes a line on the progress.
    """

    folder: Path
    limits: ProcessLimits
    say: Say

    def make(
        self, job: MakingJob, last_s: float, ends_s: float
    ) -> tuple[Looked, dict[str, Path | str]]:
        """Has the candidates made.

        Args:
            job: what to make; its seconds are those that are left.
            last_s: no candidate is begun later, of the monotonic clock.
            ends_s: what is made by then is ended.

        Returns:
            What the model is, and by name each candidate's file, or why there is none.

        Raises:
            ArtefactError: the float32 model itself cannot be used.
            StorageError: the disk is full, or no child can be started.
        """
        recipes = {recipe.name: recipe for recipe in job.recipes}
        children = Children(
            "making",
            Looked | Made,
            lambda left, seconds: msgspec.structs.replace(
                job,
                recipes=tuple(recipes[name] for name in left),
                seconds=last_s - time.monotonic(),
            ),
            self.folder,
            self.limits,
            ends_s,
        )
        looked, made = None, dict[str, Path | str]()
        for step in children.steps(list(recipes)):
            match step:
                case Looked():
                    looked = step
                case Made(done=False):
                    self.say(f"making {step.name} ({len(made) + 1} of {len(recipes)})")
                case Made():
                    made[step.name] = step.reason or file_of(step.name, job.folder)
                case name, reason:
                    made[name] = reason
        if looked is None:
            raise ArtefactError("there was no time to look at it. Fix: allow more seconds")
        return looked, {name: made.get(name, f"not made: {UP}") for name in recipes}

    def measure(self, job: MeasuringJob, ends_s: float) -> dict[str, Figures | str]:
        """Has the candidates measured.

        Args:
            job: what to measure; its seconds are those that are left.
            ends_s: by when, of the monotonic clock.

        Returns:
            By name each candidate's figures, or why there are none.

        Raises:
            ArtefactError: a child ended before it began.
            StorageError: the disk is full, or no child can be started.
        """
        found = dict[str, Figures | str]()
        children = Children(
            "measuring",
            Measured,
            lambda left, seconds: msgspec.structs.replace(
                job,
                candidates={name: job.candidates[name] for name in left},
                seconds=seconds,
                tested=tested_on(found) or job.tested,
            ),
            self.folder,
            self.limits,
            ends_s,
        )
        for step in children.steps(list(job.candidates)):
            match step:
                case Measured(done=False):
                    self.say(f"measuring {step.name} ({len(found) + 1} of {len(job.candidates)})")
                case Measured():
                    found[step.name] = step.figures or step.reason
                case name, reason:
                    found[name] = reason
        return {name: found.get(name, f"not measured: {UP}") for name in job.candidates}


def tested_on(found: Mapping[str, Figures | str]) -> int:
    """Returns on how many inputs candidates were tested: all of them on the same; 0 if none was."""
    return max((each.tested for each in found.values() if isinstance(each, Figures)), default=0)


Measure = Callable[[Workshop, MeasuringJob, float], Mapping[str, Figures | str]]
