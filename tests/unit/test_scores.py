"""Only what is a probability counts as one."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose
from scipy.special import logsumexp

from shared.scores import (
    Floats,
    ScoreKind,
    ScoreName,
    certainty,
    probabilities,
    score,
    well_formed,
)

NAMES = get_args(ScoreName)
BOUNDED: list[ScoreName] = ["max_probability", "margin", "entropy"]


def scores_of(*rows: list[float]) -> Floats:
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param([float("nan"), 0.5, 0.5], id="nan"),
        pytest.param([float("inf"), 0.0, 0.0], id="infinite"),
        pytest.param([0.5, 0.4, 0.0], id="sums-to-less-than-one"),
        pytest.param([0.9, 0.9, 0.0], id="sums-to-more-than-one"),
        pytest.param([1.2, -0.2, 0.0], id="negative-though-it-sums-to-one"),
        pytest.param([0.0, 0.0, 0.0], id="all-zero"),
    ],
)
def test_a_malformed_row_is_told_from_a_sound_neighbour(row: list[float]) -> None:
    assert well_formed(scores_of(row, [0.2, 0.3, 0.5])).tolist() == [False, True]


def test_rows_without_labels_are_not_probabilities() -> None:
    assert well_formed(np.zeros((2, 0), np.float32)).tolist() == [False, False]


def test_a_sum_off_by_less_than_float16_rounding_still_passes() -> None:
    assert well_formed(scores_of([0.333, 0.333, 0.333])).tolist() == [True]


def test_temperature_one_leaves_probabilities_as_they_are() -> None:
    rows = scores_of([0.2, 0.3, 0.5], [1.0, 0.0, 0.0])
    assert_allclose(probabilities(rows, "probabilities", 1.0), rows, atol=1e-6)


def test_logits_become_the_softmax_of_logits_over_temperature() -> None:
    result = probabilities(scores_of([2.0, 0.0]), "logits", 2.0)
    assert_allclose(result, [[np.e / (np.e + 1), 1 / (np.e + 1)]], rtol=1e-6)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_a_row_with_nan_comes_back_malformed_and_alone(kind: ScoreKind) -> None:
    result = probabilities(scores_of([float("nan"), 0.4, 0.6], [0.0, 0.4, 0.6]), kind, 1.5)
    assert well_formed(result).tolist() == [False, True]


def test_probabilities_that_do_not_sum_to_one_are_not_mended() -> None:
    result = probabilities(scores_of([0.9, 0.9, 0.9]), "probabilities", 1.0)
    assert well_formed(result).tolist() == [False]


def test_logits_too_large_for_exp_do_not_overflow() -> None:
    result = probabilities(scores_of([1e30, -1e30, 0.0]), "logits", 0.5)
    assert_allclose(result, [[1.0, 0.0, 0.0]])


ROWS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
    elements=st.floats(-50, 50, width=32),
)


@given(ROWS, st.floats(0.25, 50))
def test_finite_logits_always_give_probabilities_in_the_same_order(
    logits: Floats, temperature: float
) -> None:
    result = probabilities(logits, "logits", temperature)
    assert well_formed(result).all()
    rows = np.arange(len(logits))
    assert_allclose(result[rows, logits.argmax(axis=1)], result.max(axis=1))


@given(ROWS)
def test_a_higher_temperature_never_raises_the_confidence(logits: Floats) -> None:
    warm = probabilities(logits, "logits", 1.0).max(axis=1)
    hot = probabilities(logits, "logits", 3.0).max(axis=1)
    assert (hot <= warm + 1e-6).all()


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5),
        elements=st.floats(width=32),
    )
)
def test_any_floats_at_all_are_judged_without_a_warning(kind: ScoreKind, rows: Floats) -> None:
    calibrated = probabilities(rows, kind, 1.3)
    assert not well_formed(calibrated)[~np.isfinite(rows).all(axis=1)].any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("max_probability", 0.7, id="the-largest"),
        pytest.param("margin", 0.5, id="the-two-largest"),
        pytest.param("entropy", 1 - 0.8018186 / np.log(3), id="one-minus-normalised-entropy"),
    ],
)
def test_a_certainty_of_probabilities_is_its_formula(name: ScoreName, expected: float) -> None:
    row = scores_of([0.2, 0.7, 0.1])
    assert_allclose(certainty(row, row, name), [expected], rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_energy_is_the_temperature_times_the_logsumexp_of_logits(temperature: float) -> None:
    logits = scores_of([3.0, -1.0, 0.5], [30.0, 10.0, 20.0])
    result = score(logits, "logits", temperature, "energy").certainty
    assert_allclose(
        result, temperature * logsumexp(logits.astype(float) / temperature, axis=1), rtol=1e-6
    )


def test_energy_of_logits_beyond_exp_is_finite() -> None:
    result = score(scores_of([1e4, 0.0], [-1e4, -1e4]), "logits", 1.0, "energy").certainty
    assert_allclose(result, [1e4, -1e4 + np.log(2)])


@pytest.mark.parametrize("name", BOUNDED)
def test_one_label_for_sure_is_full_certainty_and_all_alike_is_the_least(name: ScoreName) -> None:
    sure, unsure = certainty(rows := scores_of([1, 0, 0, 0], [0.25] * 4), rows, name)
    assert sure == pytest.approx(1, abs=1e-6)
    assert unsure == pytest.approx(0.25 if name == "max_probability" else 0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_the_certainty_of_a_malformed_row_is_nan_and_its_neighbours_is_not(
    kind: ScoreKind, name: ScoreName
) -> None:
    rows = scores_of([0.3, 0.7], [float("nan"), 0.5], [float("inf"), 0.0], [1.0, 0.0])
    result = score(rows, kind, 1.0, name)
    assert np.isnan(result.certainty).tolist() == [False, True, True, False]
    assert np.isnan(result.probabilities).all(axis=1).tolist() == [False, True, True, False]


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_has_no_certainties(name: ScoreName) -> None:
    result = score(np.zeros((0, 3), np.float32), "logits", 1.0, name)
    assert result.probabilities.shape == (0, 3)
    assert result.certainty.shape == (0,)


@pytest.mark.parametrize("name", NAMES)
@given(ROWS, st.floats(0.25, 50))
def test_each_row_is_scored_as_if_it_were_alone(
    name: ScoreName, logits: Floats, temperature: float
) -> None:
    together = score(logits, "logits", temperature, name)
    for place in range(len(logits)):
        alone = score(logits[place : place + 1], "logits", temperature, name)
        assert_allclose(together.certainty[place], alone.certainty[0], rtol=1e-5, atol=1e-5)
    if name in BOUNDED:
        assert ((together.certainty >= 0) & (together.certainty <= 1 + 1e-6)).all()
    assert together.probabilities.dtype == together.certainty.dtype == np.dtype(np.float32)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5),
        elements=st.floats(width=32),
    ),
    st.sampled_from([0.3, 1.0, 2.5]),
)
def test_a_row_has_a_certainty_where_it_has_probabilities_and_only_there(
    name: ScoreName, kind: ScoreKind, rows: Floats, temperature: float
) -> None:
    result = score(rows, kind, temperature, name)
    sound = well_formed(result.probabilities)
    assert np.array_equal(np.isfinite(result.certainty), sound)
    assert np.array_equal(np.isnan(result.probabilities).any(axis=1), ~sound)
