"""The store says how much is new behind a number, and no more than was asked for."""

from __future__ import annotations

import msgspec

from tests.builders import record
from tests.store.desk import StoreDesk, told


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


def test_what_can_certify_was_drawn_by_the_audit_and_has_its_input(desk: StoreDesk) -> None:
    desk.send(record(1, audit=True))
    behind = desk.store.newest()
    desk.send(
        record(2, audit=True),
        record(3, audit=True, with_input=False),
        record(4),
        msgspec.structs.replace(record(5, audit=True), tier2_version="8"),
    )
    desk.store.label([told("id-4", "zero")], 0.0)
    assert desk.store.audits_after("meter", behind, 100) == 2
    assert desk.store.audits_after("meter", behind, 1) == 1
    assert desk.store.audits_after("meter", behind, 100, "8") == 1
    assert desk.store.audits_after("meter", 0, 100, "7") == 2
    assert desk.store.audits_after("gauge", behind, 100) == 0
