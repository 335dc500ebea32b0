"""The file in which telemetry comes to a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cloud.training.arrays import write_npz
from cloud.training.dataset import Telemetry
from shared.errors import StorageError
from shared.npz import as_numbers, read_npz

NAME = "telemetry.npz"
ARRAYS = ("x", "tier2", "audit", "inclusion_probability", "y", "asked", "certifies")


def write_telemetry(path: Path, telemetry: Telemetry) -> None:
    """Writes telemetry, whole or not at all.

    Raises:
        StorageError: the disk does not take it.
    """
    arrays = {
        "x": telemetry.inputs,
        "tier2": telemetry.tier2,
        "audit": telemetry.audit,
        "inclusion_probability": telemetry.inclusion_probability,
        "y": telemetry.labels,
        "asked": telemetry.asked,
        "certifies": telemetry.certifies,
    }
    write_npz(path, arrays)


def read_telemetry(path: Path) -> Telemetry:
    """Reads what ``write_telemetry`` wrote.

    Raises:
        StorageError: it cannot be read, or is damaged.
    """
    data = read_npz(path, *ARRAYS)
    if len({len(each) for each in data.values()}) > 1:
        raise StorageError(f"cannot use {path}: its arrays are not of one length")
    return Telemetry(
        as_numbers(data["x"], np.float32, path),
        as_numbers(data["tier2"], np.float32, path),
        data["audit"].astype(bool),
        data["inclusion_probability"].astype(np.float64),
        as_numbers(data["y"], np.int64, path),
        data["asked"].astype(bool),
        data["certifies"].astype(bool),
    )
