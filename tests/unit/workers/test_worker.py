"""Workers of a node have names, files and ports of their own, and worker 0 has the node's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.topics import NAME
from shared.workers.worker import ALONE, MAX_WORKERS, WORKER_NAME, Worker

WORKERS = st.builds(Worker, st.integers(0, MAX_WORKERS), st.integers(1, MAX_WORKERS))


@pytest.mark.parametrize("worker", [ALONE, Worker(0, 4)], ids=str)
def test_worker_0_bears_the_names_of_the_node(worker: Worker) -> None:
    assert worker.leads
    assert worker.name("press-3") == "press-3"
    assert worker.client_suffix == ""
    assert worker.file_name("telemetry.sqlite") == "telemetry.sqlite"
    assert worker.port(9464) == 9464


def test_every_other_worker_has_names_of_its_own() -> None:
    worker = Worker(2, 4)
    assert not worker.leads
    assert worker.name("press-3") == "press-3.w2"
    assert worker.client_suffix == "-w2"
    assert worker.file_name("telemetry.sqlite") == "telemetry-w2.sqlite"
    assert worker.file_name("backlog") == "backlog-w2"
    assert worker.port(9464) == 9466


@given(WORKERS, WORKERS)
def test_no_two_workers_share_a_name(one: Worker, other: Worker) -> None:
    same = one.index == other.index
    assert (one.name("n") == other.name("n")) == same
    assert (one.client_suffix == other.client_suffix) == same
    assert (one.file_name("a.b") == other.file_name("a.b")) == same


@given(WORKERS)
def test_a_name_may_stand_in_a_topic_and_is_known_as_a_workers(worker: Worker) -> None:
    assert NAME.fullmatch(worker.name("press-3"))
    assert bool(WORKER_NAME.fullmatch(worker.name("press-3"))) == (not worker.leads)


def test_a_worker_beyond_the_count_leaves_and_takes_no_port_of_others() -> None:
    assert not Worker(1, 2).leaves
    assert Worker(2, 2).leaves
    assert Worker(2, 2).port(9464) == 0


def test_any_port_stays_any_port() -> None:
    assert Worker(3, 4).port(0) == 0


@given(WORKERS)
def test_a_worker_is_read_as_it_was_written(worker: Worker) -> None:
    assert Worker.parse(str(worker)) == worker


@pytest.mark.parametrize("text", ["", "1", "1/0", "-1/2", "a/b", "1/2/3", "1/99999", "1/2\n"])
def test_what_names_no_worker_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a worker"):
        Worker.parse(text)


@given(st.text(min_size=1), st.integers(1, MAX_WORKERS))
def test_every_sensor_is_exactly_one_workers(sensor: str, count: int) -> None:
    assert sum(Worker(index, count).takes(sensor) for index in range(count)) == 1


def test_a_worker_that_leaves_takes_no_sensor() -> None:
    assert not any(Worker(2, 2).takes(f"cam-{number}") for number in range(1000))


def test_sensors_are_spread_over_the_workers() -> None:
    taken = [sum(Worker(i, 4).takes(f"cam-{n}") for n in range(1000)) for i in range(4)]
    assert min(taken) > 150


@pytest.mark.parametrize(
    ("available", "count", "each"), [(4, 2, 2), (4, 3, 1), (1, 4, 1), (8, 1, 8)]
)
def test_workers_share_the_threads_of_the_node(available: int, count: int, each: int) -> None:
    assert Worker(0, count).threads(available) == each


def test_worker_0_inherits_from_those_that_the_node_no_longer_has() -> None:
    departed = Worker(0, 3).departed
    assert [worker.index for worker in departed] == list(range(3, MAX_WORKERS))
    assert all(worker.leaves for worker in departed)
    assert Worker(1, 3).departed == ()


def test_a_worker_that_leaves_is_called_what_it_was_called_before() -> None:
    # Its session hangs on the one name; on the other hang the ids of samples that come again.
    before, leaving = Worker(2, 3), Worker(2, 1)
    assert leaving.client_suffix == before.client_suffix
    assert leaving.name("press-3") == before.name("press-3")
