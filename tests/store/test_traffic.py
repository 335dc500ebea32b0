"""What is selected comes back in columns, oldest first, at the price of the selection alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from cloud.store import Outline
from cloud.store.counts import select_counts
from cloud.store.queue import select_unsure
from cloud.store.schema import EPOCH, SAMPLES
from cloud.store.traffic import select_traffic
from shared.errors import StorageError
from shared.messages import GateCount, TelemetryRecord, Tensor
from tests.builders import SHAPE, record
from tests.store.desk import NOON_S, StoreDesk, of_sample, scored, told


def test_columns_say_what_was_sent(desk: StoreDesk) -> None:
    desk.send(record(1), now_s=NOON_S)
    desk.send(record(2, audit=True), record(3, with_input=False), now_s=NOON_S + 1)
    desk.store.label([told("id-2", "one")], NOON_S + 2)
    found = desk.traffic()
    assert found.number.tolist() == sorted(found.number.tolist())
    assert found.received_s.tolist() == [NOON_S, NOON_S + 1, NOON_S + 1]
    assert found.tier1.shape == found.tier2.shape == (3, 3)
    assert found.tier2[0].tolist() == pytest.approx([0.1, 0.2, 0.7])
    assert found.tier1.dtype == found.tier2.dtype == np.float32
    assert found.audit.tolist() == [False, True, False]
    assert found.reason == ("low_confidence",) * 3
    assert found.inclusion_probability.tolist() == [1.0] * 3
    assert found.tier1_version == ("1",) * 3
    assert found.tier2_version == ("7",) * 3
    assert found.label.tolist() == [-1, 1, -1]
    assert found.has_input.tolist() == [True, True, False]


def test_a_page_after_another_misses_nothing_and_repeats_nothing(desk: StoreDesk) -> None:
    for number in range(10):
        desk.send(record(number), now_s=NOON_S + number)
    pages, after = [], 0
    while len(page := desk.traffic(after=after, limit=3)):
        pages.append(page.number.tolist())
        after = pages[-1][-1]
    assert [len(page) for page in pages] == [3, 3, 3, 1]
    assert list(chain.from_iterable(pages)) == desk.traffic().number.tolist()


def test_the_newest_of_too_many_still_come_oldest_first(desk: StoreDesk) -> None:
    desk.send(*map(record, range(10)))
    assert desk.inputs(limit=3, newest=True) == [7.0, 8.0, 9.0]
    assert desk.inputs(limit=3) == [0.0, 1.0, 2.0]


def test_an_instant_a_version_and_the_audit_select(desk: StoreDesk) -> None:
    newer = msgspec.structs.replace(record(2, audit=True), tier1_version="2")
    desk.send(record(1, audit=True), now_s=NOON_S)
    desk.send(newer, record(3, pipeline="gauge"), record(4), now_s=NOON_S + 1)
    assert desk.inputs(since_s=NOON_S + 1) == [2.0, 4.0]
    assert desk.inputs(since_s=NOON_S + 1.1) == []
    assert desk.inputs(tier1_version="2") == [2.0]
    assert desk.inputs(audited_only=True) == [1.0, 2.0]
    assert desk.inputs(audited_only=True, since_s=NOON_S + 1, tier1_version="1") == []
    assert desk.inputs(pipeline="gauge") == [3.0]


def test_an_instant_holds_though_the_clock_was_put_back(desk: StoreDesk) -> None:
    desk.send(record(1), now_s=NOON_S + 100)
    desk.send(record(2), now_s=NOON_S)
    assert desk.inputs(since_s=NOON_S + 50) == [1.0]
    assert desk.inputs(since_s=NOON_S) == [1.0, 2.0]


def outline(desk: StoreDesk, **wanted: Any) -> Outline:
    whole = {"since_s": 0.0, "before": None, "limit": 100, "tier2_version": "7", **wanted}
    return desk.store.outline("meter", **whole)


def test_an_outline_says_what_came_of_one_teacher_newest_first(desk: StoreDesk) -> None:
    rare = of_sample(record(2, audit=True), reason="audit", inclusion_probability=0.25)
    other = msgspec.structs.replace(record(4), tier2_version="8")
    desk.send(record(1), rare, record(3, with_input=False), other, now_s=NOON_S)
    desk.send(record(5, pipeline="gauge"), now_s=NOON_S)
    found = outline(desk)
    whole = desk.traffic()
    of_seven = np.array([version == "7" for version in whole.tier2_version])
    assert found.number.tolist() == whole.number[of_seven][::-1].tolist()
    assert found.chance.tolist() == [1.0, 0.25, 1.0]
    assert found.audit.tolist() == [False, True, False]
    assert found.has_input.tolist() == [False, True, True]
    assert found.node == ("plant/tier1-a",) * 3
    assert len(outline(desk, since_s=NOON_S + 1)) == 0
    assert len(outline(desk, tier2_version="8")) == 1


def test_pages_of_outlines_are_the_whole_one(desk: StoreDesk) -> None:
    desk.send(*map(record, range(10)))
    pages, before = [outline(desk, limit=3)], None
    while len(pages[-1]) == 3:
        before = int(pages[-1].number[-1])
        pages.append(outline(desk, limit=3, before=before))
    whole = Outline.oldest_first(pages)
    assert whole.number.tolist() == desk.traffic().number.tolist()
    assert len(whole.chance) == len(whole.audit) == len(whole.has_input) == len(whole.node) == 10


def test_samples_are_found_by_their_numbers_oldest_first(desk: StoreDesk) -> None:
    desk.send(*map(record, range(5)), record(9, pipeline="gauge"))
    numbers = desk.traffic().number
    other = desk.traffic("gauge").number
    found = desk.store.samples("meter", [*numbers[[3, 1]], *other, 999_999])
    assert found.number.tolist() == numbers[[1, 3]].tolist()
    assert found.tier2.shape == (2, 3)
    assert len(desk.store.samples("meter", [])) == 0


def test_inputs_come_in_the_order_that_they_are_asked_for(desk: StoreDesk) -> None:
    for first in range(0, 30, 10):
        desk.send(*(record(first + number) for number in range(10)))
    numbers = desk.traffic().number
    order = np.random.default_rng(1).permutation(len(numbers))
    found = desk.store.inputs(numbers[order], SHAPE)
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == order.tolist()
    assert desk.store.inputs([], SHAPE).shape == (0, *SHAPE)


def test_the_bytes_of_an_image_come_back_as_numbers(desk: StoreDesk) -> None:
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    desk.send(msgspec.structs.replace(record(1), input=Tensor.of(image)))
    found = desk.store.inputs(desk.traffic().number, (1, 2, 3))
    assert found.tolist() == [image.tolist()]


def test_an_input_that_is_not_there_or_of_another_shape_is_said(desk: StoreDesk) -> None:
    wide = msgspec.structs.replace(record(2), input=Tensor.of(np.zeros(5, np.float32)))
    desk.send(record(1, with_input=False), wide)
    without, other = desk.traffic().number.tolist()
    assert desk.store.fit([without, other, 999], (5,)).tolist() == [False, True, False]
    assert desk.store.fit([other], SHAPE).tolist() == [False]
    assert desk.store.fit([], SHAPE).tolist() == []
    with pytest.raises(StorageError, match=f"no input of sample {without}"):
        desk.store.inputs([without], SHAPE)
    with pytest.raises(StorageError, match=rf"sample {other} has shape \(5,\), not \(3,\)"):
        desk.store.inputs([other], SHAPE)
    with pytest.raises(StorageError, match="no input of sample 999"):
        desk.store.inputs([other, 999], (5,))


def test_samples_of_models_with_other_labels_are_left_out(desk: StoreDesk) -> None:
    desk.send(record(1), scored(2, [0.5, 0.5]), record(3))
    assert desk.inputs() == [1.0, 3.0]


def test_of_a_pipeline_that_is_not_configured_the_newest_sample_says_how_many_labels(
    desk: StoreDesk,
) -> None:
    two = Tensor.of(np.array([0.5, 0.5], np.float32))
    changed = msgspec.structs.replace(
        record(2, pipeline="old"), tier1_probabilities=two, tier2_probabilities=two
    )
    desk.send(record(1, pipeline="old"), changed)
    found = desk.traffic("old")
    assert found.tier2.shape == (1, 2)
    assert len(desk.traffic("unknown")) == 0


def test_it_is_known_which_inputs_stay_on_their_sites(desk: StoreDesk) -> None:
    audit = scored(2, [0.1, 0.2, 0.7], sample=record(2, audit=True).sample, input=None)
    audit = msgspec.structs.replace(
        audit, sample=msgspec.structs.replace(audit.sample, reason="audit")
    )
    desk.send(record(1), audit, record(3, with_input=False))
    shares = desk.store.input_shares("meter")
    assert (shares.hard, shares.hard_withheld) == (1, 1)
    assert (shares.audits, shares.audits_withheld) == (0, 1)


def test_a_sample_is_found_by_its_id_whatever_its_sensor(desk: StoreDesk) -> None:
    desk.send(record(1), record(2))
    desk.send(record(1), site="depot")
    assert [each.site for each in desk.store.find("meter", "id-1")] == ["depot", "plant"]
    assert [each.site for each in desk.store.find("meter", "id-1", site="plant")] == ["plant"]
    assert desk.store.find("meter", "id-3") == []
    assert desk.store.find("gauge", "id-1") == []


# What it costs


def traffic_query(**wanted: Any) -> sa.Select[Any]:
    whole: dict[str, Any] = {
        "since_s": 0.0, "lowest": 100, "limit": 50, "tier1_version": None, "audited_only": False,
        "newest": False, "width": 3,
    }  # fmt: skip
    return select_traffic("meter", **(whole | wanted))


QUERIES: dict[str, Callable[[], sa.Select[Any]]] = {
    "samples_by_pipeline": traffic_query,
    "samples_by_pipeline newest": lambda: traffic_query(newest=True),
    "samples_by_version": lambda: traffic_query(tier1_version="1"),
    "samples_audited": lambda: traffic_query(audited_only=True),
    "samples_unsure": lambda: select_unsure("meter", 50),
    "samples_by_identity": lambda: sa.select(SAMPLES.c.number).where(
        EPOCH.in_([0]), SAMPLES.c.identity.in_([1, 2, 3])
    ),
    "gate_counts_by_pipeline": lambda: select_counts("meter", 100, 50),
}


@pytest.fixture
def filled(desk: StoreDesk) -> StoreDesk:
    """A store that is large enough for a planner to care."""
    for part in range(20):
        records: list[TelemetryRecord] = []
        for number in range(400):
            apart = 0.2 + 0.5 * (number % 100 > 0)
            each = scored(part * 400 + number, [apart, 1 - apart, 0.0])
            audited = msgspec.structs.replace(each.sample, audit=number % 20 == 0)
            version = str(1 + (number + part) % 20)
            pipeline = ("meter", "gauge")[number % 4 == 3]
            records.append(
                msgspec.structs.replace(
                    each, sample=audited, tier1_version=version, pipeline=pipeline
                )
            )
        counts = [
            GateCount(f"press-{number}", ("meter", "gauge")[number % 2], "1", 10, 1)
            for number in range(100)
        ]
        desk.send(*records, counts=counts, now_s=NOON_S + part)
    return desk


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_each_selection_goes_by_its_index(filled: StoreDesk) -> None:
    for wanted, query in QUERIES.items():
        compiled = query().compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        steps = [row[3] for row in filled.rows(f"EXPLAIN QUERY PLAN {compiled}")]
        index = wanted.partition(" ")[0]
        assert any(f"INDEX {index} " in f"{step} " for step in steps), (wanted, steps)
        assert not any(step.startswith("SCAN") or "TEMP B-TREE" in step for step in steps), steps


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_no_selection_reads_a_whole_table(filled: StoreDesk) -> None:
    """Its planner weighs: of a few thousand rows another index may be the cheaper one."""
    engine = sa.create_engine(filled.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        connection.execute(sa.text("ANALYZE"))
        for query in QUERIES.values():
            compiled = query().compile(
                dialect=connection.dialect, compile_kwargs={"literal_binds": True}
            )
            (found,) = connection.execute(sa.text(f"EXPLAIN (FORMAT JSON) {compiled}")).one()
            plan = json.dumps(found)
            assert "Index" in plan
            assert '"Node Type": "Seq Scan"' not in plan
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param({"newest": True}, id="newest"),
        pytest.param({"since_s": NOON_S + 90.0}, id="since-an-instant"),
        pytest.param({"audited_only": True, "newest": True}, id="audited"),
        pytest.param({"tier1_version": "1", "newest": True}, id="version"),
    ],
)
def test_what_a_selection_costs_does_not_grow_with_the_store(
    desk: StoreDesk, wanted: dict[str, Any]
) -> None:
    """By the instructions of SQLite's virtual machine, which no noise changes."""

    def fill(first: int, now_s: float) -> None:
        for part in range(first, first + 20):
            numbers = range(part * 100, part * 100 + 100)
            desk.send(*(record(n, audit=n % 5 == 0) for n in numbers), now_s=now_s)

    def instructions() -> int:
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        with desk.store._database.reading() as connection:
            raw = connection.connection.driver_connection
        assert raw is not None
        raw.set_progress_handler(count, 10)
        assert len(desk.traffic(limit=200, **wanted)) == 200
        raw.set_progress_handler(None, 0)
        return counted

    fill(0, NOON_S)
    fill(1000, NOON_S + 100)
    small = instructions()
    for part in range(6):
        fill(20 + 20 * part, NOON_S + 1 + part)
    fill(2000, NOON_S + 100)
    assert small > 20
    assert instructions() <= 1.2 * small
