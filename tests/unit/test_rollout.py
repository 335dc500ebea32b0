"""Who takes part in a rollout: decided by salt and name alone, alike on every node."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messages import from_json, to_json
from shared.releases.rollout import MAX_NAMED_NODES, PLACES, Rollout, place, qualified, takes_part

SOUND = Rollout(id="meter-7", salt="r7-salt", share=0.25, nodes=("plant-a/press-3",))
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("site", "node", "first_bytes"),
    [
        ("plant-a", "press-3", 0x3FA6767F9AE65BB2),
        ("plant-a", "press-4", 0xD867DE927E04A318),
        ("north", "line-7", 0x94F8A72FD2F27AF1),
    ],
)
def test_a_place_is_what_sha256sum_says(site: str, node: str, first_bytes: int) -> None:
    # printf 'escalon rollout v1\0r7-salt\0plant-a/press-3' | sha256sum | head -c 16
    assert place("r7-salt", site, node) == first_bytes


@pytest.mark.parametrize(("share", "expected"), [(0.248, False), (0.249, True)])
def test_a_node_takes_part_from_the_share_that_its_place_says(share: float, expected: bool) -> None:
    # 0x3FA6... / 2**64 = 0.24863...
    rollout = Rollout(id="meter-7", salt="r7-salt", share=share)
    assert takes_part(rollout, "plant-a", "press-3") is expected


@given(NAMES, NAMES, NAMES, st.floats(0, 1), st.floats(0, 1))
def test_a_share_that_grows_takes_nobody_out(
    salt: str, site: str, node: str, share: float, other: float
) -> None:
    less, more = (Rollout(id="r", salt=salt, share=each) for each in sorted((share, other)))
    assert takes_part(less, site, node) <= takes_part(more, site, node)


@given(NAMES, NAMES, NAMES)
def test_nobody_takes_part_in_a_share_of_0_and_everybody_in_1(
    salt: str, site: str, node: str
) -> None:
    assert not takes_part(Rollout(id="r", salt=salt, share=0.0), site, node)
    assert takes_part(Rollout(id="r", salt=salt, share=1.0), site, node)


def test_the_very_last_place_takes_part_in_a_share_of_1(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a float, this place over 2**64 would be 1.0.
    monkeypatch.setattr("shared.releases.rollout.place", lambda *_: PLACES - 1)
    assert takes_part(Rollout(id="r", salt="s", share=1.0), "site", "node")
    assert not takes_part(Rollout(id="r", salt="s", share=1 - 2**-53), "site", "node")


@given(NAMES, NAMES, NAMES)
def test_a_named_node_takes_part_whatever_the_share(salt: str, site: str, node: str) -> None:
    rollout = Rollout(id="r", salt=salt, share=0.0, nodes=(qualified(site, node),))
    assert takes_part(rollout, site, node)
    assert not takes_part(rollout, site, f"{node}-2")


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("salt", ["a", "b", "c"])
def test_a_share_is_the_share_of_a_large_fleet(salt: str, share: float) -> None:
    rollout = Rollout(id="r", salt=salt, share=share)
    taking = sum(takes_part(rollout, "plant", f"node-{i}") for i in range(20_000))
    assert taking / 20_000 == pytest.approx(share, abs=0.015)  # more than four deviations


def test_another_salt_draws_other_nodes() -> None:
    drawn = [
        {i for i in range(1000) if takes_part(Rollout(id="r", salt=salt, share=0.05), "p", f"n{i}")}
        for salt in ("a", "b")
    ]
    assert len(drawn[0] & drawn[1]) < 20 < min(map(len, drawn))


def test_a_sound_one_has_no_problems_and_is_read_back_whole() -> None:
    assert SOUND.problems() == []
    assert from_json(to_json(SOUND), Rollout) == SOUND


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"id": ""}, "id '' is not a name", id="no-id"),
        pytest.param({"id": "a/b"}, "id 'a/b' is not a name", id="id-with-a-slash"),
        pytest.param({"salt": "a\0b"}, "is not a name", id="salt-with-nul"),
        pytest.param({"share": -0.1}, "share -0.1 is not within 0 to 1", id="negative-share"),
        pytest.param({"share": 1.5}, "share 1.5 is not within 0 to 1", id="large-share"),
        pytest.param({"share": float("nan")}, "share nan is not within", id="nan"),
        pytest.param({"nodes": ("press-3",)}, "'press-3', which is not site/node", id="no-site"),
        pytest.param({"nodes": ("a/b/c",)}, "'a/b/c', which is not", id="three-levels"),
        pytest.param({"nodes": ("a/+",)}, "'a/+', which is not", id="wildcard"),
        pytest.param(
            {"nodes": tuple(f"a/n{i}" for i in range(MAX_NAMED_NODES + 1))},
            "names 257 nodes, 256 are the most",
            id="too-many",
        ),
    ],
)
def test_a_problem_is_named(changes: dict[str, Any], problem: str) -> None:
    (told,) = msgspec.structs.replace(SOUND, **changes).problems()
    assert problem in told
