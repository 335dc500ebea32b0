"""docs/probation.md says what is watched, with the limits that hold."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from shared.config import ReleasesConfig
from shared.probation_config import ProbationConfig
from shared.releases.criteria import CRITERIA

DOCUMENT = (Path(__file__).parents[1] / "docs" / "probation.md").read_text()


def table(title: str) -> dict[str, str]:
    """Returns the second column of a section's table by what is in the first."""
    section = DOCUMENT.split(f"## {title}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))


def test_it_lists_every_criterion() -> None:
    assert table("What is watched").keys() == CRITERIA.keys()


def test_it_lists_every_limit_with_its_default() -> None:
    limits = ProbationConfig().model_dump()
    assert {key: float(value) for key, value in table("Limits").items()} == limits


def test_its_example_is_valid(tmp_path: Path) -> None:
    (tmp_path / "trust.signed").touch()
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    config = ReleasesConfig.model_validate(
        yaml.safe_load(example)["releases"], context={"folder": tmp_path}, strict=False
    )
    assert config.probation.latency_factor == 2
