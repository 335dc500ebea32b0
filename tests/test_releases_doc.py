"""What docs/releases.md says of keys, states and manifests is what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from escalon.cli import main
from escalon.keys.folder import KeyFolder
from shared.releases.keys import key_id_of
from shared.releases.machine import ENDS, UNDER_WAY, diagram
from shared.releases.manifest import MAX_MANIFEST_BYTES, Manifest
from shared.releases.release import MAX_VARIANTS

DOCUMENT = (Path(__file__).parents[1] / "docs" / "releases.md").read_text()


def test_its_diagram_is_the_table() -> None:
    (shown,) = re.findall(r"```mermaid\n(.*?)```", DOCUMENT, re.DOTALL)
    assert shown == diagram() + "\n", f"put this between the marks:\n{diagram()}"


def test_it_explains_every_state_and_every_end() -> None:
    explained = re.findall(r"^\| ([A-Z_]+) \|", DOCUMENT, re.MULTILINE)
    ends = {end.value for end in ENDS} - {"COMMITTED"}
    assert explained == [
        *(state.value for state in UNDER_WAY),
        "COMMITTED",
        *explained[-len(ends) :],
    ]
    assert set(explained[-len(ends) :]) == ends


def test_it_names_every_field_of_a_manifest() -> None:
    table = DOCUMENT.split("| field |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert named == set(Manifest.__struct_fields__) - {"schema_version"}
    assert f"{MAX_MANIFEST_BYTES // 2**10} KiB" in DOCUMENT
    assert {4: "four"}[MAX_VARIANTS] in table


def test_its_commands_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```sh\n(escalon keys.*?)```", DOCUMENT, re.DOTALL)
    folder = KeyFolder(tmp_path / "keys")
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if "revoke" in words:  # the id in the document is an example
            words[-1] = key_id_of(folder.trust().releases.keys[0])[:4]
        assert main(words[1:]) == 0
    assert (folder.trust().version, folder.trust().key_epoch) == (3, 2)


def test_its_configurations_are_valid_once_the_keys_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["keys", "init", "keys"]) == 0
    configurations = re.findall(r"```yaml\n(role: .*?)```", DOCUMENT, re.DOTALL)
    assert len(configurations) == 3
    for text in configurations:
        Path("node.yaml").write_text(text)
        assert main(["validate", "node.yaml"]) == 0
