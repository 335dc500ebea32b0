"""Telemetry is stored once, whole or not at all; whichever database it is."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from cloud.store import Arrived, RowsRefusedError, Stored, TelemetryStore
from cloud.store.records import Sample
from cloud.store.schema import LAYOUT
from shared.errors import StorageError
from shared.messages import GateCount, Tensor
from tests.builders import EPOCH_S, LABELS, record
from tests.fakes import wait_until
from tests.store.desk import NOON_S, SITE, StoreDesk, of_sample, scored


def test_a_batch_that_comes_again_is_stored_once(desk: StoreDesk) -> None:
    assert desk.send(record(1), record(2), batch="a") == Stored(samples=2)
    assert desk.send(record(1), record(2), batch="a") == Stored(repeated=1)
    assert desk.inputs() == [1.0, 2.0]


def test_a_batch_that_comes_twice_in_one_turn_is_stored_once(desk: StoreDesk) -> None:
    arrived = Arrived(SITE, desk.message(record(1), batch="a"))
    assert desk.store.add([arrived, arrived], NOON_S) == Stored(repeated=1, samples=1)


def test_batches_of_other_senders_and_sites_may_have_the_same_name(desk: StoreDesk) -> None:
    assert desk.send(record(1), batch="a").samples == 1
    assert desk.send(record(1), batch="a", site="depot").samples == 1
    other = msgspec.structs.replace(desk.message(record(2), batch="a"), sender="hub-2")
    assert desk.store.add([Arrived(SITE, other)], NOON_S).samples == 1


def test_counts_are_stored_once_too_and_read_on_by_number(desk: StoreDesk) -> None:
    counts = [GateCount("press-1", "meter", "3", 100, 7), GateCount("press-2", "gauge", "1", 5, 5)]
    assert desk.send(counts=counts, batch="a", now_s=NOON_S) == Stored()
    assert desk.send(counts=counts, batch="a", now_s=NOON_S) == Stored(repeated=1)
    alarmed = GateCount("press-1", "meter", "4", 10, 1, certificate="broken", drift_alarms=2)
    desk.send(counts=[alarmed], now_s=NOON_S + 1)
    first, second = desk.store.counts_after("meter", 0, 10)
    assert first[1:] == (NOON_S, "press-1", "3", 100, 7, "none", 0)
    assert second[1:] == (NOON_S + 1, "press-1", "4", 10, 1, "broken", 2)
    assert desk.store.counts_after("meter", first.number, 10) == [second]
    assert desk.store.counts_after("meter", 0, 1) == [first]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(GateCount("press-1", "meter", "3", 7, 100), id="more-unsure-than-seen"),
        pytest.param(GateCount("press-1", "meter", "3", 2**60, 0), id="too-many"),
        pytest.param(GateCount("a/b", "meter", "3", 1, 0), id="no-name"),
        pytest.param(GateCount("press-1", "meter", "3\0", 1, 0), id="nul"),
        pytest.param(GateCount("press-1", "meter", "3", 1, 0, "none", -1), id="less-than-no-alarm"),
    ],
)
def test_counts_that_cannot_be_are_left_out(desk: StoreDesk, count: GateCount) -> None:
    sound = GateCount("press-1", "meter", "3", 100, 7)
    assert desk.send(counts=[count, sound]) == Stored(broken=1)
    assert len(desk.store.counts_after("meter", 0, 10)) == 1


def test_the_same_question_in_another_batch_is_stored_once(desk: StoreDesk) -> None:
    desk.send(record(1), record(2))
    assert desk.send(record(2), record(3)) == Stored(samples=1, known=1)
    assert desk.inputs() == [1.0, 2.0, 3.0]


def test_the_same_question_is_known_again_beyond_the_latest_samples(
    desk: StoreDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.send(record(1))
    monkeypatch.setattr("cloud.store.telemetry.EPOCH_BITS", 1)  # its look back is short
    desk.send(*(record(number) for number in range(10, 30)))
    assert desk.send(record(1), record(2)) == Stored(samples=1, known=1)


def test_a_sample_that_tier1_asked_about_in_two_lives_is_stored_once(desk: StoreDesk) -> None:
    again = of_sample(record(1), correlation=77)
    desk.send(record(1))
    assert desk.send(again) == Stored(known=1)
    assert desk.send(record(2), of_sample(record(2), correlation=78)) == Stored(samples=1, known=1)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"timestamp": EPOCH_S + 60}, id="a-sensor-counts-from-1-again"),
        pytest.param({"sensor": "cam-02"}, id="another-sensor"),
        pytest.param({"id": "other"}, id="another-id"),
    ],
)
def test_other_samples_are_no_repetitions(desk: StoreDesk, changes: dict[str, object]) -> None:
    desk.send(record(1))
    assert desk.send(of_sample(record(1), correlation=2, **changes)).samples == 1


def test_another_site_may_have_the_same_node_and_numbers(desk: StoreDesk) -> None:
    desk.send(record(1))
    assert desk.send(record(1), site="depot").samples == 1


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"input": Tensor("float32", (3,), bytes(5))}, id="bytes-that-do-not-fit"),
        pytest.param({"input": Tensor.of(np.zeros(3, np.int64))}, id="not-float32"),
        pytest.param({"input": Tensor("complex64", (1,), bytes(8))}, id="unknown-dtype"),
        pytest.param({"input": Tensor("float32", (0,), b"")}, id="empty"),
        pytest.param({"tier2_probabilities": Tensor("float32", (9,), bytes(8))}, id="scores"),
        pytest.param({"tier1_probabilities": Tensor("float32", (1,), bytes(4))}, id="one-label"),
        pytest.param({"node": "a/b"}, id="node-that-is-no-name"),
        pytest.param({"pipeline": "x" * 65}, id="pipeline-too-long"),
        pytest.param({"tier1_version": "v" * 257}, id="version-too-long"),
        pytest.param({"tier2_version": "v\0"}, id="nul"),
    ],
)
def test_a_broken_record_is_left_out_and_counted_and_holds_up_nothing(
    desk: StoreDesk, broken: dict[str, object]
) -> None:
    wrong = msgspec.structs.replace(record(2), **broken)
    assert desk.send(record(1), wrong, record(3)) == Stored(samples=2, broken=1)
    assert desk.inputs() == [1.0, 3.0]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"id": "i" * 135}, id="id-too-long"),
        pytest.param({"id": "i\0"}, id="nul"),
        pytest.param({"sensor": "#"}, id="sensor-that-is-no-name"),
        pytest.param({"inclusion_probability": 0.0}, id="no-chance"),
        pytest.param({"inclusion_probability": float("nan")}, id="chance-of-nan"),
        pytest.param({"correlation": 2**63}, id="number-beyond-64-bits"),
        pytest.param({"timestamp": "t" * 129}, id="timestamp-too-long"),
    ],
)
def test_a_record_of_a_broken_sample_is_left_out_too(
    desk: StoreDesk, broken: dict[str, object]
) -> None:
    assert desk.send(of_sample(record(2), **broken), record(3)) == Stored(samples=1, broken=1)


@pytest.mark.parametrize(
    "scores", [[np.nan] * 3, [np.inf, np.inf, 0.0], [np.inf, -np.inf, 1.0], [0.0] * 3]
)
def test_scores_that_are_malformed_are_stored_and_nobody_is_asked_about_them(
    desk: StoreDesk, scores: list[float]
) -> None:
    assert desk.send(scored(1, scores), scored(2, [0.5, 0.5, 0.0])).samples == 2
    assert [each.id for each in desk.store.queue("meter", 10, NOON_S)] == ["id-2"]


def test_a_batch_without_a_usable_name_is_refused_and_the_others_can_be_stored(
    desk: StoreDesk,
) -> None:
    nameless = Arrived(SITE, desk.message(record(1), batch="b" * 65))
    with pytest.raises(RowsRefusedError, match="hub"):
        desk.store.add([nameless, Arrived(SITE, desk.message(record(2)))], NOON_S)
    assert desk.inputs() == []


def test_a_transaction_that_fails_half_way_leaves_all_of_it_to_the_next_try(
    desk: StoreDesk,
) -> None:
    sqlalchemy_url = desk.url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(sqlalchemy_url)
    count = GateCount("press-1", "meter", "3", 100, 7)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE gate_counts RENAME TO gone"))
    with pytest.raises(StorageError, match="cannot be written"):
        desk.send(record(1), batch="a", counts=[count])
    assert desk.inputs() == []
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE gone RENAME TO gate_counts"))
    engine.dispose()
    assert desk.send(record(1), batch="a", counts=[count]) == Stored(samples=1)
    assert desk.inputs() == [1.0]


def test_every_sample_keeps_what_is_known_of_it(desk: StoreDesk) -> None:
    sent = of_sample(record(5, audit=True), reason="audit", inclusion_probability=0.01)
    late = msgspec.structs.replace(record(6), late=True)
    late_audit = msgspec.structs.replace(
        of_sample(record(7, audit=True), reason="audit", inclusion_probability=0.01), late=True
    )
    desk.send(sent, late, late_audit, now_s=NOON_S)
    found = desk.store.find("meter", "id-5", site=SITE, sensor="cam-01")[0]
    assert (found.site, found.node, found.sensor, found.id) == (SITE, "tier1-a", "cam-01", "id-5")
    assert (found.tier1_version, found.tier2_version) == ("1", "7")
    assert (found.reason, found.audit, found.inclusion_probability) == ("audit", True, 0.01)
    assert found.tier1.tolist() == found.tier2.tolist() == pytest.approx([0.1, 0.2, 0.7])
    assert (found.timestamp, found.received_s) == (str(EPOCH_S), NOON_S)
    assert desk.traffic().reason == ("audit", "offline", "audit")


def test_processes_that_store_the_same_messages_at_once_store_each_once(desk: StoreDesk) -> None:
    arrivals = [
        Arrived(SITE, desk.message(*(record(10 * n + k) for k in range(5)), batch=f"b{n}"))
        for n in range(20)
    ]
    stores = [desk.store, desk.open(), desk.open()]
    outcomes: list[Stored] = []

    def store_all(store: TelemetryStore, order: int) -> None:
        for each in arrivals[::order]:
            outcomes.append(store.add([each], NOON_S))

    threads = [
        threading.Thread(target=store_all, args=(store, order))
        for store, order in zip(stores, (1, -1, 1), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 3 * len(arrivals)
    assert sum(each.samples for each in outcomes) == 100
    assert sum(each.repeated for each in outcomes) == 2 * len(arrivals)
    assert len(desk.traffic()) == len(set(desk.inputs())) == 100


def test_a_sample_that_another_process_stores_meanwhile_as_another_question_is_stored_once(
    desk: StoreDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = desk.open()
    telemetry_in = desk.store._telemetry
    unknown = telemetry_in._unknown

    def overtaken(samples: Sequence[Sample]) -> tuple[list[Sample], int]:
        found = unknown(samples)
        monkeypatch.undo()
        desk.send(of_sample(record(1), correlation=77), batch="b", store=other)
        return found

    monkeypatch.setattr(telemetry_in, "_unknown", overtaken)
    assert desk.send(record(1), record(2), batch="a") == Stored(samples=1, known=1)
    assert desk.inputs() == [1.0, 2.0]


def test_whoever_waits_too_long_for_another_writer_leaves_the_batch_and_can_store_it_later(
    desk: StoreDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.store.database.LOCK_S", 0.05)
    other = desk.open()
    with desk.store._database.writing(), pytest.raises(StorageError, match="cannot be written"):
        desk.send(record(1), batch="a", store=other)
    assert desk.send(record(1), batch="a", store=other) == Stored(samples=1)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_process_that_freezes_while_it_writes_loses_its_right_to_write(
    desk: StoreDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.store.database.IDLE_S", 0.05)
    frozen = desk.open()
    stored: list[Stored] = []

    def is_stored() -> bool:
        with suppress(StorageError):
            stored.append(desk.send(record(1), batch="a"))
        return bool(stored)

    with (
        pytest.raises(StorageError, match="cannot be written"),
        frozen._database.writing(5) as (connection, _),
    ):
        wait_until(is_stored, "another process to be let in")
        connection.execute(sa.select(sa.literal(1)))
    assert stored == [Stored(samples=1)]
    assert desk.send(record(2), batch="b", store=frozen) == Stored(samples=1)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_statement_that_does_not_end_is_given_up(
    desk: StoreDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.store.database.STATEMENT_S", 0.05)
    with pytest.raises(StorageError, match="statement timeout"):
        desk.open()._database.rows(sa.select(sa.func.pg_sleep(600)))


def test_numbers_become_visible_in_their_order(desk: StoreDesk) -> None:
    """Whoever reads on behind the last number misses nothing that others were still writing."""
    other = desk.open()
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            desk.send(record(1000 + number), batch=f"w-{number}", store=other)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    sent = 0
    while not done.is_set() or len(seen) < 60 + sent:
        if sent < 40:
            desk.send(record(sent), batch=f"r-{sent}")
            sent += 1
        seen += desk.traffic(after=seen[-1] if seen else 0).number.tolist()
    writer.join()
    assert seen == sorted(set(seen)) == desk.traffic().number.tolist()


def test_what_was_stored_is_there_in_the_next_life(desk: StoreDesk) -> None:
    desk.send(record(1), batch="a")
    desk.store.close()
    desk.store = desk.open()
    assert desk.inputs() == [1.0]
    assert desk.send(record(1), batch="a").repeated == 1


def test_numbers_go_on_after_all_samples_are_gone(desk: StoreDesk) -> None:
    desk.send(record(1))
    last = int(desk.traffic().number[-1])
    engine = sa.create_engine(desk.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM samples"))
        connection.execute(sa.text("DELETE FROM packs"))
    engine.dispose()
    desk.send(record(2))
    assert desk.traffic(after=last).number.tolist() > [last]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite:////nowhere/at/all/t.sqlite", "cannot open the store"),
        ("nonsense", "cannot open the store"),
        ("mysql://host/name", "SQLite and PostgreSQL, not mysql"),
        ("postgresql://nobody@127.0.0.1:1/none", "cannot open the store"),
    ],
)
def test_a_store_that_cannot_be_opened_says_so(url: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=problem):
        TelemetryStore(url, str(tmp_path)).open()


def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not open"):
        TelemetryStore(f"sqlite:///{tmp_path}/t.sqlite", str(tmp_path)).traffic("meter", limit=1)


def test_a_store_of_before_there_was_a_layout_is_not_touched(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'telemetry.sqlite'}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE samples (number INTEGER PRIMARY KEY)"))
    with pytest.raises(StorageError, match="of layout 1; this version reads layout 3 alone"):
        TelemetryStore(url, str(tmp_path), classes={"meter": LABELS}).open()
    assert sa.inspect(engine).get_table_names() == ["samples"]
    engine.dispose()


@pytest.mark.parametrize("layout", [2, LAYOUT + 1], ids=["earlier", "later"])
def test_a_store_of_another_layout_is_refused_and_not_touched(desk: StoreDesk, layout: int) -> None:
    desk.send(record(1))
    engine = sa.create_engine(desk.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE store_state SET layout = {layout}"))
        connection.execute(sa.text("DROP TABLE label_requests"))
    problem = (
        f"the store is of layout {layout}; this version reads layout {LAYOUT} alone. Fix: run the "
        "version that made it, or move it away (or name another `store`): the cloud begins anew"
    )
    with pytest.raises(StorageError, match=re.escape(problem)):
        desk.open()
    assert "label_requests" not in sa.inspect(engine).get_table_names()
    engine.dispose()
