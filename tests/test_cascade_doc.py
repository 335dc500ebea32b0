"""The examples of docs/cascade.md are valid, and what it says of defaults is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from shared.cascade.config import EscalationConfig
from shared.config import PipelineConfig
from shared.messages import Reason
from tier1.config import Tier1PipelineConfig
from tier2.config import Tier2PipelineConfig

DOCUMENT = (Path(__file__).parents[1] / "docs" / "cascade.md").read_text()
EXAMPLES = re.findall(r"```yaml\n# a pipeline of a (tier-[12]) node\n(.*?)```", DOCUMENT, re.DOTALL)
DEFAULTS = EscalationConfig().model_dump()
KINDS: dict[str, type[PipelineConfig]] = {
    "tier-1": Tier1PipelineConfig,
    "tier-2": Tier2PipelineConfig,
}


def test_every_example_says_whose_it_is() -> None:
    assert len(EXAMPLES) == DOCUMENT.count("```yaml") >= 6


@pytest.mark.parametrize(("role", "text"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_is_a_valid_configuration(role: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "trust.signed").touch()
    whole = {
        "input": {"shape": [3]},
        "releases": {"channel": "meter", "trust": str(tmp_path / "trust.signed")},
        **yaml.safe_load(text),
    }
    KINDS[role].model_validate(whole, strict=False)


def test_the_examples_of_tier1_show_the_defaults() -> None:
    for role, text in EXAMPLES:
        shown = yaml.safe_load(text).get("escalation", {})
        if role == "tier-1" and "budget" not in shown:
            assert shown == {
                key: {each: DEFAULTS[key][each] for each in value}
                if isinstance(value, dict)
                else DEFAULTS[key]
                for key, value in shown.items()
            }


def test_it_explains_every_reason_of_a_fallback() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \| (?!why)", DOCUMENT, re.MULTILINE))
    others = {"confident", "low_confidence", "audit", "invalid_scores"}
    assert explained == set(get_args(Reason)) - others
