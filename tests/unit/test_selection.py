"""What the audit has brought comes first, and every chance is as it is said to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.certificate.sampling import uniform_rows
from cloud.selection import LEAST_UNIFORM, Selection, select
from shared.errors import StorageError
from shared.scores import Flags

AUDIT_SHARE = 0.002


@dataclass(frozen=True)
class Outlined:
    """What was sent."""

    number: NDArray[np.int64]
    chance: NDArray[np.float64]
    audit: Flags
    has_input: Flags
    node: tuple[str, ...]


def drawn(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def traffic(count: int, hard: float, share: float = AUDIT_SHARE, seed: int = 1) -> Outlined:
    """Returns what is sent of so many samples."""
    rng = drawn(seed)
    is_hard, audit = rng.random(count) < hard, rng.random(count) < share
    sent = is_hard | audit
    chance = np.where(is_hard, 1.0, share)[sent]
    n = len(chance)
    return Outlined(np.flatnonzero(sent), chance, audit[sent], np.ones(n, bool), ("a/n",) * n)


def changed(whole: Outlined, **changes: Any) -> Outlined:
    return Outlined(**{**vars(whole), **changes})


def test_where_there_is_room_everything_is_selected_as_it_is() -> None:
    sent = traffic(1000, 0.3)
    found = select(sent, 10_000, drawn())
    assert found.number.tolist() == sent.number.tolist()
    assert found.chance.tolist() == sent.chance.tolist()
    assert found.certifies.all()
    assert found.note == ""


def test_at_a_small_audit_and_many_escalations_there_is_still_enough_to_certify() -> None:
    """Of the newest 50,000 of all reasons, fewer than 100 would be of the audit alone."""
    sent = traffic(500_000, 0.6)
    assert np.count_nonzero(sent.chance[-50_000:] < 1) < 100
    found = select(sent, 50_000, drawn())
    rare = int(np.count_nonzero(sent.chance < 1))
    assert np.count_nonzero(found.chance < 1e-2) == rare > 300
    assert len(found.number) == pytest.approx(50_000, rel=0.02)
    assert found.uniform == pytest.approx(500_000 * AUDIT_SHARE, rel=0.1)


def test_what_gets_in_by_a_share_has_that_share_in_its_chance() -> None:
    """So a uniform sample of the selection is one of the traffic, and weights count for it."""
    sent = traffic(300_000, 0.6)
    shares, total = [], []
    for seed in range(10):
        found = select(sent, 20_000, drawn(seed))
        hard = found.chance > AUDIT_SHARE
        assert len(set(found.chance[hard])) == 1
        total.append((1 / found.chance).sum())
        rows = uniform_rows(found.chance, drawn(100 + seed))
        shares.append(hard[rows].mean())
    assert np.mean(total) == pytest.approx(300_000, rel=0.05)
    assert np.mean(shares) == pytest.approx(0.6, abs=0.03)


def test_of_too_many_audits_the_newest_are_taken_and_nothing_that_is_older() -> None:
    sent = traffic(10_000, 0.5, share=0.5)
    found = select(sent, 1000, drawn())
    rare = sent.number[sent.chance < 1]
    assert found.number[found.chance == 0.5].tolist() == rare[-500:].tolist()
    assert found.number[0] >= rare[-500]
    assert len(found.number) < 1200


@pytest.mark.parametrize("kind", ["withholds", "audits-nothing"])
def test_a_node_of_which_not_all_can_be_seen_teaches_and_does_not_certify(kind: str) -> None:
    sent = traffic(2000, 0.3, share=0.2)
    other = np.arange(len(sent.number)) % 2 == 1
    node = tuple("b/m" if each else "a/n" for each in other)
    changes: dict[str, Any] = {
        "withholds": {"has_input": ~(other & (sent.chance < 1))},
        "audits-nothing": {"audit": sent.audit & ~other},
    }[kind]
    found = select(changed(sent, node=node, **changes), 10_000, drawn())
    is_other = np.isin(found.number, sent.number[other])
    assert (found.certifies == ~is_other).all()
    assert is_other.any()
    assert found.left_out == ("b/m",)
    assert "speaks of 1 of 2 nodes: inputs of b/m stay on their sites" in found.note
    found.check()


def test_where_all_audited_inputs_are_withheld_it_is_refused_and_says_why() -> None:
    sent = traffic(2000, 0.3, share=0.2)
    found = select(changed(sent, has_input=sent.chance == 1), 10_000, drawn())
    with pytest.raises(StorageError, match=r"0 samples with inputs.*stay on their sites"):
        found.check()


@pytest.mark.parametrize("count", [0, LEAST_UNIFORM - 1])
def test_too_few_audits_are_refused_in_words_however_many_others_there_are(count: int) -> None:
    others = np.ones(5000)
    chance = np.concatenate([others, np.full(count, 1e-9)])
    n = len(chance)
    sent = Outlined(np.arange(n), chance, chance < 1, np.ones(n, bool), ("a/n",) * n)
    found: Selection = select(sent, 10_000, drawn())
    with pytest.raises(StorageError, match=f"{LEAST_UNIFORM} are the fewest to certify on"):
        found.check()


def test_of_nothing_nothing_is_selected() -> None:
    found = select(traffic(0, 0.5), 100, drawn())
    assert len(found.number) == 0
    with pytest.raises(StorageError, match="0 samples"):
        found.check()
