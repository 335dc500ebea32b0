"""Progress is heard however it is cut, and nothing that is printed takes more room than it may."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.training.best import Best
from cloud.training.progress import MAX_LINE_BYTES, SAID_EVERY_S, Progress, ProgressLines, Spoken
from shared.errors import ArtefactError

PRINTED = (
    b'hello\n{"stage":"tier2"}\n{"stage":"tier2","epoch":3,"epochs":9,"loss":0.5}\n'
    b'a warning\n{"epoch":4,"epochs":9}\n{"loss": 3}\nno news: {"epoch":5,"epochs":9}\n'
)


@given(st.lists(st.integers(0, len(PRINTED)), max_size=12))
def test_lines_are_heard_wherever_they_are_cut(cuts: list[int]) -> None:
    spoken = Spoken(10**6)
    for start, end in pairwise(sorted({0, *cuts, len(PRINTED)})):
        spoken.add(PRINTED[start:end])
    assert spoken.progress == Progress("tier2", 4, 9)
    assert spoken.tail == b'hello\na warning\n{"loss": 3}\nno news: {"epoch":5,"epochs":9}\n'


def test_only_news_of_progress_is_news() -> None:
    spoken = Spoken(100)
    assert spoken.add(b'{"epoch":1,"epochs":2}\n')
    assert not spoken.add(b'{"epoch":1,"epochs":2}\nand words\n')
    assert spoken.add(b'{"epoch":2,"epochs":2}\n')


@pytest.mark.parametrize("end", [b"\n", b""], ids=["lines", "one-endless-line"])
def test_a_flood_takes_no_more_room_than_it_may(end: bytes) -> None:
    spoken = Spoken(1000)
    for number in range(3000):
        spoken.add(b"%06d" % number + b"x" * 94 + end)
    assert len(spoken.tail) <= 1000
    assert b"002999" in spoken.tail
    spoken.add(b'\n{"epoch":1,"epochs":2}\n')
    assert spoken.progress == Progress("", 1, 2)


@pytest.mark.parametrize(
    "line",
    [
        b'{"epoch":-1,"epochs":2}',
        b'{"epoch":1,"epochs":1e400}',
        b'{"epoch":1,"epochs":9999999999999999}',
        b'{"stage":"\\u001b[31m","epochs":2}',
        b'{"stage":"' + b"x" * 65 + b'"}',
        b'{"epoch":1,"epochs":2' + b" " * MAX_LINE_BYTES + b"}",
        b'{"epoch":"1","epochs":2}',
        b"{" * 2000,
        b'{"\xff":1}',
    ],
)
def test_what_only_looks_like_progress_is_none(line: bytes) -> None:
    spoken = Spoken(100)
    spoken.add(line + b"\n")
    assert spoken.progress == Progress()


@given(st.binary(max_size=300))
def test_any_bytes_are_taken(data: bytes) -> None:
    spoken = Spoken(64)
    spoken.add(data)
    assert len(spoken.tail) <= 64


@pytest.mark.parametrize(
    ("progress", "words", "share"),
    [
        (Progress(), "", 0.0),
        (Progress("tier1"), "tier1", 0.0),
        (Progress("tier1", 12, 48), "tier1, epoch 12/48", 0.25),
        (Progress("", 9, 3), "epoch 9/3", 1.0),
    ],
)
def test_progress_is_said_in_words(progress: Progress, words: str, share: float) -> None:
    assert (str(progress), progress.share) == (words, share)


def test_passes_are_told_now_and_then_and_the_last_one_always() -> None:
    said: list[str] = []
    now_s = 0.0
    lines = ProgressLines(said.append, lambda: now_s)
    lines.stage("tier1")
    for epoch in range(1, 101):
        now_s += SAID_EVERY_S / 10
        lines(epoch, 100, 0.25)
    told = [msgspec.json.decode(line, type=Progress) for line in said]
    assert told[0] == Progress("tier1")
    assert told[-1] == Progress("tier1", 100, 100, 0.25)
    assert 10 <= len(told) <= 13


# Early stop


def test_the_best_pass_is_kept_and_no_more_are_waited_for_than_was_said() -> None:
    best: Best[str] = Best(2)
    goes_on = [best.add(n, loss, str(n)) for n, loss in enumerate([5.0, 3.0, 4.0, 3.0], 1)]
    assert goes_on == [True, True, True, False]
    assert (best.found, best.epoch, best.loss) == ("2", 2, 3.0)


def test_without_patience_the_last_pass_counts() -> None:
    best: Best[str] = Best(0)
    assert all(best.add(n, float(n), str(n)) for n in range(1, 50))
    assert best.found == "49"


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(loss: float) -> None:
    best: Best[str] = Best(2)
    with pytest.raises(ArtefactError, match=r"after epoch 7: .*learning_rate"):
        best.add(7, loss, "broken")
    with pytest.raises(ArtefactError, match="no pass"):
        _ = best.found
