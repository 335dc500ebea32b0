"""What was found out about each candidate, and what is asked of it. Pure."""

from __future__ import annotations

import msgspec

from cloud.optimize.recipes import SOURCE
from shared.releases.artefact import Precision


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one candidate beside the float32 model.

    Attributes:
        latency_1_ms: processor time of one sample on one thread, median.
        latency_32_ms: the same of a batch of 32.
        speed_1: how many times faster than the float32 model it answers one sample; the median of
            interleaved pairs.
        speed_32: the same of a batch of 32.
        accuracy: share of the labelled test inputs that it answers rightly; None without labels.
        source_accuracy: the same of the float32 model.
        agreement: share of the test inputs that it answers as the float32 model does.
        neighbour_shift: largest change of a probability when other samples share a sample's batch.
        tested: test inputs that it answered.
        pairs: interleaved pairs of measurements, the fewer of the two batch sizes.
    """

    latency_1_ms: float
    latency_32_ms: float
    speed_1: float
    speed_32: float
    accuracy: float | None
    source_accuracy: float | None
    agreement: float
    neighbour_shift: float
    tested: int
    pairs: int

    @property
    def points_lost(self) -> float:
        """What it costs, in points of 100: of accuracy; without labels, of agreement."""
        if self.accuracy is None or self.source_accuracy is None:
            return 100 * (1 - self.agreement)
        return 100 * (self.source_accuracy - self.accuracy)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate.

    Attributes:
        name: its recipe's.
        precision: what it calculates in.
        bytes: of its file; 0 where none was made.
        size: its share of the float32 model's file.
        figures: None where it was not measured.
        reason: why it is not kept; empty for the one that is.
    """

    name: str
    precision: Precision
    bytes: int = 0
    size: float = 0.0
    figures: Figures | None = None
    reason: str = ""

    @property
    def loads(self) -> bool:
        """Whether it loaded and answered here."""
        return self.figures is not None

    @property
    def is_source(self) -> bool:
        """Whether it is the float32 model itself."""
        return self.name == SOURCE.name


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate must hold, and what is wished of it.

    Attributes:
        min_speed_1: it must answer one sample at least so many times as fast as float32.
        max_points_lost: points of 100 of accuracy that it may cost; without labels, of agreement.
        max_neighbour_shift: so much a probability may change with the other samples in a batch.
        wished_speed_32: who reaches it and ``wished_size`` goes before who does not.
        wished_size: share of the float32 model's file.
        level: two measurements of one model differ by as much: what is slower by no more than this
            share cannot be told from what is not.
    """

    min_speed_1: float = 1.0
    max_points_lost: float = 0.5
    max_neighbour_shift: float = 0.001
    wished_speed_32: float = 1.7
    wished_size: float = 0.31
    level: float = 0.03
