"""What a new model is held against: what the one before did, what the release promises. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from shared.model_spec import Calibration
from shared.releases.health import Health, by_size, longest_s

WINDOW_S = 900.0
STEP_S = 30.0
MIN_BATCHES = 59
"""The slowest of so many is, with 95 % confidence, at least as slow as 95 % of all: 0.95^59 < 0.05
(Wilks, Determination of sample sizes for setting tolerance limits, 1941)."""
QUANTILE = 0.95

ReadRss = Callable[[], int | None]


@dataclass(frozen=True)
class Promise:
    """What a release says of itself.

    Attributes:
        escalation_share: share of the samples that its threshold does not accept, 0 to 1; None
            where nothing is certified.
        artefact_bytes: size of the model's file.
    """

    escalation_share: float | None = None
    artefact_bytes: int = 0

    @classmethod
    def of(cls, calibration: Calibration, artefact_bytes: int) -> Promise:
        """Returns what a release promises by its calibration."""
        certificate = calibration.certificate
        share = None if certificate is None else 1.0 - certificate.coverage
        return cls(share, artefact_bytes)


@dataclass(frozen=True)
class Baseline:
    """What the model before did, in the last quarter of an hour at most.

    Attributes:
        counted: by it.
        rss_bytes: the most memory that the process took then; None where it was never read.
    """

    counted: Health
    rss_bytes: int | None = None

    def usual_s(self) -> dict[int, float]:
        """Returns what 95 % of the batches took at most, in seconds, by their class of sizes.

        Only for classes of which enough batches were counted.
        """
        return {
            size: _quantile_s(times)
            for size, times in by_size(self.counted.run_times).items()
            if sum(times.values()) >= MIN_BATCHES
        }


class Recent:
    """Keeps what was counted lately, so that there is a baseline when an update comes."""

    def __init__(self) -> None:
        self._noted: deque[Health] = deque(maxlen=int(WINDOW_S / STEP_S))
        self._rss_bytes: deque[int] = deque(maxlen=int(WINDOW_S / STEP_S))
        self._due_s = float("-inf")

    def note(self, health: Health, now_s: float, read_rss: ReadRss) -> None:
        """Notes a snapshot, if it is time. Called each turn until another model is loaded.

        Args:
            health: what the pipeline has counted so far.
            now_s: monotonic.
            read_rss: reads the memory of this process.
        """
        if now_s < self._due_s:
            return
        self._due_s = now_s + STEP_S
        self._noted.append(health)
        rss_bytes = read_rss()
        if rss_bytes is not None:
            self._rss_bytes.append(rss_bytes)

    def forget(self) -> None:
        """Begins anew: another model serves."""
        self._noted.clear()
        self._rss_bytes.clear()
        self._due_s = float("-inf")

    def baseline(self, health: Health) -> Baseline | None:
        """Returns what was counted lately; None if nothing was noted.

        Args:
            health: what the pipeline has counted so far.
        """
        if not self._noted:
            return None
        return Baseline(health.since(self._noted[0]), max(self._rss_bytes, default=None))


def usual_at(usual_s: dict[int, float], size: int) -> float | None:
    """Returns what 95 % of the batches took at most, for a class of sizes; None if it is unknown.

    For a class that was not seen often enough the next larger one stands in, since a smaller batch
    takes no longer; else the next smaller one with the time of as many batches as fill it, since
    that is the slowest way to run a larger one.

    Args:
        usual_s: seconds by class, as ``Baseline.usual_s`` returns them.
        size: the class.
    """
    larger = [each for each in usual_s if each >= size]
    if larger:
        return usual_s[min(larger)]
    if usual_s:
        nearest = max(usual_s)
        return float(usual_s[nearest] * 2 ** (size - nearest + 1))
    return None


def _quantile_s(times: dict[int, int]) -> float:
    wanted, counted = QUANTILE * sum(times.values()), 0
    for at in sorted(times):
        counted += times[at]
        if counted >= wanted:
            return longest_s(at)
    raise ValueError("a quantile needs at least one batch")
