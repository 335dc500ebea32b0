"""What a probation looks at, and how it is counted while the model serves."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2

import msgspec

STEPS_AN_OCTAVE = 4
"""Buckets of the run times are so many to a factor of two: each is 19 % wide."""
SHORTEST_S = 1e-6
BUCKET_BITS = 8


class Health(msgspec.Struct, frozen=True, gc=False):
    """What a pipeline counted since the node started, of the models that served it.

    A batch belongs to the model that ran it: one that the model before was still running when it
    was replaced is in none of these counts.

    Attributes:
        batches: batches that went through the model.
        broken_batches: batches with malformed scores, or none at all.
        failed_batches: batches that the model could not run, or not whole.
        samples: samples in those batches.
        invalid_samples: samples with malformed scores, or none at all.
        gated_samples: samples that a gate has decided on; none where a node has no gate.
        unsure_samples: those of them that the gate did not accept.
        asked: questions to the next tier.
        lost: questions that got no answer in time, or were not sent.
        under_way: 1 while a batch is with a model, of which nothing is known yet; else 0.
        run_times: how many batches took how long, by ``place``.
        rss_bytes: memory of the process that is resident now; None where it was not read.
    """

    batches: int = 0
    broken_batches: int = 0
    failed_batches: int = 0
    samples: int = 0
    invalid_samples: int = 0
    gated_samples: int = 0
    unsure_samples: int = 0
    asked: int = 0
    lost: int = 0
    under_way: int = 0
    run_times: Mapping[int, int] = {}
    rss_bytes: int | None = None

    def since(self, before: Health) -> Health:
        """Returns what was counted after an earlier snapshot; what is no count is as it is now."""
        earlier = before.run_times
        return Health(
            self.batches - before.batches,
            self.broken_batches - before.broken_batches,
            self.failed_batches - before.failed_batches,
            self.samples - before.samples,
            self.invalid_samples - before.invalid_samples,
            self.gated_samples - before.gated_samples,
            self.unsure_samples - before.unsure_samples,
            self.asked - before.asked,
            self.lost - before.lost,
            self.under_way,
            {
                at: count - earlier.get(at, 0)
                for at, count in self.run_times.items()
                if count > earlier.get(at, 0)
            },
            self.rss_bytes,
        )


class Counts:
    """Counts what becomes a ``Health``. Only on the loop's thread, but for ``begun``.

    Attributes:
        begun: batches that were given to a model. Of one batch at a time, on any thread.
        ended: batches that came back.
        asked: questions to the next tier.
        lost: questions that got no answer in time, or were not sent.
    """

    __slots__ = (
        "_batches", "_broken", "_failed", "_gated", "_invalid", "_run_times", "_samples",
        "_unsure", "asked", "begun", "ended", "lost",
    )  # fmt: skip

    def __init__(self) -> None:
        self.begun = self.ended = self.asked = self.lost = 0
        self._batches = self._broken = self._failed = 0
        self._samples = self._invalid = self._gated = self._unsure = 0
        self._run_times: dict[int, int] = {}

    def batch(self, samples: int, invalid: int, took_s: float, *, failed: bool) -> None:
        """Counts a batch.

        Args:
            samples: in it.
            invalid: of them, with malformed scores.
            took_s: how long the model ran, at least 0; of no interest where it failed.
            failed: whether the model could not run it, or not whole.
        """
        self._batches += 1
        self._samples += samples
        if failed:
            self._failed += 1
        else:
            at = place(samples, took_s)
            self._run_times[at] = self._run_times.get(at, 0) + 1
        if invalid:
            self._broken += 1
            self._invalid += invalid

    def gate(self, samples: int, unsure: int) -> None:
        """Counts what a gate decided on, and what of it the gate did not accept."""
        self._gated += samples
        self._unsure += unsure

    @property
    def broken_batches(self) -> int:
        """Batches with malformed scores."""
        return self._broken

    def snapshot(self) -> Health:
        """Returns the counts as they are now, without the memory."""
        return Health(
            self._batches,
            self._broken,
            self._failed,
            self._samples,
            self._invalid,
            self._gated,
            self._unsure,
            self.asked,
            self.lost,
            self.begun - self.ended,
            self._run_times.copy(),
        )


def place(samples: int, took_s: float) -> int:
    """Returns where a batch is counted: by its size, to a factor of two, and by its time.

    The time of a batch says something only beside its size: a slower model gathers larger batches.

    Args:
        samples: in it.
        took_s: at least 0, in seconds.
    """
    octaves = log2(1.0 + took_s / SHORTEST_S)
    return samples.bit_length() << BUCKET_BITS | int(STEPS_AN_OCTAVE * octaves)


def bucket(took_s: float) -> int:
    """Returns the bucket of a time; later ones are longer."""
    return place(0, took_s)


def longest_s(at_bucket: int) -> float:
    """Returns the upper end of a bucket, in seconds."""
    return float(SHORTEST_S * (2.0 ** ((at_bucket + 1) / STEPS_AN_OCTAVE) - 1))


def by_size(run_times: Mapping[int, int]) -> dict[int, dict[int, int]]:
    """Returns how many batches took how long, by bucket, for each class of sizes.

    Class c holds the sizes from 2^(c-1) to 2^c - 1.
    """
    sizes: dict[int, dict[int, int]] = {}
    for at, count in run_times.items():
        sizes.setdefault(at >> BUCKET_BITS, {})[at & (1 << BUCKET_BITS) - 1] = count
    return sizes
