"""What a training has made, as drafts of versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from cloud.releasing import Draft, ModelFile
from cloud.trainer import Report
from cloud.version import TRAINER
from shared.errors import StorageError
from shared.files import read_file
from shared.model_spec import Calibration
from shared.scores import Floats


@dataclass(frozen=True)
class Candidate:
    """A folder that the trainer has filled.

    Attributes:
        folder: the folder.
        report: what came of the job.
        pipeline: the pipeline.
        labels: of its models.
    """

    folder: Path
    report: Report
    pipeline: str
    labels: tuple[str, ...]

    def tier1(self, channel: str, parents: tuple[str, ...]) -> Draft:
        """Returns the draft of the small model.

        Args:
            channel: tier-1's.
            parents: versions that it was made from.

        Raises:
            StorageError: the folder does not hold it.
        """
        file = ModelFile(
            data=read_file(self.folder / "tier1.onnx"),
            precision="int8",
            calibration=self.report.calibration,
            golden_scores=self._golden("tier1"),
        )
        return self._draft(channel, file, parents, figures(self.report))

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
        return self._draft(channel, file, (), {})

    def _draft(
        self, channel: str, file: ModelFile, parents: tuple[str, ...], metrics: dict[str, float]
    ) -> Draft:
        return Draft(
            pipeline=self.pipeline,
            channel=channel,
            labels=self.labels,
            files=(file,),
            golden_inputs=self._golden("inputs"),
            by=TRAINER,
            parents=parents,
            data_sha256=self.report.fingerprint,
            metrics=metrics,
        )

    def _golden(self, name: str) -> Floats:
        """Returns golden inputs, or the scores that a model of the candidate gave to them."""
        path = self.folder / "golden.npz"
        try:
            with path.open("rb") as file, np.load(file) as data:
                return np.asarray(data[name], np.float32)
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise StorageError(f"cannot read {path}: {error}") from error


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
