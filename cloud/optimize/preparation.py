"""Brings a model into the form in which it is quantized: folded, with shapes and names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from cloud.optimize.compaction import drop_unused_imports
from cloud.optimize.graph import name_nodes
from cloud.optimize.session import BASIC, open_session
from shared.errors import ArtefactError
from shared.releases.structure import check_structure

MARK = ("onnx.quant.pre_process", "onnxruntime.quant")
"""The library's own mark. Without it, it warns on the root logger and by that configures it."""


def prepare(path: Path) -> onnx.ModelProto:
    """Returns a model as the quantizer wants it. It answers as the model did.

    ONNX Runtime folds constants, puts batch normalization into the convolution before it, and an
    addition into the matrix product before it. What it writes is taken if it still is a model that
    every node may load: of the same version of the operators, in no domain of ONNX Runtime's own.

    Args:
        path: the model; files are written beside it.
    """
    source = onnx.load(path, load_external_data=False)
    folded = _folded(path)
    model = folded if folded is not None and _is_portable(folded, source) else source
    model = onnx.shape_inference.infer_shapes(model)
    name_nodes(model)
    key, value = MARK
    model.metadata_props.add(key=key, value=value)
    return model


def opsets(model: onnx.ModelProto) -> Mapping[str, int]:
    """Returns by domain the version of the operators that a model is written in."""
    return {each.domain: each.version for each in model.opset_import}


def _folded(path: Path) -> onnx.ModelProto | None:
    """Returns what ONNX Runtime makes of a model; None for one that it does not write again."""
    target = path.with_name("folded.onnx")
    try:
        open_session(path, BASIC, save_to=target)
        return onnx.load(target, load_external_data=False)
    except (ArtefactError, OSError):
        return None


def _is_portable(folded: onnx.ModelProto, source: onnx.ModelProto) -> bool:
    drop_unused_imports(folded)
    try:
        check_structure(folded.SerializeToString())
    except ArtefactError:
        return False
    before, after = opsets(source), opsets(folded)
    return all(before.get(domain) == version for domain, version in after.items())
