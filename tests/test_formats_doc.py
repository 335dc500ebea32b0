"""The examples of docs/formats.md bring the samples that the document says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.testing import assert_array_equal

from shared.config_section import Section
from tests.builders import echo_onnx
from tier1.config import Tier1PipelineConfig
from tier1.formats import Decoded, open_format
from tier1.formats.config import (
    CborConfig,
    JsonConfig,
    MsgpackConfig,
    NpyConfig,
    RawConfig,
    SenmlConfig,
)

DOCUMENT = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
FORMATS = Path(__file__).parents[1] / "tier1" / "formats"
BLOCK = r"```{}\n(.*?)```\s+"
EXAMPLES = re.findall(
    BLOCK.format("yaml") + BLOCK.format("sh") + BLOCK.format("json"), DOCUMENT, re.DOTALL
)
# Takes the place of mosquitto_pub: writes each message into a file of its own.
PUBLISHER = """#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in
    -t) shift ;;
    -m) shift; message=$1 ;;
    -s) from_input=yes ;;
    *) exit 2 ;;
  esac
  shift
done
file=$(mktemp "$MESSAGES/$(ls "$MESSAGES" | wc -l).XXXXXX")
if [ "$from_input" ]; then cat > "$file"; else printf %s "$message" > "$file"; fi
"""


def published(commands: str, folder: Path) -> list[bytes]:
    """Returns what commands publish, in order."""
    programs, messages = folder / "bin", folder / "messages"
    programs.mkdir()
    messages.mkdir()
    (programs / "mosquitto_pub").write_text(PUBLISHER)
    (programs / "mosquitto_pub").chmod(0o755)
    (programs / "python3").symlink_to(sys.executable)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "MESSAGES": str(messages)}
    subprocess.run(["/bin/sh", "-ec", commands], env=environment, check=True)
    return [file.read_bytes() for file in sorted(messages.iterdir())]


def pipeline(text: str, folder: Path) -> Tier1PipelineConfig:
    (folder / "echo.onnx").write_bytes(echo_onnx())
    model = {"path": "echo.onnx", "labels": ["zero", "one"]}
    written = yaml.safe_load(text) | {"model": model}
    return Tier1PipelineConfig.model_validate_json(
        json.dumps(written), context={"folder": folder, "environment": {}}
    )


def told(decoded: Decoded, shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns a message as the document writes it."""
    samples = np.asarray(decoded.rows).reshape(-1, *shape).tolist()
    fields = {"id": decoded.id, "timestamp": decoded.timestamp, "ids": decoded.ids}
    known = {key: value for key, value in fields.items() if value is not None}
    return known | {"samples": samples}


def test_every_block_belongs_to_an_example() -> None:
    assert DOCUMENT.count("```") == 6 * len(EXAMPLES)
    assert EXAMPLES


def test_every_reason_of_a_refusal_is_explained() -> None:
    sources = "".join(path.read_text() for path in FORMATS.glob("*.py"))
    raised = re.findall(r'PayloadError\(\s*"(\w+)"|reason = "(\w+)"', sources)
    table = DOCUMENT[DOCUMENT.index("| reason |") :]
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", table, re.M))))
    batch = {"not_finite"}
    assert {one or other for one, other in raised} | batch == explained


@pytest.mark.parametrize(
    "section", [JsonConfig, CborConfig, MsgpackConfig, NpyConfig, RawConfig, SenmlConfig]
)
def test_every_key_is_explained(section: type[Section]) -> None:
    assert [key for key in section.model_fields if f"`{key}" not in DOCUMENT] == []


@pytest.mark.parametrize(
    ("written", "commands", "expected"), EXAMPLES, ids=[str(n) for n in range(len(EXAMPLES))]
)
def test_an_example_brings_the_samples_that_the_document_says(
    written: str, commands: str, expected: str, tmp_path: Path
) -> None:
    config = pipeline(written, tmp_path)
    format_ = open_format(config.format, config.layout, config.max_payload_bytes)
    messages = [
        told(format_.decode(payload), config.layout.shape)
        for payload in published(commands, tmp_path)
    ]
    wanted = [json.loads(line) for line in expected.splitlines()]
    assert [list(each) for each in messages] == [list(each) for each in wanted]
    for message, want in zip(messages, wanted, strict=True):
        assert_array_equal(message.pop("samples"), want.pop("samples"))
        assert json.loads(json.dumps(message)) == want
