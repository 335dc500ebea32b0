"""``escalon validate`` and ``escalon run`` as a user types them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.hierarchy import (
    ROOT,
    TIMEOUT_S,
    BrokerKind,
    Hierarchy,
    Json,
    Node,
    eventually,
    info_topic,
    metric,
)
from tests.integration.models import TIER1_TURN, label, sure

ESCALON = [sys.executable, "-m", "escalon"]


def escalon(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line to its end."""
    return subprocess.run(
        [*ESCALON, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=TIMEOUT_S,
    )


@pytest.fixture(scope="module")
def site(kind: BrokerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hierarchy]:
    """A broker without nodes."""
    with Hierarchy(tmp_path_factory.mktemp("command-line"), kind) as hierarchy:
        yield hierarchy


# validate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good configuration, ``good.yaml``, and what it refers to."""
    (tmp_path / "model.onnx").write_bytes(b"validate does not load it")
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


GOOD = """\
role: tier1
node: edge-1
site: site-a
broker:
  url: mqtt://127.0.0.1:1883
state_dir: state
pipelines:
  meter:
    input: {shape: [4]}
    model:
      path: model.onnx
      labels: [north, east]
"""


def test_validate_of_a_good_file_says_so_and_exits_with_0(folder: Path) -> None:
    result = escalon("validate", folder / "good.yaml")
    assert result.returncode == 0
    assert "good.yaml: ok" in result.stdout
    assert "edge-1" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("state_dir", "state_dri", 6, ["state_dri", "unknown key", "did you mean `state_dir`"]),
        ("[4]", '["4"]', 9, ["pipelines.meter.input.shape", "integer"]),
        ("[4]", "[0]", 9, ["pipelines.meter.input.shape", "greater than or equal to 1"]),
        ("model.onnx", "modle.onnx", 11, ["pipelines.meter.model.path", "modle.onnx"]),
        ("mqtt://", "http://", 5, ["broker.url", "mqtt://host"]),
        ("site: site-a\n", "", 1, ["site", "missing", "add `site:`"]),
        ("role: tier1", "role: tier9", 1, ["role", "tier9", "tier1, tier2, cloud"]),
        ("edge-1", "edge/+", 2, ["node"]),
        ("mqtt://127.0.0.1:1883", "${NOT_SET_ANYWHERE}", 5, ["NOT_SET_ANYWHERE"]),
        ("site: site-a", "site: : a", 3, ["YAML"]),
    ],
    ids=[
        "unknown-key", "wrong-type", "out-of-range", "missing-model", "not-mqtt", "missing-key",
        "unknown-role", "wildcard-in-a-name", "unset-variable", "not-yaml",
    ],
)  # fmt: skip
def test_validate_of_a_bad_file_names_file_line_key_and_fix_and_exits_with_1(
    folder: Path, old: str, new: str, line: int, words: list[str]
) -> None:
    assert old in GOOD
    bad = folder / "bad.yaml"
    bad.write_text(GOOD.replace(old, new))
    result = escalon("validate", bad)
    assert result.returncode == 1
    assert f"{bad}:{line}:" in result.stdout
    assert "Fix:" in result.stdout
    assert [word for word in words if word not in result.stdout] == []
    assert "Traceback" not in result.stdout + result.stderr


def test_validate_of_several_files_looks_at_each_and_exits_with_1_for_one_bad(
    folder: Path,
) -> None:
    (folder / "bad.yaml").write_text(GOOD.replace("role", "rule").replace("site:", "sight:"))
    absent = folder / "absent.yaml"
    result = escalon("validate", folder / "bad.yaml", absent, folder / "good.yaml")
    assert result.returncode == 1
    assert f"{folder / 'bad.yaml'}:1:" in result.stdout
    assert f"{absent}:1:" in result.stdout
    assert f"{folder / 'good.yaml'}: ok" in result.stdout


def test_validate_reports_every_mistake_of_a_file(folder: Path) -> None:
    bad = folder / "bad.yaml"
    bad.write_text(GOOD.replace("site:", "sight:").replace("mqtt:", "http:"))
    result = escalon("validate", bad)
    lines = [line for line in result.stdout.splitlines() if line.startswith(str(bad))]
    assert len(lines) == 3  # an unknown key, a missing one, a wrong address


def test_validate_of_a_file_with_one_mistake_reports_one(folder: Path) -> None:
    bad = folder / "bad.yaml"
    bad.write_text(GOOD.replace("[4]", "[0]"))
    result = escalon("validate", bad)
    assert len(result.stdout.splitlines()) == 1, result.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["validate"], ["fly"], ["run"]], ids=["none", "no-file", "unknown", "no-node"]
)
def test_wrong_command_line_exits_with_2_and_shows_the_usage(arguments: list[str]) -> None:
    result = escalon(*arguments)
    assert result.returncode == 2
    assert "usage: escalon" in result.stderr


# run


@pytest.mark.parametrize("role", ["tier1", "tier2", "cloud"])
def test_node_does_not_run_with_the_configuration_of_another_role(folder: Path, role: str) -> None:
    path = folder / f"{role}.yaml"
    path.write_text(GOOD.replace("tier1", "tier1" if role != "tier1" else "tier2"))
    command = [sys.executable, "-m", role, str(path)]
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT_S
    )
    assert result.returncode == 1
    assert f"{path}:1:" in result.stderr
    assert "Traceback" not in result.stderr


def test_run_of_a_bad_file_says_what_is_wrong_and_exits_with_1(folder: Path) -> None:
    (folder / "bad.yaml").write_text(GOOD.replace("state_dir", "state_dri"))
    result = escalon("run", folder / "bad.yaml")
    assert result.returncode == 1
    assert f"{folder / 'bad.yaml'}:6:" in result.stderr
    assert "Traceback" not in result.stderr


def test_run_with_a_model_that_does_not_load_says_so_and_exits_with_1(folder: Path) -> None:
    result = escalon("run", folder / "good.yaml")
    assert result.returncode == 1
    assert "model.onnx does not load" in result.stderr
    assert "Traceback" not in result.stderr


def escalon_run(hierarchy: Hierarchy, name: str, config: Json) -> Node:
    """Prepares ``escalon run FILE`` of a tier-1 node."""
    base = {"role": "tier1", "node": name, **hierarchy.common(name)}
    pipelines = {"pipelines": {"meter": hierarchy.tier1_pipeline(sensors=[name])}}
    path = hierarchy.write(name, {**base, **pipelines, **config})
    log = hierarchy.folder / f"{name}.log"
    node = hierarchy.nodes[name] = Node(name, [*ESCALON, "run", str(path)], log)
    return node


def assert_answers(hierarchy: Hierarchy, name: str) -> None:
    """The node answers its sensor."""
    with hierarchy.observer() as observer:
        observer.until(lambda: observer.latest(info_topic(name)), f"the info of {name}")
        assert observer.ask(sure(1), sensor=name)["prediction"] == label(1, TIER1_TURN)


def test_run_takes_the_role_from_the_file_and_ends_well_on_sigterm(site: Hierarchy) -> None:
    node = escalon_run(site, "by-file", {})
    site.restart(node)
    assert_answers(site, "by-file")
    assert node.stop() == 0
    assert "Traceback" not in node.log


def await_complaint(node: Node, broker: str) -> None:
    """Waits until a node has said that it does not reach its broker. It says so once a minute."""
    eventually(lambda: "cannot reach" in node.log, "a complaint in the log")
    assert broker in node.log
    assert node.alive


def is_ready(node: Node) -> bool:
    """Whether a node's metrics say that it answers samples."""
    found = re.search(r"metrics at (http://\S+)", node.log)
    assert found is not None
    return metric(found[1], "edge_ready") == 1


def test_run_without_a_broker_keeps_trying_says_so_and_answers_once_there_is_one(
    site: Hierarchy,
) -> None:
    site.broker.stop()
    node = escalon_run(site, "patient", {})
    node.start()
    await_complaint(node, site.broker.url)
    assert not is_ready(node)
    site.start_brokers()
    assert_answers(site, "patient")
    eventually(lambda: is_ready(node), "readiness")
    assert "Traceback" not in node.log


def test_run_without_a_broker_ends_on_sigterm(site: Hierarchy) -> None:
    site.broker.stop()
    try:
        node = escalon_run(site, "impatient", {})
        node.start()
        await_complaint(node, site.broker.url)
        assert node.stop() == 0
    finally:
        site.start_brokers()


def test_run_with_a_host_that_is_none_keeps_trying_and_says_so(site: Hierarchy) -> None:
    # A label of 64 letters: no resolver needs to be asked to know that it is no host.
    host = "x" * 64
    node = escalon_run(site, "lost", {"broker": {"url": f"mqtt://{host}:1883"}})
    node.start()
    await_complaint(node, host)
    assert not is_ready(node)
    assert node.stop() == 0
