"""What docs/rollouts.md says of defaults, phases, commands and places is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from cloud.rollout.phases import COMMANDS, TRANSITIONS, Phase, diagram
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import Offer, RolloutRecord
from shared.releases.machine import ENDS
from shared.releases.rollout import DOMAIN, MAX_NAMED_NODES, PLACES, place

DOCUMENT = (Path(__file__).parents[1] / "docs" / "rollouts.md").read_text()


def test_its_plan_is_the_default() -> None:
    (text,) = re.findall(r"```yaml\n# a plan, as it is by default\n(.*?)```", DOCUMENT, re.DOTALL)
    shown = RolloutPlan.model_validate(yaml.safe_load(text), strict=False)
    assert shown == RolloutPlan()
    assert set(yaml.safe_load(text)) == set(RolloutPlan.model_fields)


def test_its_diagram_is_the_table() -> None:
    (shown,) = re.findall(r"```mermaid\n(.*?)```", DOCUMENT, re.DOTALL)
    assert shown == diagram() + "\n", f"put this between the marks:\n{diagram()}"


def test_it_explains_every_command_and_whether_it_needs_a_manifest() -> None:
    rows = dict(re.findall(r"^\| `([a-z ]+)` \|.*\| ([a-z ]+) \|$", DOCUMENT, re.MULTILINE))
    assert list(rows) == ["pause", "resume", "promote", "halt", "roll back"]
    assert set(rows) == {command.value for command in COMMANDS}
    for command in COMMANDS:
        changes = [
            _offer(now) != _offer(then) for (now, by), then in TRANSITIONS.items() if by is command
        ]
        if rows[command.value] in ("yes", "no") and command.value != "promote":
            assert all(changes) if rows[command.value] == "yes" else not any(changes)


def _offer(phase: Phase) -> Offer:
    record = RolloutRecord(id="r", channel="c", salt="s", share=0.5, canaries=(), phase=phase)
    return record.offer


def test_it_says_of_every_end_what_it_counts_as() -> None:
    table = DOCUMENT.split("## What counts")[1].split("Successes and failures")[0]
    assert {end.value for end in ENDS} <= set(re.findall(r"[A-Z_]{5,}", table))


def test_its_formula_and_example_are_those_of_the_code() -> None:
    assert f'"{DOMAIN[:-1].decode()}" NUL salt NUL "site/node"' in DOCUMENT
    assert f"up to {MAX_NAMED_NODES} named" in DOCUMENT
    salt, site, node, digest, share = re.findall(
        r"v1\\0(\S+)\\0(\S+)/(\S+)' \| sha256sum .*# (\w{16}): from a share of ([\d.]+) on",
        DOCUMENT,
    )[0]
    here = place(salt, site, node)
    assert f"{here:016x}" == digest
    assert 0 < float(share) - here / PLACES < 1e-4
