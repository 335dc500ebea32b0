"""What docs/rollouts.md says of defaults, phases, commands and places is what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from cloud.config import CloudPipelineConfig
from cloud.fleet_view import MAX_NODES, MAX_VIEW_BYTES, UNHEARD_S
from cloud.handmade import MAX_GOLDEN
from cloud.rollout.phases import COMMANDS, TRANSITIONS, Phase, diagram
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import Offer, RolloutRecord
from escalon.cli import main
from escalon.release.arguments import ACTIONS
from shared.releases.machine import ENDS
from shared.releases.rollout import DOMAIN, MAX_NAMED_NODES, PLACES, place
from tests.builders import diagonal_onnx
from tests.cloud_desk import Desk

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


def test_its_commands_do_what_they_say_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, capsys)
    desk.fleet("press-1", "press-2", "press-3")
    desk.file("int8.onnx", diagonal_onnx(2.0))
    np.savez(tmp_path / "golden.npz", inputs=4 * np.eye(3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESCALON_CLOUD", "cloud.yaml")
    (text,) = re.findall(r"in their order -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    commands = [shlex.split(line, comments=True) for line in text.splitlines()]
    assert {command[2] for command in commands[1:]} == {
        *ACTIONS, "publish", "offer", "status", "list", "show", "diff",
    }  # fmt: skip
    for command in commands[1:]:
        if command[2:4] == ["publish", "int8.onnx"]:
            desk.complete()  # it stands for hours of waves
        expected = 3 if command[2] == "status" else 0
        assert main(command[1:]) == expected, (command, capsys.readouterr().err)
    assert (desk.record.phase, desk.record.version) == (Phase.RUNNING, "2")


def test_its_plan_of_a_pipeline_is_accepted_and_its_bounds_are_the_codes() -> None:
    (text,) = re.findall(r"```yaml\n(pipelines:.*?)```", DOCUMENT, re.DOTALL)
    shown = yaml.safe_load(text)["pipelines"]["meter"]
    plan = RolloutPlan.model_validate(shown["rollout"], strict=False)
    assert (len(plan.waves), plan.deadline_s) == (2, 7200)
    assert set(shown) <= set(CloudPipelineConfig.model_fields)
    assert f"{MAX_NODES:,} nodes" in DOCUMENT
    assert f"{MAX_VIEW_BYTES // 2**20} MiB of all of them" in DOCUMENT
    assert UNHEARD_S == 5 * 60
    assert "is gone five minutes later" in DOCUMENT
    assert f"at most {MAX_GOLDEN};" in DOCUMENT
