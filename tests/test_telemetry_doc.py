"""The examples and commands of docs/telemetry.md work, and what it says of defaults is so."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry

from cloud.config import CloudConfig, CloudPipelineConfig, LabellingConfig
from cloud.opening import make_store
from cloud.store import Arrived
from cloud.store.schema import SAMPLES, UNSURE_MARGIN
from cloud.store_config import RetentionConfig, StoreConfig
from escalon.cli import main
from shared.config_file import ConfigFile
from shared.labels import read_label
from shared.messages import Telemetry
from shared.metrics import CloudMetrics
from shared.topics import Topics
from tests.builders import LABELS
from tests.cloud_desk import Desk, Said
from tests.store.desk import NOON_S, scored
from tier2.config import Tier2PipelineConfig, UplinkConfig

DOCUMENT = (Path(__file__).parents[1] / "docs" / "telemetry.md").read_text()
EXAMPLES = re.findall(r"```yaml\n# (.*?)\n(.*?)```", DOCUMENT, re.DOTALL)


def section(title: str) -> str:
    return DOCUMENT.split(f"## {title}")[1].split("\n## ")[0]


def config_of(folder: Path, changes: dict[str, Any]) -> CloudConfig:
    (folder / "trust.signed").touch()
    whole: dict[str, Any] = {
        "role": "cloud", "node": "cloud", "site": "cloud", "state_dir": "state",
        "broker": {"url": "mqtt://127.0.0.1:1"},
        "pipelines": {"meter": {
            "input": {"shape": [3]}, "labels": list(LABELS),
            "tier1_channel": "m1", "tier2_channel": "m2",
        }},
    }  # fmt: skip
    if "duty" not in changes:
        whole |= {"signing_key": "release.key", "trust": "trust.signed"}
    (folder / "cloud.yaml").write_text(yaml.safe_dump(whole | changes))
    return ConfigFile(folder / "cloud.yaml").parse(CloudConfig, {"PASSWORD": "secret"})


@pytest.mark.parametrize(("whose", "text"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_is_a_valid_configuration(whose: str, text: str, tmp_path: Path) -> None:
    shown = yaml.safe_load(text)
    if whose.startswith("a cloud"):
        config_of(tmp_path, shown)
        return
    kinds = {"a pipeline of a cloud": CloudPipelineConfig}
    if whose in kinds:
        labelling = LabellingConfig.model_validate(shown["labelling"])
        assert labelling == LabellingConfig()
        return
    assert whose == "a pipeline of a tier-2 node"
    UplinkConfig.model_validate(shown["uplink"])


def test_every_example_says_whose_it_is() -> None:
    assert len(EXAMPLES) == DOCUMENT.count("```yaml") == 6


def test_the_retention_that_it_shows_is_the_default() -> None:
    (text,) = (text for _, text in EXAMPLES if "retention" in text)
    shown = StoreConfig.model_validate(yaml.safe_load(text)["store"], strict=False)
    assert shown.retention == RetentionConfig()
    assert set(yaml.safe_load(text)["store"]["retention"]) == set(RetentionConfig.model_fields)


def test_it_names_what_is_kept_and_what_is_counted() -> None:
    table = section("What is kept of a sample").split("**Weights.**")[0]
    named = set(re.findall(r"`(\w+)`", table))
    kept = {
        "id", "site", "node", "sensor", "timestamp", "tier1_version", "tier2_version",
        "tier1_scores", "tier2_scores", "reason", "audit", "inclusion_probability", "label",
    }  # fmt: skip
    assert kept <= named
    assert kept <= {column.name for column in SAMPLES.c}
    registry = CollectorRegistry()
    CloudMetrics(registry)
    metrics = {sample.name for each in registry.collect() for sample in each.samples}
    metrics |= {f"{each.name}_total" for each in registry.collect()} | {
        each.name for each in registry.collect()
    }
    shown = set(re.findall(r"`(edge_\w+)", section("What is counted")))
    assert shown <= metrics


def test_it_explains_what_each_setting_of_the_uplink_leaves_to_the_cloud() -> None:
    field = Tier2PipelineConfig.model_fields["uplink"].annotation
    assert field is UplinkConfig
    choices = get_args(UplinkConfig.model_fields["inputs"].annotation)
    rows = re.findall(r"^\| `(\w+)` \|", section("What stays on the site"), re.MULTILINE)
    assert rows == list(choices)
    assert f"below {UNSURE_MARGIN}" in DOCUMENT


def test_the_label_that_it_publishes_is_one_on_the_topic_of_labels() -> None:
    (line,) = re.findall(r"^mosquitto_pub .*$", DOCUMENT, re.MULTILINE)
    words = shlex.split(line)
    topic, payload = words[words.index("-t") + 1], words[words.index("-m") + 1]
    assert topic == Topics("escalon", "plant").labels("meter", "cam-1")
    label = read_label(payload.encode(), "meter", "cam-1", NOON_S)
    assert (label.id, label.label, label.by) == ("17", "ok", "ada")


def test_its_commands_do_what_they_say(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, capsys)
    store = make_store(ConfigFile(desk.config).parse(CloudConfig, {}))
    store.open()
    records = (scored(1, [0.5, 0.1, 0.4]), scored(2, [0.0, 0.51, 0.49]))
    store.add([Arrived("plant", Telemetry(1, "hub", "b", records, ()))], NOON_S)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```sh\n(export ESCALON_CLOUD.*?)```", DOCUMENT, re.DOTALL)
    first, *commands = block.splitlines()
    monkeypatch.setenv("ESCALON_CLOUD", shlex.split(first, comments=True)[1].partition("=")[2])
    for line in commands:
        words = shlex.split(line, comments=True)
        if "import" in words:
            fill_in(tmp_path / "today.csv")
        assert main(words[1:]) == 0, capsys.readouterr().err
    (tmp_path / "today.npz").stat()
    assert [each.label for each in store.labels("meter")] == ["one", "one"]
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 3
    store.close()


def fill_in(path: Path) -> None:
    """Does what a person does with the queue."""
    rows = list(csv.DictReader(path.read_text().splitlines()))
    with path.open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "label": "one"} for row in rows)
