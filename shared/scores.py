"""From a model's raw output to probabilities that may be trusted, and to how certain it is."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

ScoreKind = Literal["logits", "probabilities"]
ScoreName = Literal["max_probability", "margin", "entropy", "energy"]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

SUM_TOLERANCE = 1e-2  # float16 models and int8 ones do not sum to one exactly
SMALLEST_PROBABILITY = 1e-12


class Scored(NamedTuple):
    """What a model thinks of a batch.

    Attributes:
        probabilities: float32 [N, labels], calibrated; NaN in a row whose scores are malformed.
        certainty: float32 [N], what the threshold is held against; NaN where malformed.
        sound: bool [N], whether a row is well-formed; None where all are, which is looked at once.
    """

    probabilities: Floats
    certainty: Floats
    sound: Flags | None

    @classmethod
    def of(cls, calibrated: Floats, certain: Floats) -> Scored:
        """Puts probabilities and certainty together."""
        # One that is not finite makes the sum so; looking at each costs more.
        if math.isfinite(np.add.reduce(certain, dtype=np.float64)):
            return cls(calibrated, certain, None)
        return cls(calibrated, certain, np.isfinite(certain))

    @classmethod
    def malformed(cls, count: int, labels: int) -> Scored:
        """Returns the scores of a model that gave none."""
        nothing = np.full((count, labels), np.nan, np.float32)
        return cls.of(nothing, np.full(count, np.nan, np.float32))

    @property
    def broken(self) -> int:
        """How many rows are malformed."""
        return 0 if self.sound is None else len(self.sound) - int(np.count_nonzero(self.sound))


def score(raw: Floats, kind: ScoreKind, temperature: float, name: ScoreName) -> Scored:
    """Calibrates a batch and says how certain each answer is.

    Args:
        raw: float32 [N, labels], the model's output.
        kind: what it holds.
        temperature: above 0; 1 leaves the scores as they are.
        name: which certainty.
    """
    calibrated = probabilities(raw, kind, temperature)
    return Scored.of(calibrated, certainty(calibrated, raw, name, temperature))


def probabilities(raw: Floats, kind: ScoreKind, temperature: float) -> Floats:
    """Returns calibrated probabilities.

    The logits are divided by the temperature before the softmax (Guo et al., On Calibration of
    Modern Neural Networks, ICML 2017, arXiv 1706.04599, section 4.2). Probabilities are taken back
    to logits by their logarithm, which the softmax undoes at temperature 1.

    Args:
        raw: float32 [N, labels], the model's output.
        kind: what it holds.
        temperature: above 0; 1 leaves the scores as they are.

    Returns:
        float32 [N, labels]. A row that is malformed (NaN, infinite, or as probabilities negative or
        not summing to one) comes back as NaN.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        if kind == "logits":
            sound = _finite(raw)
            result = _softmax(raw, temperature)
        else:
            formed = well_formed(raw)
            sound = None if formed.all() else formed
            result = _recalibrated(raw, temperature)
    if sound is not None:
        result[~sound] = np.nan
    return result


def certainty(
    calibrated: Floats, logits: Floats, name: ScoreName, temperature: float = 1.0
) -> Floats:
    """Returns how certain a model is of each answer; higher is more certain.

    ==================  ==========================================================================
    ``max_probability`` p₁, the largest probability; 0 to 1
    ``margin``          p₁ - p₂, the two largest; 0 to 1
    ``entropy``         1 - H(p) / log K, of K labels; 0 to 1
    ``energy``          T · log Σ exp(logit / T), any number: the negative of the energy of Liu et
                        al., Energy-based Out-of-distribution Detection, NeurIPS 2020, arXiv
                        2010.03759, equation 4
    ==================  ==========================================================================

    Args:
        calibrated: float32 [N, labels], as ``probabilities`` returns them.
        logits: float32 [N, labels]; only ``energy`` looks at them.
        name: which certainty.
        temperature: T of ``energy``.

    Returns:
        float32 [N]; NaN where the probabilities are.
    """
    match name:
        case "max_probability":
            result: Floats = np.maximum.reduce(calibrated, axis=1)
        case "margin":
            result = _margin(calibrated)
        case "entropy":
            result = _certainty_of_entropy(calibrated)
        case "energy":
            with np.errstate(invalid="ignore", over="ignore"):
                result = _negative_energy(logits, temperature)
            result[np.isnan(calibrated[:, 0])] = np.nan
    return result


def well_formed(scores: Floats) -> Flags:
    """Returns which rows are probabilities: finite, within 0 to 1, summing to one.

    Args:
        scores: float [N, labels].

    Returns:
        bool [N].
    """
    # No number of a row that holds none below 0 and sums to one is larger than one, or not finite.
    with np.errstate(invalid="ignore", over="ignore"):
        positive = np.logical_and.reduce(scores >= 0, axis=1)
        off = np.abs(np.add.reduce(scores, axis=1) - 1)
        return np.asarray(positive & (off <= SUM_TOLERANCE))


def _finite(raw: Floats) -> Flags | None:
    """Returns which rows are finite; None where all are."""
    # The sum of a batch with anything else in it is not finite; the sum is far quicker.
    if math.isfinite(np.add.reduce(raw, axis=None)):
        return None
    return np.asarray(np.logical_and.reduce(np.isfinite(raw), axis=1))


def _softmax(logits: Floats, temperature: float) -> Floats:
    result: Floats = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    if temperature != 1:
        result /= temperature
    np.exp(result, out=result)
    result /= np.add.reduce(result, axis=1, keepdims=True)
    return result


def _recalibrated(raw: Floats, temperature: float) -> Floats:
    if temperature != 1:
        return _softmax(np.log(np.maximum(raw, np.float32(SMALLEST_PROBABILITY))), temperature)
    sums: Floats = np.add.reduce(raw, axis=1, keepdims=True)
    return raw / sums


def _margin(calibrated: Floats) -> Floats:
    if calibrated.shape[1] < 2:
        return calibrated[:, 0]
    two = np.partition(calibrated, -2, axis=1)
    result: Floats = two[:, -1] - two[:, -2]
    return result


def _certainty_of_entropy(calibrated: Floats) -> Floats:
    labels = calibrated.shape[1]
    if labels < 2:
        return calibrated[:, 0]
    logarithms = np.log(np.maximum(calibrated, np.float32(SMALLEST_PROBABILITY)))
    entropy = np.add.reduce(calibrated * logarithms, axis=1)
    result: Floats = np.clip(1 + entropy / np.float32(math.log(labels)), 0, 1)
    return result


def _negative_energy(logits: Floats, temperature: float) -> Floats:
    largest: Floats = np.maximum.reduce(logits, axis=1)
    divisor = np.float32(temperature)
    exponentials = np.exp((logits - largest[:, None]) / divisor)
    sums: Floats = np.log(np.add.reduce(exponentials, axis=1))
    return largest + divisor * sums
