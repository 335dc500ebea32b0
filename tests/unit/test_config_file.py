"""What is wrong with a file is said with line, column, key and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config_file import MAX_FILE_BYTES, ConfigFile, ConfigFileError, Issue
from tests.builders import echo_onnx
from tier1.config import Tier1Config
from tier2.config import Tier2Config

NODE = """\
role: tier1
node: tier1-a
site: site-a
broker:
  url: mqtt://127.0.0.1:1883
state_dir: state
pipelines:
  meter:
    input: {shape: [3]}
    model:
      path: echo.onnx
      labels: [zero, one, two]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "echo.onnx").write_bytes(echo_onnx())
    return tmp_path


def write(folder: Path, text: str) -> ConfigFile:
    path = folder / "node.yaml"
    path.write_text(text)
    return ConfigFile(path)


def issues(folder: Path, text: str, environment: dict[str, str] | None = None) -> list[Issue]:
    with pytest.raises(ConfigFileError) as refusal:
        write(folder, text).parse(Tier1Config, environment or {})
    return refusal.value.issues


def only_issue(folder: Path, text: str) -> Issue:
    (issue,) = issues(folder, text)
    return issue


def test_a_sound_file_becomes_a_configuration(folder: Path) -> None:
    file = write(folder, NODE)
    config = file.parse(Tier1Config, {})
    assert file.role == "tier1"
    assert config.node == "tier1-a"
    assert config.state_dir == folder / "state"
    assert config.pipelines["meter"].layout.shape == (3,)


def test_an_unknown_key_names_its_place_and_its_likely_meaning(folder: Path) -> None:
    issue = only_issue(folder, NODE + "    batchign: {max_batch_size: 4}\n")
    assert (issue.line, issue.column) == (13, 5)
    assert issue.key == "pipelines.meter.batchign"
    assert issue.problem == "unknown key"
    assert issue.fix == "did you mean `batching`?"
    assert str(issue).startswith(f"{folder / 'node.yaml'}:13:5: pipelines.meter.batchign: ")


@pytest.mark.parametrize(
    ("extra", "key", "line", "fix"),
    [
        pytest.param("log_levle: info\n", "log_levle", 13, "`log_level`", id="top"),
        pytest.param(
            "metrics: {prot: 1}\n", "metrics.prot", 13, "`port`", id="in-a-section-with-a-default"
        ),
        pytest.param(
            "    releases: {chanel: c, trust: echo.onnx, channel: c}\n",
            "pipelines.meter.releases.chanel",
            13,
            "`channel`",
            id="in-an-optional-section",
        ),
        pytest.param(
            "    escalation:\n      dedline_ms: 5\n",
            "pipelines.meter.escalation.dedline_ms",
            14,
            "`deadline_ms`",
            id="nested-in-a-pipeline",
        ),
    ],
)
def test_a_misspelt_key_is_told_the_right_one_of_its_own_section(
    folder: Path, extra: str, key: str, line: int, fix: str
) -> None:
    issue = only_issue(folder, NODE + extra)
    assert (issue.key, issue.line) == (key, line)
    assert issue.fix == f"did you mean {fix}?"


def test_a_key_like_no_other_is_told_the_known_ones(folder: Path) -> None:
    issue = only_issue(folder, NODE + "metrics: {zzz: 1}\n")
    assert issue.fix == "remove it; known are host, port"


def test_a_wrong_type_shows_what_was_found(folder: Path) -> None:
    issue = only_issue(folder, NODE + "    batching:\n      max_batch_size: 'four'\n")
    assert (issue.line, issue.column) == (14, 7)
    assert "'four'" in issue.problem
    assert "integer" in issue.problem


def test_text_that_looks_like_a_number_is_not_taken_for_one(folder: Path) -> None:
    issue = only_issue(folder, NODE + "    batching: {max_batch_size: '4'}\n")
    assert issue.key == "pipelines.meter.batching.max_batch_size"


def test_a_value_out_of_range_shows_the_range(folder: Path) -> None:
    issue = only_issue(folder, NODE + "    escalation: {audit_share: 1.5}\n")
    assert issue.key == "pipelines.meter.escalation.audit_share"
    assert "less than or equal to 1" in issue.problem
    assert "1.5" in issue.problem


def test_a_place_in_a_list_has_its_own_column(folder: Path) -> None:
    issue = only_issue(folder, NODE + "    sensors: [cam-01, 'cam/02']\n")
    assert (issue.key, issue.line, issue.column) == ("pipelines.meter.sensors.1", 13, 23)


def test_a_missing_key_points_at_the_section_that_lacks_it(folder: Path) -> None:
    issue = only_issue(folder, NODE.replace("  url: mqtt://127.0.0.1:1883\n", "  keepalive_s: 9\n"))
    assert (issue.key, issue.line) == ("broker.url", 4)
    assert issue.problem == "this key is missing"
    assert issue.fix.startswith("add `url:`")


def test_a_missing_model_file_names_its_whole_path(folder: Path) -> None:
    (folder / "echo.onnx").unlink()
    issue = only_issue(folder, NODE)
    assert (issue.key, issue.line) == ("pipelines.meter.model.path", 11)
    assert issue.problem == f"there is no file {folder / 'echo.onnx'}"
    assert "existing file" in issue.fix


def test_a_missing_trust_file_names_the_command_that_makes_one(folder: Path) -> None:
    releases = NODE[: NODE.index("    model:")] + "    releases: {channel: c, trust: keys/t}\n"
    issue = only_issue(folder, releases)
    assert issue.problem == f"there is no file {folder / 'keys' / 't'}"
    assert "`escalon keys init FOLDER`" in issue.fix


def test_a_pipeline_without_a_model_is_told_how_to_get_one(folder: Path) -> None:
    issue = only_issue(folder, NODE[: NODE.index("    model:")])
    assert (issue.key, issue.line) == ("pipelines.meter", 8)
    assert "releases:" in issue.fix


def test_an_unset_variable_is_named_with_the_fix(folder: Path) -> None:
    text = NODE.replace("mqtt://127.0.0.1:1883", "${BROKER}")
    issue = only_issue(folder, text)
    assert (issue.key, issue.line) == ("broker.url", 5)
    assert issue.problem == "the environment variable BROKER is not set"
    assert issue.fix == "set BROKER, or write ${BROKER:-default}"
    assert write(folder, text).parse(Tier1Config, {"BROKER": "mqtt://h"}).broker.host == "h"


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_lines(folder: Path) -> None:
    text = NODE.replace("tier1-a", "tier 1").replace("[3]", "[3, 0]") + "surprise: 1\n"
    found = issues(folder, text)
    assert [issue.line for issue in found] == [2, 9, 13]
    assert [issue.key for issue in found] == ["node", "pipelines.meter.input.shape.1", "surprise"]


def test_a_role_that_is_none_is_told_the_roles(folder: Path) -> None:
    file = write(folder, NODE.replace("role: tier1", "\nrole: tier9"))
    (issue,) = file.wrong_role(("tier1", "tier2")).issues
    assert (issue.line, issue.column, issue.key) == (2, 1, "role")
    assert issue.problem == "'tier9' is not a role"
    assert issue.fix == "write one of tier1, tier2"


def test_another_roles_file_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigFileError) as refusal:
        write(folder, NODE).parse(Tier2Config, {})
    assert "role" in [issue.key for issue in refusal.value.issues]


def test_a_file_without_a_role_is_told_to_have_one(folder: Path) -> None:
    with pytest.raises(ConfigFileError, match="add `role: tier1`"):
        _ = write(folder, "node: a\n").role


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        pytest.param("role: [tier1\n", 2, 1, id="bracket-left-open"),
        pytest.param("role: tier1\n\tnode: a\n", 2, 1, id="tab"),
        pytest.param("role: 'tier1\n", 2, 1, id="quote-left-open"),
        pytest.param("role: tier1\nnode: a: b\n", 2, 8, id="colon-in-a-value"),
        pytest.param("role: !!python/object:os.system x\n", 1, 7, id="python-tag"),
    ],
)
def test_what_is_not_yaml_is_told_where(folder: Path, text: str, line: int, column: int) -> None:
    with pytest.raises(ConfigFileError) as refusal:
        write(folder, text)
    (issue,) = refusal.value.issues
    assert issue.problem.startswith("not YAML: ")
    assert (issue.line, issue.column) == (line, column)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x80\x81\x82", id="not-text"),
        pytest.param(b"role: \xff\n", id="not-utf8"),
        pytest.param(b"role: \x00\n", id="nul"),
        pytest.param(b"[" * 5000, id="nested-without-end"),
    ],
)
def test_bytes_that_are_no_text_are_not_yaml(folder: Path, raw: bytes) -> None:
    path = folder / "node.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigFileError, match="not YAML"):
        ConfigFile(path)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text\n", "4\n", "null\n"])
def test_yaml_that_is_no_mapping_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(ConfigFileError, match="not a mapping of keys"):
        write(folder, text)


def test_a_huge_file_is_refused_unread(folder: Path) -> None:
    with pytest.raises(ConfigFileError, match=f"more than {MAX_FILE_BYTES} bytes"):
        write(folder, "#" * (MAX_FILE_BYTES + 1))


@pytest.mark.parametrize("name", ["gone.yaml", "."])
def test_a_file_that_cannot_be_read_is_an_issue(folder: Path, name: str) -> None:
    with pytest.raises(ConfigFileError, match="give the path of a readable YAML file"):
        ConfigFile(folder / name)


def test_a_key_written_twice_is_refused(folder: Path) -> None:
    # YAML 1.2, section 3.2.1.3: keys are unique. The later one would win without a word.
    with pytest.raises(ConfigFileError, match="node"):
        write(folder, NODE + "node: tier1-b\n").parse(Tier1Config, {})


def test_a_date_where_text_is_due_does_not_break_the_reading(folder: Path) -> None:
    config = write(folder, NODE + "      version: 2026-01-02\n").parse(Tier1Config, {})
    model = config.pipelines["meter"].model
    assert model is not None
    assert model.version == "2026-01-02"


@pytest.mark.parametrize("key", ["[a, b]", "2026-01-02", "1", "null"])
def test_a_key_that_is_no_text_is_an_issue_not_a_crash(folder: Path, key: str) -> None:
    with pytest.raises(ConfigFileError):
        write(folder, NODE + f"? {key}\n: 1\n").parse(Tier1Config, {})


DEMO = sorted((Path(__file__).parents[2] / "configs" / "demo").glob("tier*.yaml"))


@pytest.mark.parametrize("path", DEMO, ids=lambda path: path.name)
def test_the_demos_files_are_sound_once_the_key_is_there(path: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "trust.signed").write_bytes(b"")
    file, environment = ConfigFile(path), {"ESCALON_STATE": str(tmp_path)}
    if file.role == "tier1":
        assert file.parse(Tier1Config, environment).pipelines
    else:
        assert file.parse(Tier2Config, environment).pipelines
