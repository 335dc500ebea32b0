"""docs/retraining.md says what is watched, with the defaults that hold; its commands are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry

from cloud.rollout.voids import voided
from cloud.watching.config import RetrainConfig
from cloud.watching.finding import Test
from shared.metrics import CloudMetrics
from shared.releases.manifest import Void
from tests.cloud_desk import Desk, Said

DOCUMENT = (Path(__file__).parents[1] / "docs" / "retraining.md").read_text()
EXAMPLES = re.findall(r"```yaml\n# retrain: of .*?\n(.*?)```", DOCUMENT, re.DOTALL)


def test_every_example_says_whose_it_is() -> None:
    assert len(EXAMPLES) == DOCUMENT.count("```yaml") == 2


@pytest.mark.parametrize("text", EXAMPLES, ids=["triggers", "tests"])
def test_every_example_is_valid(text: str) -> None:
    RetrainConfig.model_validate(yaml.safe_load(text)["retrain"])


def test_the_example_of_the_tests_shows_all_of_them_with_their_defaults() -> None:
    shown = yaml.safe_load(EXAMPLES[1])["retrain"]
    defaults = RetrainConfig().model_dump()
    assert shown == {key: defaults[key] for key in shown}
    assert shown["drift"].keys() == defaults["drift"].keys()


def test_between_them_the_examples_name_every_setting() -> None:
    named = {key for text in EXAMPLES for key in yaml.safe_load(text)["retrain"]}
    assert named == RetrainConfig.model_fields.keys()


def test_it_explains_every_test() -> None:
    section = DOCUMENT.split("## What is watched")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(get_args(Test))


def test_its_metrics_are_the_clouds() -> None:
    metrics = CloudMetrics(CollectorRegistry())
    known = {each.name.removesuffix("_total") for each in metrics.registry.collect()}
    named = set(re.findall(r"`(edge_\w+)\{", DOCUMENT))
    assert named
    assert {each.removesuffix("_total") for each in named} <= known


def test_its_command_ends_what_status_says_of_a_void_certificate(
    tmp_path: Path, capsys: Said
) -> None:
    (line,) = re.findall(r"^meter-tier1: version 1 completed: …; (.*)$", DOCUMENT, re.MULTILINE)
    (command,) = re.findall(r"^escalon release (offer .*)$", DOCUMENT, re.MULTILINE)
    desk = Desk(tmp_path, capsys)
    desk.fleet("press-1")
    desk.publish()
    desk.complete()
    reason = line.split("is void: ")[1]
    desk.rollout.write(voided(desk.record, "1", Void(reason=reason, since=1_700_000_000.0)))
    assert line in desk.output("status")
    desk.output(*shlex.split(command))
    assert desk.record.voids == {}
