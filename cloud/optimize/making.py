"""Makes the candidates of a model in a confined child, where whatever it does harms nobody."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from cloud.optimize.calibration import find_ranges
from cloud.optimize.case import decode, read_rows
from cloud.optimize.graph import is_quantized
from cloud.optimize.preparation import prepare
from cloud.optimize.quantize import make
from cloud.optimize.recipes import Ranges, Recipe
from cloud.optimize.session import open_session, ports
from shared.errors import ArtefactError
from shared.inputs import Inputs, InputSpec
from shared.model_feed import Feed
from shared.model_head import choose_head
from shared.releases.structure import check_structure
from shared.scores import ScoreKind, well_formed

LOOKED_AT_ROWS = 64
MAX_REASON_CHARACTERS = 300
UP = "not made: the time was up"


class MakingJob(msgspec.Struct, frozen=True):
    """What to make.

    Attributes:
        model: the float32 model's file.
        inputs: how a row is laid out.
        scores: what its output holds; None to find it out.
        rows: file of the calibration inputs.
        recipes: what to make of it, in order.
        folder: where the candidates go.
        seconds: no recipe is begun after so long.
    """

    model: Path
    inputs: tuple[InputSpec, ...]
    scores: ScoreKind | None
    rows: Path
    recipes: tuple[Recipe, ...]
    folder: Path
    seconds: float = 0.0


class Looked(msgspec.Struct, frozen=True, tag=True):
    """What the float32 model is found to be.

    Attributes:
        labels: how many scores it gives to a sample.
        scores: what they are.
    """

    labels: int
    scores: ScoreKind


class Made(msgspec.Struct, frozen=True, tag=True):
    """What came of one recipe; before that, that it has begun.

    Attributes:
        name: the recipe's.
        made: whether the candidate's file is there (``file_of``).
        reason: why it failed.
    """

    name: str
    made: bool = False
    reason: str = ""

    @property
    def done(self) -> bool:
        """Whether it says what came of the recipe."""
        return self.made or bool(self.reason)


def file_of(name: str, folder: Path) -> Path:
    """Returns where a candidate's file is. The parent asks here: it takes no path from a child."""
    return folder / f"{name}.onnx"


def run(path: Path) -> None:
    """Makes the candidates of a job, and prints a line of JSON for each step."""
    output = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the library prints what it does
        for step in make_all(decode(path.read_bytes(), MakingJob)):
            _print(step, output)


def _print(step: Looked | Made, output: TextIO) -> None:
    output.write(msgspec.json.encode(step).decode() + "\n")
    output.flush()


def make_all(job: MakingJob) -> Iterator[Looked | Made]:
    """Yields what the model is, and each candidate twice: as it begins, and what came of it.

    Raises:
        ArtefactError: the float32 model itself cannot be used.
    """
    ends_s = time.monotonic() + job.seconds
    rows = read_rows(job.rows)
    session = open_session(job.model)
    _require_batch(session, job.inputs)
    feed = Feed(ports(session.get_inputs()), Inputs(job.inputs))
    yield look(session, feed, rows, job.scores)
    del session
    prepared = prepare(job.model)
    if is_quantized(prepared.graph):
        raise ArtefactError("it is quantized already. Fix: give the float32 model")
    saved = job.folder / "prepared.onnx"
    onnx.save(prepared, saved)
    ranges = functools.cache(lambda method: find_ranges(saved, method, feed, rows))
    for recipe in job.recipes:
        yield Made(recipe.name)
        if time.monotonic() > ends_s:
            yield Made(recipe.name, reason=UP)
        else:
            yield _made(recipe, prepared, ranges, job.folder)


def look(
    session: ort.InferenceSession, feed: Feed, rows: NDArray[Any], kind: ScoreKind | None
) -> Looked:
    """Returns what a model is found to be on some rows.

    Args:
        session: the model.
        feed: brings rows to its inputs.
        rows: [N, *shape].
        kind: what its output holds; None to find it out.

    Raises:
        ArtefactError: it cannot run, or answers no scores.
    """
    some = rows[np.arange(feed.batch_size or LOOKED_AT_ROWS) % len(rows)]
    outputs = ports(session.get_outputs())
    for tried in (kind,) if kind is not None else ("probabilities", "logits"):
        head = choose_head(outputs, None, tried, 0)
        try:
            (output,) = session.run([head.name], feed(some))
        except Exception as error:
            # ONNX Runtime raises classes of its own C++ module that share no base but Exception.
            raise ArtefactError(f"it cannot run: {error}") from error
        scores = head.rows(output)
        if tried in (kind, "logits") or well_formed(scores).all():
            return Looked(scores.shape[1], tried)
    raise ArtefactError("it answers no scores")


def _require_batch(session: ort.InferenceSession, inputs: Sequence[InputSpec]) -> None:
    for port in ports(session.get_inputs()):
        if len(inputs) == 1 and port.shape == inputs[0].shape:
            raise ArtefactError(
                f"its input {port} has no dimension for the batch. Fix: export it with a first "
                "dimension that is free"
            )


def _made(
    recipe: Recipe, prepared: onnx.ModelProto, ranges: Callable[[Ranges], Any], folder: Path
) -> Made:
    try:
        data = make(recipe, prepared, ranges)
        check_structure(data)
        file_of(recipe.name, folder).write_bytes(data)
    except MemoryError as error:
        return Made(recipe.name, reason=f"it takes more memory than it may: {error}")
    except ArtefactError as error:
        return Made(recipe.name, reason=str(error))
    except Exception as error:
        # The library raises whatever Python has at a graph that it does not understand.
        reason = f"cannot be made: {type(error).__name__}: {error}"
        return Made(recipe.name, reason=reason[:MAX_REASON_CHARACTERS])
    return Made(recipe.name, made=True)
