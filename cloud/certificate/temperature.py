"""The temperature that makes a model's probabilities mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

TEMPERATURES = (0.5, 100.0)
"""Bounds of the temperature. Without the lower one, tuning samples that are all answered rightly
drive it to 0 and every confidence to 1, and no threshold can tell the samples apart any more."""


def fit_temperature(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """Returns the temperature, within ``TEMPERATURES``, of least negative log-likelihood.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599, section 4.2.

    Args:
        logits: float [N, labels], N at least 1, of the artefact that is deployed.
        labels: int64 [N].
    """
    rows, scores = np.arange(len(labels)), logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(scores / np.exp(log_temperature), axis=1)
        return -float(scaled[rows, labels].mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(found.x))
