"""What the trainer has left in a folder becomes drafts of versions, or an error in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloud.training.candidate import Candidate
from cloud.training.order import Report
from shared.errors import StorageError
from shared.model_spec import Calibration
from tests.builders import CERTIFICATE, CHANNEL, LABELS, diagonal_onnx

CERTIFIED = Calibration(1.5, 0.7, CERTIFICATE)
FP32_CERTIFIED = Calibration(1.4, 0.6, CERTIFICATE)
REPORT = Report(
    fingerprint="ab" * 32, calibration=CERTIFIED, fp32_calibration=FP32_CERTIFIED,
    tier2_calibration=Calibration(1.2, 0.0), int8_bytes=10, fp32_bytes=40, int8_agreement=0.9,
    fp32_agreement=0.95, running_coverage=None, samples=7, seconds=1.5,
)  # fmt: skip


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    (tmp_path / "tier1.onnx").write_bytes(diagonal_onnx(1.0))
    (tmp_path / "tier1.fp32.onnx").write_bytes(diagonal_onnx(2.0))
    (tmp_path / "tier2.onnx").write_bytes(diagonal_onnx(3.0))
    eye = np.eye(3, dtype=np.float32)
    np.savez(tmp_path / "golden.npz", inputs=eye, tier1=eye, tier1_fp32=2 * eye, tier2=3 * eye)
    return Candidate(tmp_path, REPORT, "meter", LABELS)


def test_the_small_model_is_offered_as_it_was_certified(candidate: Candidate) -> None:
    draft = candidate.tier1(CHANNEL, ("meter-tier2/1",))
    (file,) = draft.files
    assert (file.precision, file.calibration) == ("int8", CERTIFIED)
    assert file.data == diagonal_onnx(1.0)
    assert (draft.parents, draft.data_sha256) == (("meter-tier2/1",), "ab" * 32)
    assert draft.metrics["int8_bytes"] == 10.0


def test_each_file_of_the_small_model_comes_with_what_was_fitted_on_it(
    candidate: Candidate,
) -> None:
    int8, fp32 = replace(candidate, precisions=("int8", "fp32")).tier1(CHANNEL, ()).files
    assert (int8.precision, int8.calibration) == ("int8", CERTIFIED)
    assert (fp32.precision, fp32.calibration) == ("fp32", FP32_CERTIFIED)
    assert (int8.data, fp32.data) == (diagonal_onnx(1.0), diagonal_onnx(2.0))
    assert (int8.golden_scores.max(), fp32.golden_scores.max()) == (1.0, 2.0)
    (alone,) = replace(candidate, precisions=("fp32",)).tier1(CHANNEL, ()).files
    assert alone.data == fp32.data


@pytest.mark.parametrize(
    "damage",
    [b"", b"no zip", b"PK\3\4", b"PK\5\6" + bytes(18)],
    ids=["empty", "no-zip", "cut-off", "nothing-in-it"],
)
def test_a_damaged_golden_file_is_an_error_of_storage(candidate: Candidate, damage: bytes) -> None:
    (candidate.folder / "golden.npz").write_bytes(damage)
    with pytest.raises(StorageError, match=r"golden\.npz"):
        candidate.tier1(CHANNEL, ())
    with pytest.raises(StorageError, match=r"golden\.npz"):
        candidate.tier2(CHANNEL)
