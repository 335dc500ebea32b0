"""The YAML of our own contestants. What is not said here is the default of every node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.models import LABELS

Json = dict[str, Any]
DELIVERY = {1: "at_least_once", 0: "at_most_once"}


def node(role: str, name: str, *, prefix: str, site: str, broker_url: str, state: Path) -> Json:
    """Returns a node's configuration without its pipelines.

    Args:
        role: ``tier1``, ``tier2`` or ``cloud``.
        name: the node's name.
        prefix: first level of the topics.
        site: second level of the topics.
        broker_url: where the broker is.
        state: the node's folder.
    """
    return {
        "role": role,
        "node": name,
        "site": site,
        "prefix": prefix,
        "broker": {"url": broker_url},
        "state_dir": str(state),
        "metrics": {"port": 0},
        "log_level": "warning",
    }


def answering(model: Path, features: int, qos: int, pack: int) -> Json:
    """Returns a tier-1 pipeline that answers everything itself.

    Any confidence reaches its threshold, and nothing is drawn for the audit: there is no tier-2.

    Args:
        model: the ONNX file.
        features: numbers in a sample.
        qos: 1 or 0.
        pack: samples in a message of raw float32; 0 for JSON.
    """
    pipeline = _tier1(model, features, threshold=0.0) | {"delivery": DELIVERY[qos]}
    if pack:
        pipeline["format"] = {
            "kind": "raw",
            "dtype": "float32",
            "pack": {"max_samples": pack},
        }
        # A batch of its own for each pack would be the default's; sixteen of them share one here.
        pipeline["batching"] = {"max_batch_size": 16 * pack}
    return pipeline


def asking(model: Path, features: int) -> Json:
    """Returns a tier-1 pipeline that asks tier-2 about everything.

    Args:
        model: the ONNX file; it is never certain of random numbers.
        features: numbers in a sample.
    """
    return _tier1(model, features, threshold=1.0)


def deciding(model: Path, features: int) -> Json:
    """Returns a tier-2 pipeline.

    Args:
        model: the ONNX file.
        features: numbers in a sample.
    """
    return {"input": {"shape": [features]}, "model": _model(model)}


def _tier1(model: Path, features: int, threshold: float) -> Json:
    return {
        "input": {"shape": [features]},
        "model": _model(model) | {"threshold": threshold},
        "escalation": {"audit_share": 0.0},
    }


def _model(path: Path) -> Json:
    return {"path": str(path), "labels": list(LABELS), "scores": "logits"}
