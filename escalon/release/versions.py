"""Versions in words: a list, one of them, and what differs between two. Pure."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cloud.version import Version
from escalon.table import table
from shared.messages import Tensor
from shared.releases.artefact import DIGEST

MISSING = "-"
SHOWN_DIGEST = 12


def listed(versions: Sequence[Version], remarks: Mapping[str, str]) -> str:
    """Returns versions as a table.

    Args:
        versions: what.
        remarks: by ``channel/version``: what it is in its channel's rollout.
    """
    rows = [
        (
            version.qualified,
            moment(version.made),
            version.by,
            ", ".join(
                f"{each.precision} {each.size:,} bytes" for each in version.release.artefacts
            ),
            remarks.get(version.qualified, ""),
            _short(version.notes),
        )
        for version in versions
    ]
    return table(("VERSION", "MADE", "BY", "FILES", "ROLLOUT", "NOTES"), rows)


def facts(version: Version) -> dict[str, Any]:
    """Returns a version as names and values, without golden tensors, for people and programs."""
    release = version.release
    return {
        "channel": version.channel,
        "version": version.name,
        "pipeline": release.pipeline,
        "made": version.made,
        "by": version.by,
        "parents": list(version.parents),
        "data_sha256": version.data_sha256,
        "notes": version.notes,
        "labels": list(release.labels),
        "input_shape": list(release.input_shape),
        "scores": release.scores,
        "golden_inputs": release.golden.shape[0],
        "golden_inputs_sha256": _digest(release.golden),
        "metrics": dict(version.metrics),
        "needs": msgspec.to_builtins(release.needs),
        "files": [
            {
                "precision": variant.artefact.precision,
                "sha256": variant.artefact.sha256,
                "bytes": variant.artefact.size,
                "wire_bytes": variant.artefact.wire_total,
                "url": variant.artefact.url,
                "golden_scores_sha256": _digest(variant.scores),
                "tolerance": variant.tolerance,
                "calibration": msgspec.to_builtins(variant.calibration),
            }
            for variant in release.variants
        ],
    }


def shown(version: Version) -> str:
    """Returns all that is known of a version, a line each."""
    lines = _flat(facts(version) | {"made": moment(version.made)})
    lines["labels"] = ", ".join(version.release.labels)
    return table(("WHAT", version.qualified), [(name, _text(each)) for name, each in lines.items()])


def differences(one: Version, other: Version) -> dict[str, tuple[Any, Any]]:
    """Returns what differs between two versions: by name, the value in each; None for none."""
    first, second = _flat(facts(one)), _flat(facts(other))
    return {
        name: (first.get(name), second.get(name))
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    }


def compared(one: Version, other: Version) -> str:
    """Returns what differs between two versions as a table."""
    found = differences(one, other)
    if "made" in found:
        found["made"] = (moment(one.made), moment(other.made))
    rows = [(name, _text(old), _text(new)) for name, (old, new) in found.items()]
    return table(("WHAT", one.qualified, other.qualified), rows)


def moment(time_s: float) -> str:
    """Returns an instant in local time, as ``2026-01-31 12:59:59``."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Returns a nested value as dotted names and plain values."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        items = _by_precision(value).items()
    else:
        return {name: value}
    return {
        key: found
        for part, each in items
        for key, found in _flat(each, f"{name}.{part}" if name else part).items()
    }


def _by_precision(files: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns files by name: the same kind is compared, whatever its place in the version.

    The second of a kind is ``fp32-2``, and so on.
    """
    named: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    for file in files:
        kind = file["precision"]
        counts[kind] += 1
        named[kind if counts[kind] == 1 else f"{kind}-{counts[kind]}"] = file
    return named


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.data).hexdigest()


def _text(value: Any) -> str:
    if value is None or value in ("", []):
        return MISSING
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, str) and DIGEST.fullmatch(value):
        return value[:SHOWN_DIGEST]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
