"""What a training has made, as drafts of versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud.releasing import Draft, ModelFile
from cloud.training.order import Report
from cloud.version import TRAINER
from shared.files import read_file
from shared.model_spec import Calibration
from shared.npz import as_numbers, read_npz
from shared.releases.artefact import Precision
from shared.scores import Floats

MAX_GOLDEN_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Candidate:
    """A folder that the trainer has filled.

    Attributes:
        folder: the folder.
        report: what came of the job.
        pipeline: the pipeline.
        labels: of its models.
        precisions: of the small model's files, the main one first; each with what was fitted on it.
    """

    folder: Path
    report: Report
    pipeline: str
    labels: tuple[str, ...]
    precisions: Sequence[Precision] = ("int8",)

    def tier1(self, channel: str, parents: tuple[str, ...]) -> Draft:
        """Returns the draft of the small model.

        Args:
            channel: tier-1's.
            parents: versions that it was made from.

        Raises:
            StorageError: the folder does not hold it.
        """
        files = [self._tier1_file(each) for each in self.precisions]
        return self._draft(channel, files, parents, figures(self.report))

    def tier2(self, channel: str) -> Draft:
        """Returns the draft of the full model, where one was trained.

        Args:
            channel: tier-2's.

        Raises:
            StorageError: the folder does not hold it.
        """
        file = ModelFile(
            data=read_file(self.folder / "tier2.onnx"),
            precision="fp32",
            calibration=self.report.tier2_calibration or Calibration(1.0, 0.0),
            golden_scores=self._golden("tier2"),
        )
        return self._draft(channel, [file], (), {})

    def _tier1_file(self, precision: Precision) -> ModelFile:
        is_int8 = precision == "int8"
        return ModelFile(
            data=read_file(self.folder / ("tier1.onnx" if is_int8 else "tier1.fp32.onnx")),
            precision=precision,
            calibration=self.report.calibration if is_int8 else self.report.fp32_calibration,
            golden_scores=self._golden("tier1" if is_int8 else "tier1_fp32"),
        )

    def _draft(
        self,
        channel: str,
        files: Sequence[ModelFile],
        parents: tuple[str, ...],
        metrics: dict[str, float],
    ) -> Draft:
        return Draft(
            pipeline=self.pipeline,
            channel=channel,
            labels=self.labels,
            files=files,
            golden_inputs=self._golden("inputs"),
            by=TRAINER,
            parents=parents,
            data_sha256=self.report.fingerprint,
            metrics=metrics,
        )

    def _golden(self, name: str) -> Floats:
        """Returns golden inputs, or the scores that a model of the candidate gave to them."""
        path = self.folder / "golden.npz"
        data = read_npz(path, name, max_bytes=MAX_GOLDEN_BYTES)
        return as_numbers(data[name], np.float32, path)


def figures(report: Report) -> dict[str, float]:
    """Returns the figures of a training that its version keeps."""
    found = {
        "int8_agreement": report.int8_agreement,
        "fp32_agreement": report.fp32_agreement,
        "int8_bytes": report.int8_bytes,
        "fp32_bytes": report.fp32_bytes,
        "samples": report.samples,
        "training_s": report.seconds,
        "running_coverage": report.running_coverage,
    }
    return {name: float(value) for name, value in found.items() if value is not None}
