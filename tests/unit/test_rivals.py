"""Another process under our name is told from our own past life and from a forgetful broker."""

from __future__ import annotations

from typing import Literal

import pytest

from shared.messages import NodeState
from shared.rivals import SIGNS_WITHIN_S, Rivals

US, OTHER = "0a1b", "9f8e"


class Eye:
    """What one process sees on its node's retained state."""

    def __init__(self) -> None:
        self.rivals = Rivals(US)
        self.now_s = 1000.0
        self.session = 1

    def sees(
        self,
        state: Literal["online", "offline"],
        instance: str = OTHER,
        *,
        retained: bool = True,
        after_outage: bool = False,
    ) -> bool:
        said = NodeState(node="press-3", role="tier1", state=state, instance=instance)
        self.now_s += 1.0
        return self.rivals.see(
            said, retained=retained, session=self.session, after_outage=after_outage,
            now_s=self.now_s,
        )  # fmt: skip

    def is_born(self) -> None:
        assert not self.sees("online", US, retained=False)

    def comes_back(self, after_s: float = 1.0) -> None:
        self.session += 1
        self.now_s += after_s


@pytest.mark.parametrize("state", ["online", "offline"])
def test_the_state_of_our_last_life_is_no_rival(state: Literal["online", "offline"]) -> None:
    eye = Eye()
    assert not eye.sees(state)
    eye.is_born()


def test_the_will_of_our_last_life_is_none_though_it_comes_late() -> None:
    # The broker finds the old connection dead only when the new one has its name.
    eye = Eye()
    eye.is_born()
    assert not eye.sees("offline", retained=False)


def test_our_own_birth_and_will_are_none() -> None:
    eye = Eye()
    for _ in range(5):
        eye.is_born()
        eye.comes_back()
        assert not eye.sees("offline", US)


def test_a_state_that_says_no_instance_is_none() -> None:
    eye = Eye()
    for _ in range(5):
        assert not eye.sees("online", "")
        eye.comes_back()


def test_a_birth_while_we_are_there_is_a_rival_at_once() -> None:
    eye = Eye()
    eye.is_born()
    assert eye.sees("online", retained=False)


@pytest.mark.parametrize("state", ["online", "offline"])
def test_who_replaced_our_state_twice_while_we_were_away_is_a_rival(
    state: Literal["online", "offline"],
) -> None:
    eye = Eye()
    eye.is_born()
    eye.comes_back()
    assert not eye.sees(state)
    eye.is_born()
    eye.comes_back()
    assert eye.sees(state)


def test_one_connection_gives_one_sign() -> None:
    eye = Eye()
    eye.is_born()
    eye.comes_back()
    assert not eye.sees("online")
    assert not eye.sees("offline", retained=False)


def test_a_broker_that_lost_what_it_kept_gives_no_sign() -> None:
    # It was killed, and brings back what its disk had: the state of a life long before.
    eye = Eye()
    for _ in range(5):
        eye.is_born()
        eye.comes_back()
        assert not eye.sees("online", after_outage=True)


def test_two_signs_that_lie_far_apart_are_none() -> None:
    eye = Eye()
    for _ in range(3):
        eye.is_born()
        eye.comes_back(after_s=SIGNS_WITHIN_S)
        assert not eye.sees("online")


def test_what_is_remembered_is_bounded() -> None:
    eye = Eye()
    for index in range(1000):
        eye.comes_back()
        eye.sees("online", f"{index}")
    assert len(eye.rivals._signs) <= 16
