"""An interrupt while a process is being started loses neither."""

from __future__ import annotations

import os
import signal

import pytest

from escalon.demo.interrupts import INTERRUPTS, deferred_interrupts


@pytest.mark.parametrize("number", INTERRUPTS)
def test_an_interrupt_comes_after_the_block_and_the_block_is_done(number: int) -> None:
    done = False
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():
        os.kill(os.getpid(), number)
        done = True
    assert done


def test_the_handlers_are_as_they_were() -> None:
    before = [signal.getsignal(number) for number in INTERRUPTS]
    with deferred_interrupts():
        assert [signal.getsignal(number) for number in INTERRUPTS] != before
    assert [signal.getsignal(number) for number in INTERRUPTS] == before
