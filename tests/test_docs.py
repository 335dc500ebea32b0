"""What the documents say is what the code does."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from escalon.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def fenced(language: str) -> list[str]:
    """Returns the README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_readmes_yaml_is_the_example_file() -> None:
    example = yaml.safe_load((ROOT / "configs" / "examples" / "tier1.yaml").read_text())
    assert yaml.safe_load(fenced("yaml")[0]) == example


@pytest.mark.parametrize("name", ["tier1", "tier2", "workers"])
def test_each_example_is_valid_once_its_model_is_there(name: str, tmp_path: Path) -> None:
    for model in ("small.onnx", "full.onnx"):
        (tmp_path / model).write_bytes(b"a model of the user's")
    file = shutil.copy(ROOT / "configs" / "examples" / f"{name}.yaml", tmp_path)
    assert main(["validate", str(file)]) == 0


@pytest.mark.parametrize("file", sorted(path.name for path in ROOT.glob("configs/demo/*.yaml")))
def test_each_demo_configuration_is_valid_in_a_prepared_workspace(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "trust.signed").write_text("made by the demo")
    monkeypatch.setenv("ESCALON_STATE", str(tmp_path))
    assert main(["validate", str(ROOT / "configs" / "demo" / file)]) == 0


def test_every_link_of_a_document_leads_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    missing = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert missing == []


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    decisions = [path.name for path in ROOT.glob("docs/adr/0*.md")]
    assert decisions
    assert [name for name in decisions if name not in index] == []


def test_every_make_target_of_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    text = README + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"\bmake ([a-z]+)\b", text)) & {
        *re.findall(r"^([a-z]+):", makefile, re.MULTILINE),
        "demo",
        "test",
        "setup",
        "lint",
        "types",
        "lock",
    }
    assert {"demo", "test", "setup"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
