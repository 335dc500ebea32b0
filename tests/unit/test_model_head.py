"""The output with the scores is found, or named by the user; its form becomes [N, labels]."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from shared.errors import ArtefactError
from shared.model_feed import Port
from shared.model_head import MapHead, TensorHead, choose_head, label_output
from shared.scores import ScoreKind, probabilities

LABEL = Port("label", "tensor(int64)", (None,))
SCORES = Port("probabilities", "tensor(float)", (None, 3))
OTHER = Port("features", "tensor(float)", (None, 128))
TWIN = Port("logits", "tensor(float)", (None, 3))
MAPS = Port("output_probability", "seq(map(string,tensor(float)))", ())


@pytest.mark.parametrize(
    ("ports", "wanted", "name"),
    [
        pytest.param([SCORES], None, "probabilities", id="the-only-one"),
        pytest.param([LABEL, SCORES], None, "probabilities", id="beside-a-label"),
        pytest.param([OTHER, SCORES], None, "probabilities", id="the-one-of-so-many-labels"),
        pytest.param([OTHER, SCORES], "features", "features", id="another-by-name"),
        pytest.param([TWIN, SCORES], "logits", "logits", id="of-two-by-name"),
        pytest.param([LABEL, MAPS], None, "output_probability", id="maps"),
        pytest.param([Port("y", "tensor(float16)", ("N", 3))], None, "y", id="half-precision"),
    ],
)
def test_the_output_with_the_scores_is_found(
    ports: list[Port], wanted: str | None, name: str
) -> None:
    assert choose_head(ports, wanted, "probabilities", 3).name == name


@pytest.mark.parametrize(
    ("ports", "wanted", "message"),
    [
        pytest.param([TWIN, SCORES], None, "more than one of its outputs may hold", id="two"),
        pytest.param([LABEL], None, "none of its outputs may hold", id="none"),
        pytest.param([LABEL, SCORES], "y", "it has no output `y`, but `label`", id="no-such"),
        pytest.param([LABEL, SCORES], "label", "holds no scores", id="a-label"),
    ],
)
def test_an_output_that_cannot_be_told_is_asked_for(
    ports: list[Port], wanted: str | None, message: str
) -> None:
    with pytest.raises(ArtefactError) as refusal:
        choose_head(ports, wanted, "probabilities", 3)
    assert message in str(refusal.value)
    assert "`label`" in str(refusal.value) or "`logits`" in str(refusal.value)


@pytest.mark.parametrize(
    "shape",
    [(2, 3), (2, 3, 1, 1), (2, 1, 1, 3)],
    ids=["flat", "channels-first-map-of-one", "channels-last-map-of-one"],
)
def test_scores_come_as_rows_whatever_dimensions_of_one_there_are(shape: tuple[int, ...]) -> None:
    output = np.arange(6, dtype=np.float64).reshape(shape)
    result = TensorHead("y", "logits").rows(output)
    assert result.dtype == np.float32
    assert result.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("shape", [(2, 3, 4), ()], ids=["a-score-for-each-step", "one-number"])
def test_an_output_of_another_form_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ArtefactError, match=r"no \[N, labels\]"):
        TensorHead("y", "logits").rows(np.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 1), (3,)], ids=["column", "flat"])
@pytest.mark.parametrize(
    ("kind", "output"),
    [("probabilities", [0.5, 0.9, 0.0]), ("logits", [0.0, np.log(9), -np.inf])],
    ids=["sigmoid", "its-logit"],
)
def test_one_number_a_sample_is_that_of_the_second_label(
    kind: ScoreKind, output: list[float], shape: tuple[int, ...]
) -> None:
    scores = TensorHead("y", kind).rows(np.array(output).reshape(shape))[:2]
    assert_allclose(probabilities(scores, kind, 1.0), [[0.5, 0.5], [0.1, 0.9]], atol=1e-6)


def test_maps_bring_scores_and_labels() -> None:
    head, output = MapHead("y"), [{7: 0.25, 9: 0.75}, {7: 1.0, 9: 0.0}]
    assert head.labels(output) == ("7", "9")
    assert head.rows(output).tolist() == [[0.25, 0.75], [1, 0]]


@pytest.mark.parametrize(
    ("ports", "name"),
    [
        pytest.param([LABEL, SCORES], "label", id="number"),
        pytest.param([Port("l", "tensor(string)", (None,)), SCORES], "l", id="text"),
        pytest.param([SCORES], None, id="none"),
        pytest.param([LABEL, Port("n", "tensor(int64)", (None,))], None, id="two"),
    ],
)
def test_the_output_with_the_predicted_label_is_found(ports: list[Port], name: str | None) -> None:
    assert label_output(ports) == name
