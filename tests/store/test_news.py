"""The store says how much is new behind a number, and no more than was asked for."""

from __future__ import annotations

from tests.builders import record
from tests.store.desk import StoreDesk, said, told


def test_numbers_grow_with_all_that_comes(desk: StoreDesk) -> None:
    assert desk.store.newest() == 0
    desk.send(record(1), record(2))
    first = desk.store.newest()
    assert first >= 2
    desk.send(record(3))
    assert desk.store.newest() > first
    assert desk.traffic().number[-1] <= desk.store.newest()


def test_samples_behind_a_number_are_counted_up_to_what_is_enough(desk: StoreDesk) -> None:
    desk.send(record(1), record(2))
    behind = desk.store.newest()
    desk.send(*(record(number) for number in range(3, 10)), record(99, pipeline="gauge"))
    assert desk.store.samples_after("meter", behind, 100) == 7
    assert desk.store.samples_after("meter", behind, 3) == 3
    assert desk.store.samples_after("meter", desk.store.newest(), 100) == 0


def test_what_can_teach_has_an_input_and_a_label_of_the_audit_or_of_a_person(
    desk: StoreDesk,
) -> None:
    desk.send(record(1, audit=True))
    behind = desk.store.newest()
    desk.send(
        record(2, audit=True),
        record(3, audit=True, with_input=False),
        record(4),
        record(5),
        record(6, with_input=False),
        record(7, audit=True),
    )
    assert desk.store.labels_after("meter", behind, 100) == 2
    desk.store.label([told(f"id-{each}", "zero") for each in (1, 4, 6, 7)], 0.0)
    # Of a person's labels the one on sample 4 is news: 1 is old, 6 has no input, 7 counts already.
    assert desk.store.labels_after("meter", behind, 100) == 3
    assert desk.store.labels_after("meter", behind, 2) == 2
    assert desk.store.labels_after("meter", behind, 1) == 1
    assert desk.store.labels_after("gauge", behind, 100) == 0


def test_a_label_that_comes_before_its_sample_counts_with_it(desk: StoreDesk) -> None:
    behind = desk.store.newest()
    desk.send(record(1), labels=[said("id-2", "one")])
    assert desk.store.labels_after("meter", behind, 100) == 0
    desk.send(record(2))
    assert desk.store.labels_after("meter", behind, 100) == 1
