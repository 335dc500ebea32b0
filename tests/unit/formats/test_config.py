"""What stands under ``format:`` in the YAML, and what is said of it where it is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.config_file import ConfigFile, ConfigFileError, Issue
from tests.builders import echo_onnx
from tier1.config import Tier1Config
from tier1.formats import FormatConfig
from tier1.formats.config import (
    CborConfig,
    JsonConfig,
    MsgpackConfig,
    NpyConfig,
    RawConfig,
    SenmlConfig,
)

CONFIG: TypeAdapter[Any] = TypeAdapter(FormatConfig)
NODE = """\
role: tier1
node: tier1-a
site: site-a
broker: {url: mqtt://127.0.0.1}
state_dir: state
pipelines:
  meter:
    input: {shape: [3]}
    model: {path: echo.onnx, labels: [zero, one, two]}
    format: """


def parsed(folder: Path, text: str) -> Any:
    (folder / "echo.onnx").write_bytes(echo_onnx())
    file = folder / "node.yaml"
    file.write_text(NODE + text + "\n")
    return ConfigFile(file).parse(Tier1Config, {}).pipelines["meter"].format


def issue(folder: Path, text: str) -> Issue:
    with pytest.raises(ConfigFileError) as refused:
        parsed(folder, text)
    (only,) = refused.value.issues
    return only


@pytest.mark.parametrize(
    ("text", "section"),
    [
        ("{}", JsonConfig()),
        ("{kind: json}", JsonConfig()),
        ("{features: data.values}", JsonConfig(features="data.values")),
        ("{features: [a, motor.rpm, c]}", JsonConfig(features=("a", "motor.rpm", "c"))),
        ("{id: null, timestamp: meta.at}", JsonConfig(id=None, timestamp="meta.at")),
        ("{kind: msgpack, dtype: int16}", MsgpackConfig(kind="msgpack", dtype="int16")),
        ("{kind: npy}", NpyConfig(kind="npy")),
        ("{kind: raw, dtype: float64}", RawConfig(kind="raw", dtype="float64")),
        ("{kind: senml, names: [a, b, c]}", SenmlConfig(kind="senml", names=("a", "b", "c"))),
    ],
)  # fmt: skip
def test_the_yaml_says_which_format_it_is(tmp_path: Path, text: str, section: Any) -> None:
    assert parsed(tmp_path, text) == section


def test_a_pack_has_a_limit_and_maybe_ids(tmp_path: Path) -> None:
    config = parsed(tmp_path, "{kind: cbor, pack: {max_samples: 32, ids: meta.ids}}")
    assert isinstance(config, CborConfig)
    assert config.pack is not None
    assert (config.pack.max_samples, config.pack.ids) == (32, "meta.ids")
    assert parsed(tmp_path, "{kind: raw, pack: {max_samples: 32}}").pack.max_samples == 32
    assert parsed(tmp_path, "{kind: senml}").pack is None


@pytest.mark.parametrize(
    ("text", "key", "column", "told"),
    [
        ("{kind: xml}", "", 5, ("there is no kind 'xml'", "cbor, json, msgpack, npy, raw, senml")),
        ("json", "", 5, ("object", "a section with `kind:` cbor, json")),
        ("{kind: cbor, featurs: a}", ".featurs", 26, ("unknown key", "did you mean `features`?")),
        ("{kind: raw, features: a}", ".features", 25, ("unknown key", "known are dtype, kind")),
        ("{kind: raw, dtype: float12}", ".dtype", 25, ("found 'float12'", "one of float16")),
        ("{features: 5}", ".features", 14, ("not a place of features", "[temp, motor.rpm]")),
        ("{features: []}", ".features", 14, ("not a place of features", "[temp, motor.rpm]")),
        ("{features: {}}", ".features", 14, ("not a place of features", "[temp, motor.rpm]")),
        ("{features: [a, 3]}", ".features", 14, ("not a place of features", "[temp, motor.rpm]")),
        ("{features: [a, a.b]}", "", 5, ("a and a.b cannot both be read", "its own path")),
        ("{features: [a, a]}", "", 5, ("a and a cannot both be read", "its own path")),
        ("{features: id.x}", "", 5, ("id and id.x cannot both be read", "`null` to an id")),
        ("{pack: {max_samples: 2, ids: id}}", "", 5, ("id and id cannot both be read", "its own")),
        ("{id: a..b}", ".id", 14, ("not a path of fields", "motor.rpm")),
        ("{id: ''}", ".id", 14, ("not a path of fields", "motor.rpm")),
        ("{id: 'a\"b'}", ".id", 14, ("not a path of fields", "without quotes")),
        ("{pack: {}}", ".pack.max_samples", 14, ("this key is missing", "at least 1")),
        ("{pack: {max_samples: 0}}", ".pack.max_samples", 21, ("greater than", "at least 1")),
        ("{kind: npy, pack: {max_samples: 2, ids: a}}", ".pack.ids", 48, ("unknown key", "remove")),
        ("{kind: senml, pack: {max_samples: 2}}", ".pack", 27, ("one sample", "remove `pack:`")),
        ("{kind: senml, names: []}", ".names", 27, ("at least 1 item", "write")),
    ],
)  # fmt: skip
def test_an_error_names_the_place_the_problem_and_the_fix(
    tmp_path: Path, text: str, key: str, column: int, told: tuple[str, str]
) -> None:
    found = issue(tmp_path, text)
    assert found.key == f"pipelines.meter.format{key}"
    assert (found.line, found.column) == (10, column)
    assert told[0] in found.problem
    assert told[1] in found.fix


def test_a_long_list_of_names_is_checked_at_once() -> None:
    names = [f"channel.{index}" for index in range(20_000)]
    config = CONFIG.validate_python({"features": names})
    assert len(config.features) == len(names)
    with pytest.raises(ValidationError, match="cannot both be read"):
        CONFIG.validate_python({"features": [*names, "channel.7"]})


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("{features: [a, b]}", "2 paths of single numbers", "one path for each number"),
        ("{features: {image: i}}", "the inputs are one without a name", "a single path"),
        ("{kind: senml, names: [a]}", "1 names, but the input takes 3", "one record for each"),
        ("{kind: cbor}", "cbor2, which is not installed", "pip install 'escalon[cbor]'"),
    ],
)
def test_a_format_that_cannot_serve_is_refused_with_the_file(
    text: str, problem: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    found = issue(tmp_path, text)
    assert found.key == "pipelines.meter"
    assert found.problem.startswith("format: ")
    assert problem in found.problem
    assert fix in found.fix
