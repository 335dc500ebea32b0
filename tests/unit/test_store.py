"""Telemetry is stored once, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from cloud.store import Stored, TelemetryStore
from shared.errors import StorageError
from shared.messages import Telemetry, TelemetryRecord, Tensor
from tests.builders import SHAPE, record


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'telemetry.sqlite'}"


@pytest.fixture
def store(url: str) -> Iterator[TelemetryStore]:
    store = TelemetryStore(url)
    store.open()
    yield store
    store.close()


def batch(name: str, *records: TelemetryRecord) -> Telemetry:
    return Telemetry(1, "tier2-a", name, records, ())


def stored(store: TelemetryStore, since: float = 0.0) -> list[float]:
    return [float(row[0]) for row in store.since("meter", since, SHAPE).inputs]


def test_a_batch_that_comes_again_is_stored_once(store: TelemetryStore) -> None:
    assert store.add(batch("a", record(1), record(2)), 10.0) == Stored(True, 2, 0)
    assert not store.add(batch("a", record(1), record(2)), 11.0).news
    assert stored(store) == [1.0, 2.0]


def test_a_batch_of_counts_alone_is_known_again_too(store: TelemetryStore) -> None:
    assert store.add(batch("a"), 10.0).news
    assert not store.add(batch("a"), 11.0).news


@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(Tensor("float32", (3,), bytes(5)), id="bytes-that-do-not-fit"),
        pytest.param(Tensor.of(np.zeros(3, np.int64)), id="not-float32"),
        pytest.param(Tensor("complex64", (1,), bytes(8)), id="unknown-dtype"),
    ],
)
def test_a_broken_record_is_left_out_and_counted_and_holds_up_nothing(
    store: TelemetryStore, tensor: Tensor
) -> None:
    broken = msgspec.structs.replace(record(2), input=tensor)
    assert store.add(batch("a", record(1), broken, record(3)), 10.0) == Stored(True, 2, 1)
    assert stored(store) == [1.0, 3.0]


def test_a_transaction_that_fails_half_way_leaves_the_batch_to_the_next_try(
    store: TelemetryStore, url: str
) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE samples RENAME TO gone"))
    with pytest.raises(StorageError, match="does not take telemetry"):
        store.add(batch("a", record(1)), 10.0)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE gone RENAME TO samples"))
    engine.dispose()
    assert store.add(batch("a", record(1)), 10.0).news
    assert stored(store) == [1.0]


def test_audits_are_counted_from_an_instant_on_and_only_with_inputs(store: TelemetryStore) -> None:
    store.add(batch("a", record(1, audit=True)), 10.0)
    store.add(
        batch(
            "b",
            record(2, audit=True),
            record(3),
            record(4, audit=True, with_input=False),
            record(5, audit=True, pipeline="gauge"),
        ),
        20.0,
    )
    assert store.audits_since("meter", 0.0) == 2
    assert store.audits_since("meter", 20.0) == 1
    assert store.audits_since("meter", 20.1) == 0
    assert store.audits_since("gauge", 0.0) == 1
    assert store.withheld_audits_since("meter", 0.0) == 1
    assert store.withheld_audits_since("meter", 20.1) == 0
    assert store.withheld_audits_since("gauge", 0.0) == 0


def test_what_came_since_an_instant_comes_back_oldest_first_with_its_scores(
    store: TelemetryStore,
) -> None:
    store.add(batch("a", record(1)), 10.0)
    store.add(batch("b", record(2, audit=True), record(3), record(4, with_input=False)), 20.0)
    assert stored(store, since=20.0) == [2.0, 3.0]
    data = store.since("meter", 0.0, SHAPE)
    assert data.inputs.shape == (3, *SHAPE)
    assert data.inputs.dtype == np.float32
    assert data.tier2[0].tolist() == pytest.approx([0.1, 0.2, 0.7])
    assert data.audit.tolist() == [False, True, False]


def test_the_bytes_of_an_image_are_trained_on_as_numbers(store: TelemetryStore) -> None:
    image = msgspec.structs.replace(record(1), input=Tensor.of(np.array([0, 7, 255], np.uint8)))
    assert store.add(batch("a", image), 10.0) == Stored(True, 1, 0)
    assert store.since("meter", 0.0, SHAPE).inputs.tolist() == [[0.0, 7.0, 255.0]]


def test_inputs_of_another_shape_are_left_out(store: TelemetryStore) -> None:
    wide = msgspec.structs.replace(record(2), input=Tensor.of(np.zeros(5, np.float32)))
    store.add(batch("a", record(1), wide), 10.0)
    assert stored(store) == [1.0]


def test_without_any_sample_the_set_is_empty_but_has_its_shape(store: TelemetryStore) -> None:
    assert store.since("meter", 0.0, (2, 4)).inputs.shape == (0, 2, 4)


def test_records_of_tier2_models_with_other_labels_do_not_break_the_set(
    store: TelemetryStore,
) -> None:
    other = msgspec.structs.replace(
        record(2), tier2_probabilities=Tensor.of(np.array([0.5, 0.5], np.float32))
    )
    store.add(batch("a", record(1), other), 10.0)
    data = store.since("meter", 0.0, SHAPE)
    assert len(data.inputs) == len(data.tier2) == len(data.audit) >= 1


def test_what_was_stored_is_there_in_the_next_life(store: TelemetryStore, url: str) -> None:
    store.add(batch("a", record(1)), 10.0)
    again = TelemetryStore(url)
    again.open()
    assert stored(again) == [1.0]
    assert not again.add(batch("a", record(1)), 10.0).news
    again.close()


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/t.sqlite", "nonsense", "nosuchdatabase://host/name"]
)
def test_a_store_that_cannot_be_opened_says_so(url: str) -> None:
    with pytest.raises(StorageError, match="cannot open the store"):
        TelemetryStore(url).open()


def test_a_store_that_is_not_open_says_so(url: str) -> None:
    with pytest.raises(StorageError, match="not open"):
        TelemetryStore(url).add(batch("a"), 1.0)
