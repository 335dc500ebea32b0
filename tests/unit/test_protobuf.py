"""What is read of a message is what it holds, and whatever is no message is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import ArtefactError
from shared.protobuf import Reader, Value, fields, signed, varints

MANY = 10**6


def read(data: bytes, wanted: set[int] | None = None) -> list[tuple[int, Value]]:
    return list(Reader(MANY).fields(memoryview(data), wanted))


def test_fields_that_stand_twice_are_all_there() -> None:
    assert fields(memoryview(b"\x08\x01\x08\x02"))[1] == [1, 2]


def test_a_number_of_fixed_length_is_passed_over() -> None:
    assert read(b"\x0d1234\x1112345678\x18\x05") == [(3, 5)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\x00", "field number 0", id="no-number"),
        pytest.param(b"\xba\x80\x80\x80\x10\x00", "field number", id="a-number-of-33-bits"),
        pytest.param(b"\xba\x80\x80\x80\x80\x00", "field number", id="a-number-in-six-bytes"),
        pytest.param(b"\x0b", "wire type 3", id="a-group"),
        pytest.param(b"\x0f", "wire type 7", id="a-wire-type-that-is-none"),
        pytest.param(b"\x0d123", "ends within a field", id="ends-within-a-fixed-number"),
        pytest.param(b"\x0a\x04abc", "ends within a field", id="ends-within-a-text"),
        pytest.param(b"\x08\x80", "does not end", id="ends-within-an-integer"),
        pytest.param(b"\x08", "does not end", id="ends-before-an-integer"),
        pytest.param(b"\x08" + b"\x80" * 10 + b"\x01", "does not end", id="eleven-bytes"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ArtefactError, match=reason):
        read(data)


def test_bits_beyond_the_64th_fall_away_as_they_do_in_the_runtime() -> None:
    assert read(b"\x08" + b"\xff" * 9 + b"\x7f") == [(1, 2**64 - 1)]
    assert signed(2**64 - 1) == -1


def test_integers_come_one_by_one_or_many_in_one_field() -> None:
    (_, single), (_, packed) = read(b"\x08\x05\x0a\x03\x01\xac\x02")
    assert [*varints(single)] == [5]
    assert [*varints(packed)] == [1, 300]


def test_a_message_of_too_many_fields_is_left_off() -> None:
    with pytest.raises(ArtefactError, match=re.escape("more than 1,000 fields")):
        list(Reader(1000).fields(memoryview(b"\x08\x01\x10\x01" * 501), {3}))


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(b"\x40\xac\x02", id="integers"),
        pytest.param(b"\x3dabcd", id="floats"),
        pytest.param(b"\x39abcdefgh", id="doubles"),
    ],
)
def test_a_long_run_of_unwanted_numbers_counts_as_one_field(field: bytes) -> None:
    reader = Reader(3)
    assert [*reader.fields(memoryview(field * 100_000 + b"\x08\x07"), {1})] == [(1, 7)]


def outcome(data: bytes, wanted: set[int] | None) -> list[tuple[int, Value]] | None:
    try:
        return read(data, wanted)
    except ArtefactError:
        return None


numbers = st.one_of(
    st.binary(min_size=1, max_size=3),
    st.sampled_from([b"\x08\x01", b"\x08\xff\x01", b"\x10\x01", b"\x15abcd", b"\x0a\x01a"]),
)


@given(st.lists(numbers, max_size=30).map(b"".join), st.sets(st.integers(1, 4)))
@example(b"\x08\x01\x08\x80", {2})
@example(b"\x15abcd\x15abc", {1})
def test_passing_over_runs_changes_nothing_of_what_is_read(data: bytes, wanted: set[int]) -> None:
    every = outcome(data, None)
    expected = None if every is None else [pair for pair in every if pair[0] in wanted]
    assert outcome(data, wanted) == expected
