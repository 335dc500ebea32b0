"""Opens ONNX Runtime sessions in the children: on one thread, as they may start no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort

from shared.errors import ArtefactError
from shared.model_feed import Port

ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
BASIC = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
NONE = ort.GraphOptimizationLevel.ORT_DISABLE_ALL


def open_session(path: Path, level: Any = ALL, save_to: Path | None = None) -> ort.InferenceSession:
    """Returns a session.

    Args:
        path: the model.
        level: how far ONNX Runtime changes its graph.
        save_to: where the changed graph goes, if anywhere.

    Raises:
        ArtefactError: it does not load.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime raises classes of its own C++ module that share no base but Exception.
        raise ArtefactError(f"it does not load: {error}") from error


def ports(arguments: Any) -> list[Port]:
    """Returns a session's inputs or outputs."""
    return [Port(each.name, each.type, tuple(each.shape)) for each in arguments]
