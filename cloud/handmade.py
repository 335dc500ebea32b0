"""Models that people made elsewhere: from their files to a draft, with everything looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx

from cloud.config import CloudPipelineConfig
from cloud.optimize.graph import is_quantized
from cloud.releasing import Draft, ModelFile, tolerance
from shared.errors import ArtefactError, EscalonError
from shared.files import read_file
from shared.inputs import Inputs
from shared.messages import UNREADABLE
from shared.model import Model
from shared.model_spec import Calibration, ModelSpec
from shared.npz import as_numbers, read_npz
from shared.releases.artefact import Precision
from shared.releases.release import MAX_VARIANTS
from shared.releases.structure import check_structure
from shared.scores import Floats, ScoreKind, well_formed

MAX_GOLDEN = 64
MAX_GOLDEN_BYTES = 64 * 2**20
GOLDEN_INPUT_NAMES = ("inputs", "x")


class FileError(EscalonError):
    """A file that was given cannot become part of a release."""


@dataclass(frozen=True)
class Handmade:
    """What a person gives.

    Attributes:
        models: ONNX files of one model, the first the main one.
        golden: npz with ``inputs``, and perhaps ``scores`` of the first file.
        by: who publishes it.
        labels: one a line, or a JSON list; None for the pipeline's.
        threshold: tier-1 accepts from this certainty on.
        temperature: divides the logits.
        scores: what the outputs hold.
        version: its name; None for the next number.
        notes: in words.
        parents: versions that it was made from.
        metrics: figures of its making.
        url_prefix: of a web server that is to have the files; empty for none.
    """

    models: Sequence[Path]
    golden: Path
    by: str
    labels: Path | None = None
    threshold: float = 0.0
    temperature: float = 1.0
    scores: ScoreKind = "logits"
    version: str | None = None
    notes: str = ""
    parents: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    url_prefix: str = ""


def draft(made: Handmade, config: CloudPipelineConfig, pipeline: str, channel: str) -> Draft:
    """Returns a draft of what a person has made.

    Every file's structure is checked before anything else looks at it; then each model runs on the
    golden inputs.

    Args:
        made: the files.
        config: what the pipeline is.
        pipeline: its name.
        channel: the channel to publish on.

    Raises:
        FileError: a file does not fit; the error says which, and what to do.
        StorageError: a file cannot be read.
    """
    if not 1 <= len(made.models) <= MAX_VARIANTS:
        raise FileError(f"{len(made.models)} model files; a release has 1 to {MAX_VARIANTS}")
    contents = [_checked(path) for path in made.models]
    labels = _labels(made.labels, config.labels)
    inputs, given = _golden(made.golden, config.input.shape, len(labels))
    files = [
        _file(path, data, made, labels, inputs)
        for path, data in zip(made.models, contents, strict=True)
    ]
    if given is not None:
        _compare(made, files[0], given)
    return Draft(
        pipeline=pipeline,
        channel=channel,
        labels=labels,
        files=files,
        golden_inputs=inputs,
        by=made.by,
        scores=made.scores,
        name=made.version,
        parents=made.parents,
        metrics=made.metrics,
        notes=made.notes,
        url_prefix=made.url_prefix,
    )


def _checked(path: Path) -> bytes:
    data = read_file(path)
    try:
        check_structure(data)
    except ArtefactError as error:
        raise FileError(f"{path}: no node would load it: {error}") from error
    return data


def _labels(path: Path | None, expected: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the labels of a file, which must be the pipeline's: both tiers speak of the same."""
    if path is None:
        return expected
    text = read_file(path)
    try:
        labels = (
            msgspec.json.decode(text, type=tuple[str, ...])
            if text.lstrip().startswith(b"[")
            else tuple(filter(None, map(str.strip, text.decode().splitlines())))
        )
    except UNREADABLE as error:
        raise FileError(
            f"{path}: neither a label a line nor a JSON list of texts: {error}"
        ) from error
    if labels != expected:
        raise FileError(
            f"{path}: its {len(labels)} labels are not the {len(expected)} of the pipeline, in "
            f"their order ({_first_difference(labels, expected)}). Fix: bring `labels:` in the "
            "cloud's YAML and the file into line"
        )
    return labels


def _first_difference(found: tuple[str, ...], expected: tuple[str, ...]) -> str:
    for number, (one, other) in enumerate(zip(found, expected, strict=False), 1):
        if one != other:
            return f"number {number} is {one!r} here and {other!r} there"
    return "all that both have are alike"


def _golden(path: Path, shape: tuple[int, ...], labels: int) -> tuple[Floats, Floats | None]:
    """Returns golden inputs, and scores where the file has some."""
    data = read_npz(path, max_bytes=MAX_GOLDEN_BYTES)
    name = next((each for each in GOLDEN_INPUT_NAMES if each in data), None)
    if name is None:
        raise FileError(f"{path}: it has no array `inputs`, only {', '.join(data)}")
    inputs = as_numbers(data[name], np.float32, path)
    scores = as_numbers(data["scores"], np.float32, path) if "scores" in data else None
    if inputs.shape[1:] != shape or not 1 <= len(inputs) <= MAX_GOLDEN:
        raise FileError(
            f"{path}: `{name}` is of shape {list(inputs.shape)}, it must be [1 to {MAX_GOLDEN}, "
            f"{', '.join(map(str, shape))}]"
        )
    if scores is not None and scores.shape != (len(inputs), labels):
        raise FileError(
            f"{path}: `scores` is of shape {list(scores.shape)}, it must be "
            f"[{len(inputs)}, {labels}]: a row for each input, a column for each label"
        )
    return inputs, scores


def _file(
    path: Path, data: bytes, made: Handmade, labels: tuple[str, ...], inputs: Floats
) -> ModelFile:
    calibration = Calibration(made.temperature, made.threshold)
    spec = ModelSpec(path.stem, made.version or "new", "", labels, made.scores, calibration)
    try:
        model = Model.load(path, spec, Inputs.plain(inputs.shape[1:]), len(inputs))
        scores = model.scores(inputs)
    except ArtefactError as error:
        raise FileError(str(error)) from error  # it begins with the path
    if not np.isfinite(scores).all():
        raise FileError(f"{path}: it answers NaN or infinity to a golden input")
    if not np.ptp(scores):
        raise FileError(f"{path}: it answers the same score to every golden input and label")
    _check_kind(path, made.scores, scores)
    return ModelFile(data, _precision(data), calibration, scores)


def _check_kind(path: Path, kind: ScoreKind, scores: Floats) -> None:
    """Refuses scores that are not of the kind that they are said to be.

    A node would find it out as well, but only in its probation and by what follows from it: no
    sound scores, or hardly a sample that the gate accepts after a second softmax.
    """
    sound = well_formed(scores)
    if kind == "probabilities" and not sound.all():
        row = scores[int(np.argmin(sound))]
        raise FileError(
            f"{path}: it answers {np.array2string(row[:8], precision=4)} to a golden input, which "
            "are no probabilities. Fix: `--scores logits`"
        )
    if kind == "logits" and sound.all():
        raise FileError(
            f"{path}: it answers probabilities to every golden input, not logits. "
            "Fix: `--scores probabilities`"
        )


def _precision(data: bytes) -> Precision:
    graph = onnx.load_model_from_string(data).graph
    return "int8" if is_quantized(graph) else "fp32"


def _compare(made: Handmade, file: ModelFile, given: Floats) -> None:
    """Holds the first model's answers against the scores that the golden file brings."""
    allowed = tolerance(file.precision, given)
    difference = float(np.abs(file.golden_scores - given).max())
    if not difference <= allowed:
        raise FileError(
            f"{made.models[0]}: a score differs by {difference:.4g} from `scores` in "
            f"{made.golden}, more than {allowed:.4g}. Fix: give the golden file of this model, or "
            "one with `inputs` alone"
        )
