"""The parent's side of a trial: it believes nothing that the child says twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from shared.messages import UNREADABLE
from shared.releases.confined_process import ConfinedProcess, ProcessLimits
from shared.releases.trial import Trial, TrialResult, encode, failed


@dataclass(frozen=True)
class SmokeLimits(ProcessLimits):
    """What each trial may take."""


class TrialProcess:
    """A child process that tries one model. It ends with the thread that started it.

    Args:
        trial: the model.
        folder: for the child's input and output.
        limits: what it may take.
    """

    def __init__(self, trial: Trial, folder: Path, limits: SmokeLimits) -> None:
        self._trial = trial
        self._process = ConfinedProcess(
            "shared.releases.trial_child", encode(trial), folder, limits, "the smoke test"
        )

    def start(self, now_s: float) -> None:
        """Starts the child.

        Raises:
            StorageError: its input cannot be written, or the child not be started.
        """
        self._process.start(now_s)

    def poll(self, now_s: float) -> TrialResult | None:
        """Returns what came of the trial, None while it runs.

        Raises:
            StorageError: the disk had no room for the result.
        """
        reason = self._process.poll(now_s)
        if reason is None:
            return None
        return failed(self._trial, reason) if reason else self._result()

    def stop(self) -> None:
        """Ends the child and whatever it has started."""
        self._process.stop()

    def _result(self) -> TrialResult:
        try:
            result = msgspec.json.decode(self._process.output(), type=TrialResult)
        except UNREADABLE:
            return failed(self._trial, "the child ended without a result")
        if result.sha256 != self._trial.spec.sha256:
            return failed(self._trial, "the child answered for another model")
        return result
