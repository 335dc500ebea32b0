"""The import rule of the design, and what a tier node has to install."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_ON_A_TIER_NODE = (
    "onnx",
    "sklearn",
    "scipy",
    "sqlalchemy",
    "matplotlib",
    "rich",
    "amqtt",
    "torch",
)


def test_the_contracts_on_imports_hold() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    told = subprocess.run(
        [command, "--config", "pyproject.toml", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert "0 broken" in told.stdout


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", each, maxsplit=1)[0].lower() for each in requirements}


def test_a_tier_node_installs_neither_scikit_learn_nor_onnx() -> None:
    base = names(PROJECT["dependencies"])
    assert {"paho-mqtt", "onnxruntime", "numpy", "cryptography", "msgspec"} <= base
    assert not base & {"scikit-learn", *NOT_ON_A_TIER_NODE}
    assert {"scikit-learn", "onnx"} <= names(PROJECT["optional-dependencies"]["cloud"])


@pytest.mark.parametrize("role", ["tier1", "tier2"])
def test_a_tier_nodes_process_loads_nothing_of_the_clouds(role: str) -> None:
    program = f"import sys, {role}.__main__; print(*sorted(sys.modules))"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in told.stdout.split()}
    assert "onnxruntime" in loaded
    assert not loaded & {*NOT_ON_A_TIER_NODE, "cloud", "escalon"}


def test_the_installed_project_is_the_one_that_is_tested() -> None:
    assert importlib.metadata.version("escalon") == PROJECT["version"]
