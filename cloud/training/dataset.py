"""Which samples teach, which tell when to stop, and which only test. Pure.

What tests is a uniform sample of the traffic that no model, temperature or threshold was fitted to.
Of the field's samples it is drawn, for they come with unequal chances (``uniform_rows``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloud.certificate.sampling import drawn_labels, uniform_rows
from cloud.training.augmentation import Inputs, noisy_copies
from cloud.training.contract import (
    AUDIT,
    ESCALATED,
    NOISY,
    NOT_LABELLED,
    Labels,
    Samples,
    joined,
)
from shared.scores import Flags, Floats

NOISY_COPIES = 2
TUNING_SHARE = 0.25
UNIFORM_TAUGHT_SHARE = 1 / 3

Teacher = Callable[[Floats], Floats]
"""Tier-2: inputs [N, ...] → its probabilities [N, labels]."""


@dataclass(frozen=True)
class Weighing:
    """What samples weigh in training.

    Attributes:
        balances: whether rare labels weigh more.
        bound: no sample weighs more than so many times what an ordinary one does.
    """

    balances: bool = True
    bound: float = 10.0


@dataclass(frozen=True)
class Telemetry:
    """What tier-2 answered in the field, oldest first.

    Attributes:
        inputs: float32 [N, ...].
        tier2: its probabilities, float32 [N, labels].
        audit: bool [N]: drawn from all samples alike.
        inclusion_probability: float [N]: the chance that such a sample was sent, and is among
            these, in (0, 1].
        labels: a person's, int64 [N]; -1 for none.
        asked: bool [N], what people were asked to label because it is hard.
        certifies: bool [N]: of a node that audits, and of which every input comes. Where a node
            keeps some to itself, the others are no sample of its traffic.
    """

    inputs: Floats
    tier2: Floats
    audit: Flags
    inclusion_probability: NDArray[np.float64]
    labels: Labels
    asked: Flags
    certifies: Flags


@dataclass(frozen=True)
class Lesson:
    """What one model learns from and is tested on.

    Attributes:
        train: to learn from.
        tuning: tells when to stop. Temperature and grid of thresholds are fitted on them too, as
            Guo et al. do, arXiv 1706.04599, section 5.
        tested: the tuning samples and, behind them, those that certify, which no trainer sees;
            with tier-2's own answers, whatever people say of them.
        people: their labels of what is tested, as far as they may certify; -1 for none.
    """

    train: Samples
    tuning: Samples
    tested: Samples
    people: Labels

    @property
    def certifying(self) -> Samples:
        """The samples that only test."""
        return certifying_part(self.tested)


def full_lesson(train: Samples, calibration: Samples, weighing: Weighing) -> Lesson:
    """Returns what tier-2 learns first: the labels of the base set.

    Args:
        train: the base set.
        calibration: its other part, that nothing learns from.
        weighing: what samples weigh.
    """
    return Lesson(
        weighed(train, weighing), tuning_part(calibration), calibration, calibration.labels
    )


def first_lesson(
    train: Samples,
    calibration: Samples,
    teacher: Teacher,
    weighing: Weighing,
    *,
    kind: Inputs,
    rng: np.random.Generator,
) -> Lesson:
    """Returns what tier-1 learns first: tier-2's answers to the base set and noisy copies of it.

    Args:
        train: the base set.
        calibration: its other part, that nothing learns from.
        teacher: answers all of them.
        weighing: what samples weigh.
        kind: range and shape of the inputs.
        rng: source of the noise.
    """
    copies = Samples.of(
        noisy_copies(train.inputs, NOISY_COPIES, kind, rng),
        np.tile(train.labels, NOISY_COPIES),
        NOISY,
    )
    taught = outranked(answered(joined(train, copies), teacher))
    tested = answered(calibration, teacher)
    return Lesson(weighed(taught, weighing), tuning_part(tested), tested, calibration.labels)


def later_lesson(
    telemetry: Telemetry,
    replayed: Samples,
    teacher: Teacher,
    weighing: Weighing,
    *,
    rng: np.random.Generator,
) -> Lesson:
    """Returns what tier-1 learns from the field: all that does not test, and the base set.

    Of a uniform sample of the traffic the first third teaches, and the rest tests. Escalations
    alone would never show what the old model gets wrong with confidence. The base set is replayed,
    so that what was easy is not forgotten.

    Args:
        telemetry: from the field.
        replayed: of the base set.
        teacher: answers the base set.
        weighing: what samples weigh.
        rng: draws the uniform sample, and the labels that certify. One seed for good.
    """
    certifies = np.flatnonzero(telemetry.certifies)
    uniform = certifies[uniform_rows(telemetry.inclusion_probability[certifies], rng)]
    tested = uniform[int(len(uniform) * UNIFORM_TAUGHT_SHARE) :]
    teaches = np.ones(len(telemetry.labels), bool)
    teaches[tested] = False
    chance = _taught_chance(telemetry.inclusion_probability, teaches)
    train = joined(
        _from_field(telemetry, np.flatnonzero(teaches), importance(chance, weighing.bound)),
        answered(replayed, teacher),
    )
    # Drawn alike, these are the traffic as they are.
    drawn = _from_field(telemetry, tested, np.ones(len(chance), np.float32))
    people = _certifying_labels(drawn.labels, telemetry.asked[tested], rng)
    return Lesson(weighed(outranked(train), weighing), tuning_part(drawn), drawn, people)


def replay(base: Samples, count: int, rng: np.random.Generator) -> Samples:
    """Returns the base set, or so many of it, of each label the same share.

    Args:
        base: with labels.
        count: at most so many, and not fewer than one of each label.
        rng: draws them.
    """
    if len(base.labels) <= count:
        return base
    share = count / len(base.labels)
    chosen = []
    for label in np.unique(base.labels):
        rows = np.flatnonzero(base.labels == label)
        chosen.append(rng.permutation(rows)[: max(1, int(share * len(rows)))])
    return base.taken(np.sort(np.concatenate(chosen))) if count else base.taken(slice(0, 0))


def tuning_part(tested: Samples) -> Samples:
    """Returns the first of the samples that test, which tell a trainer when to stop."""
    return outranked(tested.taken(slice(0, _tuning(tested))))


def certifying_part(tested: Samples) -> Samples:
    """Returns the others, which nothing is fitted to."""
    return tested.taken(slice(_tuning(tested), None))


def _tuning(tested: Samples) -> int:
    return int(TUNING_SHARE * len(tested.labels))


def answered(samples: Samples, teacher: Teacher) -> Samples:
    """Returns samples with the teacher's answers."""
    return replace(samples, teacher=teacher(samples.inputs))


def outranked(samples: Samples) -> Samples:
    """Returns samples of which the teacher says what people say, where they say anything.

    Its probability of the person's label and its largest one change places: the answer is the
    person's, and as sure as the teacher's was.
    """
    if samples.teacher is None:
        return samples
    labels, said = samples.labels, samples.teacher.argmax(axis=1)
    wrong = np.flatnonzero((labels >= 0) & (said != labels))
    here, there = (wrong, said[wrong]), (wrong, labels[wrong])
    teacher = samples.teacher.copy()
    teacher[here], teacher[there] = samples.teacher[there], samples.teacher[here]
    return replace(samples, teacher=teacher)


def importance(inclusion_probability: NDArray[np.float64], bound: float) -> Floats:
    """Returns weights by which samples stand for the traffic that they were drawn from.

    Horvitz and Thompson, JASA 47(260), 1952: the inverse of the chance to be drawn, which makes a
    weighted mean unbiased. The bound gives some of that up, so that no sample rules alone.

    Args:
        inclusion_probability: float [N], in (0, 1].
        bound: of the weights.
    """
    return np.minimum(1.0 / inclusion_probability, bound).astype(np.float32)


def weighed(samples: Samples, weighing: Weighing) -> Samples:
    """Returns samples whose weights are balanced by label, bounded, and 1 on the average.

    Args:
        samples: with the weights that they have as a part of the traffic.
        weighing: whether to balance, and the bound.
    """
    weights = samples.weights.astype(np.float64)
    if weighing.balances:
        _, places = np.unique(samples.targets, return_inverse=True)
        mass = np.bincount(places, weights)  # of each label, in the traffic
        weights *= np.minimum(weights.sum() / (len(mass) * mass), weighing.bound)[places]
    weights = np.minimum(weights / weights.mean(), weighing.bound)
    return replace(samples, weights=(weights / weights.mean()).astype(np.float32))


def _taught_chance(
    inclusion_probability: NDArray[np.float64], teaches: Flags
) -> NDArray[np.float64]:
    """Returns the chance of each sample to be sent and to teach, rather than to test."""
    values, places = np.unique(inclusion_probability, return_inverse=True)
    teach = np.bincount(places[teaches], minlength=len(values))
    share = teach / np.maximum(1, np.bincount(places, minlength=len(values)))
    # Where none teaches nobody asks; 1 is a chance.
    return inclusion_probability * np.where(share > 0, share, 1.0)[places]


def _certifying_labels(labels: Labels, asked: Flags, rng: np.random.Generator) -> Labels:
    """Returns people's labels of what is tested, as if nobody had asked for what is hard."""
    people = np.full(len(labels), NOT_LABELLED, np.int64)
    certifying = slice(int(TUNING_SHARE * len(labels)), None)
    given = labels[certifying]
    kept = drawn_labels(given >= 0, asked[certifying], rng)
    people[certifying] = np.where(kept, given, NOT_LABELLED)
    return people


def _from_field(telemetry: Telemetry, rows: NDArray[np.intp], weights: Floats) -> Samples:
    samples = Samples.of(
        telemetry.inputs[rows], telemetry.labels[rows], ESCALATED, telemetry.tier2[rows]
    )
    origin = np.where(telemetry.audit[rows], AUDIT, ESCALATED).astype(np.uint8)
    return replace(samples, weights=weights[rows], origin=origin)
