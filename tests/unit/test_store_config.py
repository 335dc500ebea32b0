"""Where the store lies, what leaves it, and who needs keys is read from the YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud.config import CloudConfig
from cloud.store_config import DAY_S
from shared.config_file import ConfigFile, ConfigFileError
from shared.errors import ConfigError

DATABASE = "postgresql://escalon:secret@db/escalon"


def parse(folder: Path, environment: dict[str, str] | None = None, **changes: Any) -> CloudConfig:
    (folder / "trust.signed").write_bytes(b"trust")
    whole: dict[str, Any] = {
        "role": "cloud", "node": "cloud", "site": "cloud", "state_dir": "state",
        "broker": {"url": "mqtt://127.0.0.1:1"}, "signing_key": "key", "trust": "trust.signed",
        "pipelines": {"meter": {
            "input": {"shape": [3]}, "labels": ["a", "b"],
            "tier1_channel": "m1", "tier2_channel": "m2",
        }},
        **changes,
    }  # fmt: skip
    kept = {key: value for key, value in whole.items() if value is not None}
    (folder / "cloud.yaml").write_text(yaml.safe_dump(kept))
    return ConfigFile(folder / "cloud.yaml").parse(CloudConfig, environment or {})


def test_by_default_all_is_in_the_state_folder(tmp_path: Path) -> None:
    store = parse(tmp_path).store
    state = tmp_path / "state"
    assert store.database_url(state) == f"sqlite:///{state}/telemetry.sqlite"
    assert store.inputs_url(state) == f"{state}/inputs"
    limits = store.retention.limits
    assert (limits.max_age_s, limits.held_age_s) == (90 * DAY_S, 730 * DAY_S)


def test_a_text_is_the_url_of_the_database(tmp_path: Path) -> None:
    config = parse(tmp_path, store=DATABASE)
    assert config.store.database_url(tmp_path) == DATABASE


def test_places_and_a_password_may_be_named(tmp_path: Path) -> None:
    store = parse(
        tmp_path,
        {"PASSWORD": "secret"},
        store={
            "url": "postgresql://escalon:${PASSWORD}@db/escalon",
            "inputs": "s3://bucket/x",
            "retention": {"days": 7, "held_days": 30, "max_bytes": 10_000_000},
        },
    ).store
    assert store.database_url(tmp_path) == DATABASE
    assert store.inputs_url(tmp_path) == "s3://bucket/x"
    assert store.retention.limits.max_bytes == 10_000_000
    away = parse(tmp_path, store={"inputs": "/mnt/inputs"}).store
    assert away.inputs_url(tmp_path) == "/mnt/inputs"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"store": {"retention": {"days": 30, "held_days": 7}}}, "held_days is 7.0, below days"),
        ({"signing_key": None}, "has no signing_key"),
        ({"trust": None, "signing_key": None}, "has no signing_key and no trust"),
        ({"duty": "ingest"}, "a store of its own"),
        ({"duty": "train"}, "duty"),
    ],
)
def test_what_cannot_work_is_said(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigFileError, match=problem):
        parse(tmp_path, **changes)


def test_a_process_that_only_stores_needs_no_keys(tmp_path: Path) -> None:
    config = parse(tmp_path, duty="ingest", store=DATABASE, trust=None, signing_key=None)
    assert config.classes == {"meter": ("a", "b")}
    with pytest.raises(ConfigError, match="no keys"):
        _ = config.keys
