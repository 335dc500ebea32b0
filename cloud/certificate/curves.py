"""How well a model's certainty tells its errors: curves over all thresholds, and areas below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.certificate.estimate import Weights
from shared.scores import Flags, Floats

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """What each threshold accepts and gets wrong, strictest first: M points, one a certainty.

    Attributes:
        thresholds: float64 [M], falling.
        coverage: float64 [M], share of the traffic that is accepted, up to 1.
        risk: float64 [M], P(error | accepted): the selective risk.
        generalized_risk: float64 [M], P(error and accepted): the risk of an undetected failure.
    """

    thresholds: Column
    coverage: Column
    risk: Column
    generalized_risk: Column

    @classmethod
    def of(cls, certainty: Floats, errors: Flags, weights: Weights) -> Curve:
        """Draws the curve of samples that came with unequal chances.

        Args:
            certainty: float [N]; NaN for malformed scores, which are accepted last.
            errors: bool [N].
            weights: float64 [N], one over the inclusion probabilities.
        """
        certainty = np.where(np.isnan(certainty), -np.inf, certainty)
        order = np.argsort(-certainty)
        certainty, errors, weights = certainty[order], errors[order], weights[order]
        # Samples of one certainty are accepted together: the last of each is a point.
        lasts = np.flatnonzero(np.append(certainty[1:] < certainty[:-1], len(order) > 0))
        accepted = np.cumsum(weights)[lasts]
        wrong = np.cumsum(weights * errors)[lasts]
        whole = weights.sum()
        return cls(
            certainty[lasts].astype(np.float64), accepted / whole, wrong / accepted, wrong / whole
        )

    @property
    def aurc(self) -> float:
        """The area under the risk-coverage curve: the selective risk, averaged over coverages.

        Geifman, Uziel and El-Yaniv, arXiv 1805.08206. Without ties and weights it is the mean of
        the risks of the 1, 2, ... N samples that are most certain; a step of the coverage counts
        with the risk at its end.
        """
        return float(np.sum(np.diff(self.coverage, prepend=0.0) * self.risk))

    @property
    def augrc(self) -> float:
        """The area under the generalized risk-coverage curve: the mean risk of undetected failures.

        Traub et al., Overcoming Common Flaws in the Evaluation of Selective Classification Systems,
        NeurIPS 2024, arXiv 2407.01032: the integral of P(error and accepted) over the coverage from
        0 to 1, by trapezoids, as if samples of one certainty were accepted one after the other in
        random order. 0 is perfect, 1/2 is the most there is. With accuracy ``a`` and ``f`` the
        chance that an error is less certain than a right answer (a tie is half of one) it is

            (1 - a)^2 / 2 + a (1 - a) (1 - f).
        """
        coverage, risk = np.append(0.0, self.coverage), np.append(0.0, self.generalized_risk)
        return float(np.trapezoid(risk, coverage))
