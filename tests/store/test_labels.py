"""What people say outranks tier-2; it waits for its sample, and what cannot be is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cloud.store import LabelTally
from cloud.store.queue import AGAIN_DAYS, DAY_S
from shared.errors import PayloadError
from shared.messages import Tensor
from tests.builders import EPOCH_S, record
from tests.store.desk import NOON_S, SITE, StoreDesk, of_sample, said, scored, told


def labels(desk: StoreDesk) -> list[int]:
    found: list[int] = desk.traffic().label.tolist()
    return found


def test_a_label_comes_with_its_sample(desk: StoreDesk) -> None:
    desk.send(record(1), record(2))
    assert desk.store.label([told("id-2", "one")], NOON_S) == LabelTally(joined=1)
    assert labels(desk) == [-1, 1]
    (kept,) = desk.store.labels("meter")
    assert (kept.site, kept.sensor, kept.id) == (SITE, "cam-01", "id-2")
    assert (kept.label, kept.by, kept.labelled_s) == ("one", "ada", NOON_S)
    assert kept.number == desk.traffic().number[1]


def test_a_label_waits_for_its_sample(desk: StoreDesk) -> None:
    assert desk.store.label([told("id-2", "two")], NOON_S) == LabelTally(waiting=1)
    desk.send(record(1), record(2), now_s=NOON_S + 60)
    assert labels(desk) == [-1, 2]
    assert [kept.number for kept in desk.store.labels("meter")] == [desk.traffic().number[1]]


def test_a_label_comes_in_a_message_of_its_site_with_its_sample_or_without(
    desk: StoreDesk,
) -> None:
    stored = desk.send(record(1), labels=[said("id-1", "zero"), said("id-2", "two")])
    assert stored.labels == LabelTally(joined=1, waiting=1)
    desk.send(record(2), record(3))
    assert labels(desk) == [0, 2, -1]


@pytest.mark.parametrize("stored_first", [True, False], ids=["stored", "waiting"])
def test_of_two_labels_the_one_said_later_counts(desk: StoreDesk, stored_first: bool) -> None:
    if stored_first:
        desk.send(record(1))
    desk.store.label([told("id-1", "one", labelled_s=NOON_S + 5)], NOON_S)
    earlier = desk.store.label([told("id-1", "two", labelled_s=NOON_S)], NOON_S + 10)
    assert earlier == LabelTally(repeated=1)
    if not stored_first:
        desk.send(record(1))
    assert labels(desk) == [1]
    desk.store.label([told("id-1", "zero", labelled_s=NOON_S + 6)], NOON_S + 20)
    assert labels(desk) == [0]
    assert len(list(desk.store.labels("meter"))) == 1


def test_of_two_labels_that_come_together_the_one_said_later_counts(desk: StoreDesk) -> None:
    desk.send(record(1))
    both = [told("id-1", "one", labelled_s=NOON_S + 1), told("id-1", "two", labelled_s=NOON_S)]
    assert desk.store.label(both, NOON_S) == LabelTally(joined=1, repeated=1)
    assert labels(desk) == [1]


def test_a_label_that_comes_again_changes_nothing(desk: StoreDesk) -> None:
    desk.send(record(1))
    desk.store.label([told("id-1", "one")], NOON_S)
    assert desk.store.label([told("id-1", "one")], NOON_S) == LabelTally(repeated=1)


def test_an_unknown_class_is_refused_with_the_classes_there_are(
    desk: StoreDesk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.send(record(1))
    wrong = [told("id-1", "Zero"), told("id-1", "one", pipeline="pump")]
    assert desk.store.label(wrong, NOON_S) == LabelTally(refused=2)
    assert labels(desk) == [-1]
    assert "sample 'id-1' of cam-01 on plant: label 'Zero' is none of zero, one, two" in caplog.text
    with pytest.raises(PayloadError, match="label 'Zero' is none of zero, one, two"):
        desk.store.check_label("meter", "Zero")
    with pytest.raises(PayloadError, match="'pump' is none of this cloud's: meter, gauge"):
        desk.store.check_label("pump", "one")


def test_a_label_is_of_its_site_sensor_and_pipeline_alone(desk: StoreDesk) -> None:
    desk.send(record(1), of_sample(record(1), sensor="cam-02", correlation=2))
    desk.send(record(1), site="depot")
    desk.send(record(1, pipeline="gauge"))
    desk.store.label([told("id-1", "one")], NOON_S)
    assert labels(desk) == [1, -1, -1]
    assert desk.traffic("gauge").label.tolist() == [-1]


def test_where_a_sensor_counts_from_1_again_the_newest_sample_is_meant(desk: StoreDesk) -> None:
    desk.send(record(1))
    desk.send(of_sample(record(1), correlation=2, timestamp=EPOCH_S + 9))
    desk.store.label([told("id-1", "one")], NOON_S)
    assert labels(desk) == [-1, 1]


@pytest.mark.parametrize(
    "claimed_s",
    [
        pytest.param(1000 * NOON_S, id="milliseconds"),
        pytest.param(NOON_S + 1e9, id="a-wrong-clock"),
        pytest.param(float("inf"), id="infinite"),
        pytest.param(float("nan"), id="nan"),
    ],
)
def test_a_label_that_claims_to_be_of_the_future_was_said_when_it_came(
    desk: StoreDesk, claimed_s: float
) -> None:
    first = said("id-1", "one", labelled_s=claimed_s)
    assert desk.send(record(1), labels=[first]).labels.joined == 1
    (kept,) = desk.store.labels("meter")
    assert kept.labelled_s == NOON_S
    corrected = told("id-1", "two", labelled_s=NOON_S + 60)
    assert desk.store.label([corrected], NOON_S + 60) == LabelTally(joined=1)
    assert labels(desk) == [2]


def test_a_label_finds_its_sample_among_older_epochs(
    desk: StoreDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.send(record(1))
    for number in range(2, 20):
        desk.send(record(number))
    desk.rows("SELECT count(*) FROM samples")
    (most,) = desk.rows("SELECT max(number) >> 17 FROM samples")[0]
    assert most == 0
    # As if as many had come between as an epoch holds.
    with desk.store._database.writing(2**17 + 5):
        pass
    desk.send(record(20))
    assert desk.store.label([told("id-1", "one"), told("id-20", "two")], NOON_S).joined == 2
    assert labels(desk)[0] == 1
    assert labels(desk)[-1] == 2


def test_labels_that_wait_are_bounded_and_the_oldest_go(
    desk: StoreDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.store.labels.MAX_WAITING", 3)
    for number in range(4):
        tally = desk.store.label([told(f"id-{number}", "one")], NOON_S + number)
    assert tally == LabelTally(waiting=1, dropped=1)
    assert [kept.id for kept in desk.store.labels("meter")] == ["id-1", "id-2", "id-3"]


def test_all_labels_come_out_whatever_the_page(
    desk: StoreDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.store.labels.PAGE", 3)
    many = [told(f"id-{number}", "one", sensor=f"cam-{number % 2}") for number in range(9)]
    desk.store.label(many, NOON_S)
    kept = [(each.sensor, each.id) for each in desk.store.labels("meter")]
    assert kept == sorted(kept)
    assert len(kept) == 9
    assert list(desk.store.labels("gauge")) == []


# The labelling queue


def unsure(desk: StoreDesk, count: int) -> None:
    """Stores samples, each a little less unsure than the one before."""
    scores = [[0.3 + 0.02 * k, 0.3, 0.4 - 0.02 * k] for k in range(count)]
    desk.send(*(scored(100 + k, sorted(each)) for k, each in enumerate(scores)))


def test_what_tier2_is_least_sure_of_comes_first_and_the_sure_never(desk: StoreDesk) -> None:
    desk.send(
        scored(1, [0.05, 0.05, 0.9]), scored(2, [0.5, 0.1, 0.4]), scored(3, [0.0, 0.51, 0.49])
    )
    queue = desk.store.queue("meter", 10, NOON_S)
    assert [each.id for each in queue] == ["id-3", "id-2"]
    first = queue[0]
    assert first.margin == pytest.approx(0.02, abs=1e-6)
    assert first.guesses == (("one", 0.51), ("two", 0.49))
    assert first.tier1_guess == "two"
    assert (first.site, first.node, first.sensor) == (SITE, "tier1-a", "cam-01")
    assert first.received_s == NOON_S
    assert desk.store.inputs([first.number], (3,))[0, 0] == 3
    assert desk.store.queue("gauge", 10, NOON_S) == []


def test_a_day_has_its_limit_and_what_is_labelled_is_not_replaced(desk: StoreDesk) -> None:
    unsure(desk, 8)
    first = desk.store.queue("meter", 3, NOON_S)
    assert len(first) == 3
    label = told(first[0].id, "one")
    desk.store.label([label], NOON_S)
    assert desk.store.queue("meter", 3, NOON_S + 60) == first[1:]


def test_what_nobody_answers_keeps_no_other_out_and_comes_again_after_a_month(
    desk: StoreDesk,
) -> None:
    unsure(desk, 8)
    asked = []
    for day in range(4):
        asked.append([each.id for each in desk.store.queue("meter", 3, NOON_S + day * DAY_S)])
    assert [len(each) for each in asked] == [3, 3, 2, 0]
    assert len({name for each in asked for name in each}) == 8
    assert desk.store.queue("meter", 3, NOON_S + (AGAIN_DAYS - 1) * DAY_S) == []
    again = desk.store.queue("meter", 3, NOON_S + AGAIN_DAYS * DAY_S)
    assert [each.id for each in again] == asked[0]


def test_what_has_no_input_to_look_at_is_not_asked(desk: StoreDesk) -> None:
    desk.send(scored(1, [0.5, 0.5, 0.0], input=None), scored(2, [0.5, 0.4, 0.1]))
    assert [each.id for each in desk.store.queue("meter", 3, NOON_S)] == ["id-2"]


def test_what_was_asked_for_is_known_whether_it_has_a_label_or_not(desk: StoreDesk) -> None:
    unsure(desk, 8)
    assert desk.store.asked_for("meter").tolist() == []
    first = desk.store.queue("meter", 3, NOON_S)
    desk.store.label([told(first[0].id, "one")], NOON_S)
    tomorrow = desk.store.queue("meter", 4, NOON_S + DAY_S)
    numbers = {each.number for each in (*first, *tomorrow)}
    assert set(desk.store.asked_for("meter").tolist()) == numbers
    assert desk.store.asked_for("gauge").tolist() == []


def test_a_day_that_began_with_few_is_filled_up_later(desk: StoreDesk) -> None:
    assert desk.store.queue("meter", 3, NOON_S) == []
    unsure(desk, 2)
    assert len(desk.store.queue("meter", 3, NOON_S)) == 2
    desk.send(scored(1, [0.5, 0.5, 0.0]), scored(2, [0.5, 0.49, 0.01]))
    later = desk.store.queue("meter", 3, NOON_S)
    assert later[0].id == "id-1"
    assert len(later) == 3


def test_a_limit_of_none_asks_for_none(desk: StoreDesk) -> None:
    unsure(desk, 2)
    assert desk.store.queue("meter", 0, NOON_S) == []


def test_malformed_scores_of_tier1_have_no_guess(desk: StoreDesk) -> None:
    nothing = Tensor.of(np.full(3, np.nan, np.float32))
    desk.send(scored(1, [0.4, 0.3, 0.3], tier1_probabilities=nothing))
    assert desk.store.queue("meter", 1, NOON_S)[0].tier1_guess == ""
