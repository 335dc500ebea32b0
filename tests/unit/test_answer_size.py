"""An answer that goes into no packet is refused with its configuration, as far as it can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.messages import to_json
from shared.mqtt.message import Message
from tests.builders import SHAPE, echo_onnx
from tier1.answer_size import REASONS, AnswerSize
from tier1.answers import Answers, Pack, Verdict
from tier1.config import Tier1Config
from tier1.deliveries import Taken

TEXTS = st.text(min_size=1, max_size=128)
LABELS = st.lists(st.text(max_size=20), min_size=1, max_size=20, unique=True).map(tuple)
FLOATS = st.floats(0, 1, width=32)


def taken(identity: str, size: int, *, is_pack: bool) -> Taken:
    message = Message("s/cam-01", b"", 1, 1, 1)
    return Taken(message, "cam-01", 0.0, [], identity, identity, size, is_pack)


@given(st.data(), LABELS, st.integers(1, 20), st.booleans())
def test_no_answer_is_larger_than_it_is_said_to_get(
    data: st.DataObject, labels: tuple[str, ...], count: int, shown: bool
) -> None:
    identity, version = data.draw(TEXTS), data.draw(st.text(min_size=1, max_size=20))
    label, reason = data.draw(st.sampled_from(labels)), data.draw(st.sampled_from(REASONS))
    numbers = [[data.draw(FLOATS) for _ in labels] for _ in range(count)]
    rows = np.array(numbers, np.float32)
    answers = Answers("tier1-a", shows_probabilities=shown)
    rows = np.array(
        [[data.draw(FLOATS) for _ in labels] for _ in range(count)], np.float32
    ).reshape(count, -1)
    verdict = Verdict(label, 0.987654, "fallback", reason, "meter", version, rows[0], labels)
    single = answers.single(taken(identity, 1, is_pack=False), verdict, 12.3456)
    size = AnswerSize.of_single(labels, version, shows_probabilities=shown)
    assert len(to_json(single.prediction)) <= size.bytes_of(1)

    pack = Pack(
        taken(identity, count, is_pack=True), [label] * count, [0.987654] * count,
        ["fallback"] * count, [reason] * count, [version] * count, rows, 0,
    )  # fmt: skip
    size = AnswerSize.of_pack(labels, version, shows_probabilities=shown)
    assert len(to_json(answers.pack(pack, 12.3456).prediction)) <= size.bytes_of(count)


@pytest.mark.parametrize("shown", [False, True])
def test_as_many_samples_as_fit_do_and_one_more_does_not(shown: bool) -> None:
    size = AnswerSize.of_pack(("good", "bad"), "1", shows_probabilities=shown)
    samples = size.samples_in(100_000)
    assert size.bytes_of(samples) <= 100_000 < size.bytes_of(samples + 1)
    assert size.samples_in(size.first_bytes) == 1
    assert size.samples_in(size.first_bytes - 1) == 0


def node(
    folder: Path, pipeline: dict[str, Any], labels: list[str] | None = None, packet: int = 2**17
) -> Tier1Config:
    (folder / "echo.onnx").write_bytes(echo_onnx())
    model = {"path": folder / "echo.onnx", "labels": labels}
    return Tier1Config.model_validate(
        {
            "role": "tier1",
            "node": "tier1-a",
            "site": "plant",
            "broker": {"url": "mqtt://127.0.0.1", "max_packet_bytes": packet},
            "state_dir": folder / "state",
            "pipelines": {"meter": {"input": {"shape": SHAPE}, "model": model} | pipeline},
        },
        strict=False,
    )


def packs(samples: int, **more: Any) -> dict[str, Any]:
    return {
        "format": {"kind": "raw", "pack": {"max_samples": samples}},
        "max_payload_bytes": 2**16,
        **more,
    }


MANY_LABELS = [f"label-{number:04}" for number in range(7000)]


@pytest.mark.parametrize(
    ("pipeline", "labels", "fix"),
    [
        pytest.param(packs(5000), ["a", "b"], "lower format.pack.max_samples to", id="long-packs"),
        pytest.param(
            packs(1000, probabilities=True), MANY_LABELS[:20],
            "lower format.pack.max_samples to", id="probabilities-of-a-pack",
        ),
        pytest.param(
            packs(800), ["a" * 200, "b"], "lower format.pack.max_samples to", id="long-labels"
        ),
        pytest.param(
            {"probabilities": True}, MANY_LABELS, "show no probabilities", id="many-labels"
        ),
        pytest.param(
            packs(10, probabilities=True), MANY_LABELS,
            "show no probabilities", id="many-labels-of-a-pack",
        ),
    ],
)  # fmt: skip
def test_answers_that_no_packet_takes_are_refused_with_what_to_do(
    tmp_path: Path, pipeline: dict[str, Any], labels: list[str], fix: str
) -> None:
    with pytest.raises(
        ValidationError, match="do not go into packets of at most 131072"
    ) as refusal:
        node(tmp_path, pipeline, labels)
    (error,) = refusal.value.errors()
    assert fix in error["ctx"]["fix"]
    enough = int(error["ctx"]["fix"].rpartition(" ")[2])
    node(tmp_path, pipeline, labels, packet=enough)
    with pytest.raises(ValidationError):
        node(tmp_path, pipeline, labels, packet=enough - 1)


def test_as_many_samples_as_the_refusal_says_are_taken(tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as refusal:
        node(tmp_path, packs(5000))
    fix = refusal.value.errors()[0]["ctx"]["fix"]
    fit = int(fix.removeprefix("lower format.pack.max_samples to ").partition(",")[0])
    node(tmp_path, packs(fit))
    with pytest.raises(ValidationError):
        node(tmp_path, packs(fit + 1))


@pytest.mark.parametrize(
    "pipeline",
    [
        pytest.param({}, id="single-samples"),
        pytest.param({"probabilities": True}, id="probabilities"),
        pytest.param(packs(1000), id="packs"),
        pytest.param(packs(5000, max_payload_bytes=2000), id="packs-that-no-payload-fills"),
    ],
)
def test_answers_that_fit_are_fine(tmp_path: Path, pipeline: dict[str, Any]) -> None:
    assert node(tmp_path, pipeline, ["a", "b", "c"]).pipelines["meter"] is not None
