"""From a model's raw output to probabilities that may be trusted to be probabilities."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

ScoreKind = Literal["logits", "probabilities"]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

SUM_TOLERANCE = 1e-2  # float16 models and int8 ones do not sum to one exactly
SMALLEST_PROBABILITY = 1e-12


def probabilities(raw: Floats, kind: ScoreKind, temperature: float) -> Floats:
    """Returns calibrated probabilities.

    The logits are divided by the temperature before the softmax (Guo et al., On Calibration of
    Modern Neural Networks, ICML 2017, arXiv 1706.04599, section 4.2). Probabilities are taken back
    to logits by their logarithm, which the softmax undoes at temperature 1.

    Args:
        raw: float [N, labels], the model's output.
        kind: what it holds.
        temperature: above 0; 1 leaves the scores as they are.

    Returns:
        float32 [N, labels]. A row that is malformed (NaN, infinite, negative or not summing to one)
        comes back as it is or as NaN: ``well_formed`` tells.
    """
    if kind == "probabilities":
        sound = well_formed(raw)
        logits = np.log(np.clip(raw, SMALLEST_PROBABILITY, 1.0))
    else:
        sound = np.asarray(np.isfinite(raw).all(axis=1))
        logits = raw
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = logits.astype(np.float64) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        exponentials = np.exp(scaled)
        result: Floats = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    result[~sound] = np.nan
    return result


def well_formed(scores: Floats) -> Flags:
    """Returns which rows are probabilities: finite, within 0 to 1, summing to one.

    Args:
        scores: float [N, labels].

    Returns:
        bool [N].
    """
    with np.errstate(invalid="ignore"):
        within = (np.isfinite(scores) & (scores >= 0) & (scores <= 1 + SUM_TOLERANCE)).all(axis=1)
        sums = np.abs(scores.sum(axis=1, dtype=np.float64) - 1) <= SUM_TOLERANCE
    return np.asarray(within & sums)
