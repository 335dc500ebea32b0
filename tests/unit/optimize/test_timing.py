"""Two models are measured in turn, so that what disturbs one disturbs the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloud.optimize.timing import SLICE_S, interleaved


class Machine:
    """A clock that models make go on; from time to time the machine is busy for a while."""

    def __init__(self, disturbed: Callable[[float], float] = lambda now_s: 1.0) -> None:
        self.now_s = 0.0
        self.calls: list[str] = []
        self._disturbed = disturbed

    def clock(self) -> float:
        return self.now_s

    def model(self, name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.calls.append(name)
            self.now_s += seconds * self._disturbed(self.now_s)

        return call


def test_a_ratio_is_what_it_is_and_the_latency_that_of_the_second() -> None:
    machine = Machine()
    one, other = machine.model("one", 0.004), machine.model("other", 0.001)
    pairs = interleaved(one, other, machine.clock, lambda count: count < 15)
    assert pairs.speed == pytest.approx(4.0)
    assert pairs.latency_ms == pytest.approx(1.0)
    assert pairs.count == 15


def test_a_busy_spell_moves_the_latency_and_not_the_ratio() -> None:
    machine = Machine(lambda now_s: 3.0 if now_s > 0.02 else 1.0)
    one, other = machine.model("one", 0.002), machine.model("other", 0.002)
    pairs = interleaved(one, other, machine.clock, lambda count: count < 15)
    assert pairs.speed == pytest.approx(1.0)
    assert pairs.latency_ms == pytest.approx(6.0)


def test_the_order_of_a_pair_changes_every_time() -> None:
    machine = Machine()
    interleaved(
        machine.model("a", 1.0), machine.model("b", 1.0), machine.clock, lambda count: count < 4
    )
    assert "".join(machine.calls[-8:]) == "abbaabba"


def test_a_fast_model_is_called_until_a_slice_is_full() -> None:
    machine = Machine()
    fast, slow = machine.model("f", SLICE_S / 100), machine.model("s", SLICE_S * 2)
    interleaved(fast, slow, machine.clock, lambda count: count < 3)
    assert 3 * 100 <= machine.calls.count("f") <= 5 * 101
    assert machine.calls.count("s") == 3 + 2


def test_there_is_one_pair_at_least_and_another_as_long_as_it_goes_on() -> None:
    machine = Machine()
    slow = machine.model("slow", 10.0)
    assert interleaved(slow, slow, machine.clock, lambda count: False).count == 1
    assert interleaved(slow, slow, machine.clock, lambda count: machine.now_s < 150).count > 1
