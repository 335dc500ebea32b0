"""A model of the user's own, from a file."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.config_section import ExistingFile, Section, existing_file
from shared.model_labels import labels_in_text, problem_with
from shared.scores import ScoreName

MAX_LABELS_FILE_BYTES = 4 * 2**20


def _labels(value: Any, info: ValidationInfo) -> Any:
    """Returns the labels of a list, or of the file that a text names."""
    if isinstance(value, str):
        value = _labels_of_file(value, info)
    if not isinstance(value, list | tuple):
        return value
    for label in value:
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise _refusal(f"the label {label!r} is no text", 'put it in quotes: "yes", "1.5"')
    labels = tuple(map(str, value))
    problem = problem_with(labels)
    if problem:
        raise _refusal(problem, "write one label for each of the model's scores, in their order")
    return labels


def _labels_of_file(text: str, info: ValidationInfo) -> tuple[str, ...]:
    path = existing_file(text, info)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LABELS_FILE_BYTES + 1)
        if len(content) > MAX_LABELS_FILE_BYTES:
            raise ValueError(f"it has more than {MAX_LABELS_FILE_BYTES} bytes")
        return labels_in_text(content.decode())
    except OSError as error:
        raise _refusal(f"cannot read {path}: {error.strerror}", "make it readable") from error
    except ValueError as error:
        fix = "write one label a line, or a JSON list of texts"
        raise _refusal(f"{path} holds no labels: {error}", fix) from error


def _refusal(problem: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("labels", "{problem}", {"problem": problem, "fix": fix})


Labels = Annotated[
    tuple[str, ...],
    BeforeValidator(_labels),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]


class ModelConfig(Section):
    """A model that is there before the first release, from a file of yours."""

    path: ExistingFile
    """The ONNX file."""
    version: str = Field(default="local", min_length=1, max_length=64)
    """The version that predictions carry."""
    labels: Labels | None = None
    """One label for each of the model's scores, in their order: a list, or the path of a file with
    one label a line or a JSON list. Left out, they are taken from the ONNX file: from its metadata
    (``labels``, ``classes``, ``class_names``, ``names`` or ``id2label``), or from a classifier that
    skl2onnx made."""
    output: str | None = Field(default=None, min_length=1)
    """Name of the ONNX output with the scores. Left out, it is the only one of floats."""
    scores: Literal["logits", "probabilities"] = "probabilities"
    """What the model's output holds."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """The logits are divided by it before the softmax."""
    score: ScoreName = "max_probability"
    """How certain an answer is: its probability, its ``margin`` over the second, one minus the
    ``entropy`` of all (0 to 1), or the ``energy`` of the logits (any number)."""
    threshold: float = Field(default=0.9, allow_inf_nan=False)
    """Tier-1 answers itself from this certainty on: 0 to 1, or any number for ``energy``. A release
    brings a certified one with it."""

    @field_validator("threshold")
    @classmethod
    def _within_the_range_of_the_score(cls, threshold: float, info: ValidationInfo) -> float:
        score = info.data.get("score", "energy")  # missing where it is wrong itself
        if score != "energy" and not 0 <= threshold <= 1:
            raise PydanticCustomError(
                "threshold",
                "the threshold of {score} lies between 0 and 1, not at {threshold}",
                {"score": score, "threshold": threshold, "fix": "write a number from 0 to 1"},
            )
        return threshold

    @model_validator(mode="after")
    def _energy_is_of_logits(self) -> Self:
        if self.score != "energy":
            return self
        if self.scores != "logits":
            raise PydanticCustomError(
                "energy_of_probabilities",
                "energy is that of logits, which this model does not give",
                {"fix": "name an output of logits and write `scores: logits`, or take `entropy`"},
            )
        if "threshold" not in self.model_fields_set:
            raise PydanticCustomError(
                "no_threshold",
                "no threshold of energy fits every model",
                {"fix": "write `threshold:`, a value that most right answers lie above"},
            )
        return self
