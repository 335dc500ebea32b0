"""The examples of docs/routes.md do what the document says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter

from shared.messages import Prediction, from_json
from tier1.routes import Routes
from tier1.routes_config import RouteConfig
from tier1.templates import NAMES

DOCUMENT = (Path(__file__).parents[1] / "docs" / "routes.md").read_text()
BLOCK = r"```{}\n(.*?)```\s+"
EXAMPLES = re.findall(
    BLOCK.format("yaml") + BLOCK.format("json") + BLOCK.format("mqtt"), DOCUMENT, re.DOTALL
)


def test_every_block_belongs_to_an_example() -> None:
    assert DOCUMENT.count("```") == 6 * len(EXAMPLES)
    assert EXAMPLES


@pytest.mark.parametrize(("written", "prediction", "messages"), EXAMPLES)
def test_an_example_sets_off_what_the_document_says(
    written: str, prediction: str, messages: str
) -> None:
    configs = [
        RouteConfig.model_validate_json(json.dumps(route))
        for route in yaml.safe_load(written)["routes"]
    ]
    routes = Routes("quality", configs, Counter("drops", "", ["reason"], registry=None))
    actions = routes.actions(from_json(prediction.encode(), Prediction))
    said = [f"{action.topic} {action.payload.decode()}" for action in actions]
    assert said == messages.splitlines()


def test_the_document_lists_every_name() -> None:
    assert " ".join(f"${name}" for name in NAMES) in " ".join(DOCUMENT.split())
