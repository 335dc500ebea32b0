"""What is released: the files that a model may be served from, and what they must answer."""

from __future__ import annotations

import math

from shared.errors import ManifestError
from shared.messages import Public, Tensor
from shared.model_spec import Calibration
from shared.releases.artefact import Artefact
from shared.releases.artefact import problems as artefact_problems
from shared.scores import ScoreKind

MAX_LABELS = 10_000
MAX_VARIANTS = 4


class Variant(Public, frozen=True):
    """One of the files that a release may be served from: the node takes what is fastest on it.

    Attributes:
        artefact: the file.
        calibration: temperature and threshold with its certificate, fitted on this file; swaps with
            the model.
        scores: float32 [N, labels], raw: what it must answer to the release's golden inputs.
        tolerance: largest difference allowed to a score: int8 differs from CPU to CPU.
    """

    artefact: Artefact
    calibration: Calibration
    scores: Tensor
    tolerance: float


class Needs(Public, frozen=True):
    """What a node must have.

    Attributes:
        runtime: oldest version of ONNX Runtime, as ``1.17``; empty for any.
        memory_bytes: that must be free; 0 for any.
    """

    runtime: str = ""
    memory_bytes: int = 0


class Release(Public, frozen=True):
    """What is released, whoever gets it and when. Two manifests may bring the same release.

    Attributes:
        pipeline: the pipeline that it is made for.
        version: name of the model's version, for people.
        labels: one for each output.
        input_shape: of one sample.
        scores: what the output holds.
        golden: float32 [N, *input_shape], the inputs that every variant is tried with.
        variants: 1 to 4 files.
        needs: what a node must have.
    """

    pipeline: str
    version: str
    labels: tuple[str, ...]
    input_shape: tuple[int, ...]
    scores: ScoreKind
    golden: Tensor
    variants: tuple[Variant, ...]
    needs: Needs = Needs()

    @property
    def artefacts(self) -> tuple[Artefact, ...]:
        """The files of its variants."""
        return tuple(variant.artefact for variant in self.variants)

    @property
    def digests(self) -> frozenset[str]:
        """SHA-256 of each of its files, in hex."""
        return frozenset(artefact.sha256 for artefact in self.artefacts)

    def variant(self, sha256: str) -> Variant:
        """Returns the variant with this file.

        Raises:
            ManifestError: it has none.
        """
        for variant in self.variants:
            if variant.artefact.sha256 == sha256:
                return variant
        raise ManifestError(f"version {self.version} has no file {sha256}")

    def problems(self) -> list[str]:
        """Returns how it contradicts itself."""
        checks = {
            "the number of labels is not within 2 to 10,000": 2 <= len(self.labels) <= MAX_LABELS,
            "the number of its files is not within 1 to 4": 1 <= len(self.variants) <= MAX_VARIANTS,
            "a file stands in it twice": len(self.digests) == len(self.variants),
            "the golden inputs do not fit the input shape": self.golden.shape[1:]
            == self.input_shape,
            "the runtime that it needs is no version": _is_version(self.needs.runtime),
        }
        problems = [problem for problem, holds in checks.items() if not holds]
        for variant in self.variants:
            problems += self._problems_of(variant)
        return problems

    def _problems_of(self, variant: Variant) -> list[str]:
        calibration = variant.calibration
        checks = {
            "the temperature is not above 0": 0 < calibration.temperature < math.inf,
            "the threshold is negative": 0 <= calibration.threshold < math.inf
            or (calibration.score == "energy" and math.isfinite(calibration.threshold)),
            "energy needs logits": calibration.score != "energy" or self.scores == "logits",
            "the golden tolerance is not above 0": 0 < variant.tolerance < math.inf,
            "the golden scores do not fit the labels": variant.scores.shape
            == (*self.golden.shape[:1], len(self.labels)),
        }
        problems = [problem for problem, holds in checks.items() if not holds]
        return [*problems, *artefact_problems(variant.artefact)]


def _is_version(text: str) -> bool:
    return not text or all(part.isdecimal() for part in text.split("."))
