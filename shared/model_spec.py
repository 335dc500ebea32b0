"""What a model is, beside its bytes."""

from __future__ import annotations

from dataclasses import dataclass

from shared.scores import ScoreKind, ScoreName


@dataclass(frozen=True)
class Certificate:
    """What is promised of a threshold, and on what evidence.

    P(tier-1 disagrees with tier-2 | accepted) is at most ``alpha`` with confidence 1 - ``delta``,
    as long as the inputs come as they came for the ``n`` samples of the test.

    Attributes:
        alpha: bound on the risk, 0 to 1.
        delta: chance that the bound does not hold, 0 to 1.
        n: accepted samples in the test.
        disagreements: how many of them tier-2 answered otherwise.
        coverage: share of the samples that the threshold accepts, 0 to 1.
        bound: exact upper bound on the risk at this threshold, 0 to 1.
        labelled: accepted samples in the test to which a person gave a label.
        wrong: how many of them tier-1 answered otherwise.
        label_bound: exact upper bound on P(tier-1 is wrong | accepted) by those labels, at most
            ``alpha``; None where there were too few to promise anything of it.
    """

    alpha: float
    delta: float
    n: int
    disagreements: int
    coverage: float
    bound: float
    labelled: int = 0
    wrong: int = 0
    label_bound: float | None = None


@dataclass(frozen=True)
class Calibration:
    """What turns a model's scores into decisions. It swaps together with the model.

    Attributes:
        temperature: divides the logits.
        threshold: tier-1 accepts from this certainty on; above 1 it accepts nothing, unless
            ``score`` is ``energy``, which has no upper end.
        certificate: None where nothing is promised.
        score: the certainty that the threshold is held against.
        reason: why nothing could be certified, in words; empty where something is, or nobody tried.
    """

    temperature: float
    threshold: float
    certificate: Certificate | None = None
    score: ScoreName = "max_probability"
    reason: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """What a model is, beside its bytes.

    Attributes:
        name: the channel that it came by, or its file's name.
        version: its version.
        sha256: digest of the file, in hex.
        labels: one for each score; before it is loaded, empty for those that the file brings.
        scores: what the output holds.
        calibration: temperature and threshold.
        output: name of the ONNX output; None for the only one that can hold scores.
    """

    name: str
    version: str
    sha256: str
    labels: tuple[str, ...]
    scores: ScoreKind
    calibration: Calibration
    output: str | None = None
