"""docs/delivery.md says what is counted, and its broker's settings are those that the tests use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from escalon.demo.broker_programs import MOSQUITTO_CONFIG
from shared.messages import Reason
from tests.integration.test_delivery import SAVES_EACH_CHANGE

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "delivery.md").read_text()
CALLS_WITH_A_REASON = {"PayloadError": 0, "Skipped": 0, "drop": 1, "_skip": 0, "_count": 0}
"""By the function that is called: which argument is the reason of a drop."""


def reasons_in(path: Path) -> Iterator[str]:
    """Yields the reasons of drops that a module's text names."""
    for node in ast.walk(ast.parse(path.read_text())):
        for value in values_of_reasons(node):
            is_prefix = isinstance(value, ast.JoinedStr)
            first = value.values[0] if isinstance(value, ast.JoinedStr) else value
            text = first.value if isinstance(first, ast.Constant) else None
            # Words that a person reads are reasons of another kind; what is behind ``not_`` is a
            # type's name.
            if isinstance(text, str) and re.fullmatch("[a-z_]+", text) and text != "not_":
                yield f"{text}too_large" if is_prefix else text


def values_of_reasons(node: ast.AST) -> list[ast.expr]:
    """Returns the expressions in which a node of the syntax tree gives reasons."""
    if isinstance(node, ast.Assign) and [ast.unparse(each) for each in node.targets] == ["reason"]:
        return [node.value]
    if not isinstance(node, ast.Call):
        return []
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    values = [each.value for each in node.keywords if each.arg == "reason" and name == "labels"]
    if name in CALLS_WITH_A_REASON:
        place = CALLS_WITH_A_REASON[name]
        values += node.args[place : place + 1]
    return values


def documented(heading: str) -> set[str]:
    """Returns what stands in backticks in the first column of the table under a heading."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return set(re.findall(r"`([a-z_]+)`", " ".join(rows)))


def test_every_reason_of_a_drop_is_in_the_document() -> None:
    modules = [
        path for folder in ("tier1", "tier2", "shared") for path in (ROOT / folder).rglob("*.py")
    ]
    found = {reason for path in modules for reason in reasons_in(path)}
    assert len(found) > 40
    assert found - documented("What is counted") == set()


def test_every_reason_of_a_prediction_is_in_the_document() -> None:
    assert set(get_args(Reason)) <= documented("Reasons of a prediction")


def test_the_broker_of_the_tests_has_the_settings_of_the_document() -> None:
    (block,) = re.findall(r"```conf\n(.*?)```", DOCUMENT, re.DOTALL)
    settings = settings_in(block)
    used = settings_in(MOSQUITTO_CONFIG + SAVES_EACH_CHANGE)
    assert len(settings) >= 7
    assert {key: used[key] for key in settings} == settings


def settings_in(text: str) -> dict[str, str]:
    """Returns a Mosquitto configuration by its keys; a later line wins."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)
