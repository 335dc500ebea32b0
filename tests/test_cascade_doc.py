"""The examples of docs/cascade.md are valid, and what it says of defaults is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry

from shared.cascade.config import EscalationConfig
from shared.certificate import Finding, describe
from shared.config import PipelineConfig
from shared.messages import CertificateState, ModelInfo, Reason, from_json
from shared.metrics import NodeMetrics
from shared.model_spec import Calibration, Certificate, ModelSpec
from shared.releases.evidence import least_total
from tier1.config import Tier1PipelineConfig
from tier1.drift_config import DriftConfig
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
    section = DOCUMENT.split("## A tier-2 that does not answer")[0]
    explained = set(re.findall(r"^\| `(\w+)` \| (?!why)", section, re.MULTILINE))
    others = {"confident", "low_confidence", "audit", "invalid_scores"}
    assert explained == set(get_args(Reason)) - others


def test_the_example_of_drift_shows_the_defaults() -> None:
    (shown,) = [drift for _, text in EXAMPLES if (drift := yaml.safe_load(text).get("drift"))]
    assert shown == DriftConfig().model_dump()


def test_it_explains_every_state_of_a_certificate_and_its_metric() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([01]) \|$", DOCUMENT, re.MULTILINE)
    assert [state for state, _ in rows] == list(get_args(CertificateState))
    assert [state for state, valid in rows if valid == "1"] == ["holds"]


def test_its_metrics_are_those_of_a_node() -> None:
    registry = CollectorRegistry()
    NodeMetrics(registry)
    names = {
        sample for family in registry.collect() for sample in (family.name, family.name + "_total")
    }
    assert set(re.findall(r"`(edge_\w+)`", DOCUMENT)) <= names


def test_the_info_that_it_shows_is_what_a_node_says() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    shown = from_json(text.encode(), ModelInfo)
    assert set(json.loads(text)) == set(ModelInfo.__struct_fields__)
    finding = Finding(shown.threshold, broken=shown.remark, drift_alarms=shown.drift_alarms)
    calibration = Calibration(1.0, 0.8, Certificate(0.02, 0.05, 500, 3, 0.8, 0.0154))
    spec = ModelSpec(shown.model, shown.version, shown.sha256, ("a", "b"), "logits", calibration)
    assert describe(spec, finding, None) == shown


def test_the_least_number_of_answers_that_it_names_is_so() -> None:
    assert f"{least_total(0.02, 0.05)} answers without a disagreement" in " ".join(DOCUMENT.split())
