"""Whether a candidate becomes a release. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud.training.order import Report
from shared.model_spec import Calibration
from shared.releases.artefact import Precision


@dataclass(frozen=True)
class Judgement:
    """Whether a candidate becomes a release, and why.

    Attributes:
        precisions: of the files that it is released with, the main one first; none if it is not.
        reason: in words.
    """

    precisions: tuple[Precision, ...]
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether it becomes a release."""
        return bool(self.precisions)


def judge(report: Report, *, offers_fp32: bool = False, is_void: bool = False) -> Judgement:
    """Decides on a candidate: a file must be certified, and accept no less than what runs now.

    What runs is no yardstick once its certificate is void: under a drift the old model may be as
    confident as ever, and accept much that it answers wrongly.

    Args:
        report: on the candidate.
        offers_fp32: whether it may be released before quantization as well. Each file is judged by
            its own certificate: a node may serve any of them.
        is_void: whether the certificate of what runs is void.
    """
    fitted: dict[Precision, Calibration] = {"int8": report.calibration}
    if offers_fp32:
        fitted["fp32"] = report.fp32_calibration
    found = {
        name: _verdict(each, report.running_coverage, is_void=is_void)
        for name, each in fitted.items()
    }
    precisions = tuple(name for name, (is_good, _) in found.items() if is_good)
    return Judgement(precisions, "; ".join(f"{name} {why}" for name, (_, why) in found.items()))


def _verdict(calibration: Calibration, running: float | None, *, is_void: bool) -> tuple[bool, str]:
    """Returns whether a file may be released, and why."""
    certificate = calibration.certificate
    if certificate is None:
        return False, calibration.reason or "cannot be certified with any threshold"
    accepts = f"accepts {certificate.coverage:.0%}"
    if running is None:
        return True, f"{accepts}, risk at most {certificate.alpha}"
    runs = f"what runs accepts {running:.0%}"
    if is_void:
        runs += ", which counts for nothing: its certificate is void"
    elif certificate.coverage < running:
        return False, f"{accepts}, {runs}"
    return True, f"{accepts}, risk at most {certificate.alpha}; {runs}"
