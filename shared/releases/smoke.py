"""Proves a release on this node before it serves: each of its artefacts in a child of its own.

What a model does to its child harms neither the node nor the trial of another model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SmokeError
from shared.releases.trial import Trial, TrialResult
from shared.releases.trial_process import SmokeLimits, TrialProcess


@dataclass(frozen=True)
class SmokeReport:
    """What came of the trials.

    Attributes:
        results: one for each artefact of the release, in order; at least one of them passed.
        running: of the model that was only measured; None without one.
    """

    results: tuple[TrialResult, ...]
    running: TrialResult | None = None


class SmokeTest:
    """Tries models one after the other, so that none slows another down.

    Args:
        trials: artefacts of a release, and at most one model without golden scores: the one that
            runs, to compare with.
        folder: for the children's input and output.
        limits: what each trial may take.
    """

    def __init__(
        self, trials: Sequence[Trial], folder: Path, limits: SmokeLimits | None = None
    ) -> None:
        self._trials = tuple(trials)
        self._folder = folder
        self._limits = limits or SmokeLimits()
        self._results: list[TrialResult] = []
        self._process: TrialProcess | None = None

    def start(self, now_s: float) -> None:
        """Starts the first trial.

        Raises:
            SmokeError: there is nothing to try.
            StorageError: the child cannot be started.
        """
        if all(trial.golden_scores is None for trial in self._trials):
            raise SmokeError("the release brings no artefact to try")
        self._results.clear()
        self._start_next(now_s)

    def _start_next(self, now_s: float) -> None:
        trial = self._trials[len(self._results)]
        self._process = TrialProcess(trial, self._folder, self._limits)
        self._process.start(now_s)

    def poll(self, now_s: float) -> SmokeReport | None:
        """Returns the report once every trial has ended, None until then.

        Raises:
            SmokeError: no artefact passed; it says why of each.
            StorageError: the next child cannot be started.
        """
        if self._process is None:
            raise SmokeError("the smoke test was not started")
        if len(self._results) < len(self._trials):
            result = self._process.poll(now_s)
            if result is None:
                return None
            self._results.append(result)
        if len(self._results) < len(self._trials):
            self._start_next(now_s)
            return None
        return self._report()

    def stop(self) -> None:
        """Ends the child, if one runs."""
        if self._process is not None:
            self._process.stop()

    def _report(self) -> SmokeReport:
        pairs = list(zip(self._trials, self._results, strict=True))
        results = tuple(result for trial, result in pairs if trial.golden_scores is not None)
        if not any(result.passed for result in results):
            raise SmokeError(_why_none(results))
        running = [result for trial, result in pairs if trial.golden_scores is None]
        return SmokeReport(results, running[0] if running else None)


def _why_none(results: Sequence[TrialResult]) -> str:
    if len(results) == 1:
        return results[0].reason
    return "; ".join(f"{each.precision} ({each.sha256[:8]}): {each.reason}" for each in results)
