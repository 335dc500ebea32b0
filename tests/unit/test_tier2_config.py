"""What a tier-2 configuration may say, and what it is told where it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.config import BrokerConfig
from shared.workers.worker import Worker
from tier2.config import Tier2Config

SITE = {"url": "mqtt://site"}
CLOUD = {"url": "mqtt://cloud"}
REGION = {"url": "mqtt://region"}


def parse(folder: Path, pipeline: dict[str, Any], **changes: Any) -> Tier2Config:
    (folder / "trust.signed").touch()
    releases = {"channel": "full", "trust": str(folder / "trust.signed")}
    return Tier2Config.model_validate(
        {
            "role": "tier2",
            "node": "full-1",
            "site": "plant",
            "broker": SITE,
            "state_dir": folder,
            "pipelines": {"meter": {"input": {"shape": (3,)}, "releases": releases, **pipeline}},
            **changes,
        },
        strict=False,
    )


def fix_of(refusal: pytest.ExceptionInfo[ValidationError]) -> str:
    (error,) = refusal.value.errors()
    return str(error["ctx"]["fix"])


@pytest.mark.parametrize(
    ("changes", "upstream", "expected"),
    [
        ({}, {}, SITE),
        ({"cloud": CLOUD}, {}, CLOUD),
        ({"cloud": CLOUD}, {"broker": REGION}, REGION),
    ],
    ids=["site", "cloud", "its-own"],
)
def test_the_node_above_is_asked_at_its_broker_or_the_next_one_up(
    tmp_path: Path, changes: dict[str, Any], upstream: dict[str, Any], expected: dict[str, str]
) -> None:
    config = parse(tmp_path, {"upstream": {"site": "region", **upstream}}, **changes)
    above = config.pipelines["meter"].upstream
    assert above is not None
    assert config.upstream_broker(above) == BrokerConfig(url=expected["url"])


def test_its_name_above_tells_the_sites_apart_and_its_workers(tmp_path: Path) -> None:
    config = parse(tmp_path, {"upstream": {"site": "region"}})
    assert config.name_upstream() == "plant.full-1"
    assert config.name_upstream(Worker(1, 2)) == "plant.full-1.w1"


@pytest.mark.parametrize("broker", [{}, {"broker": SITE}], ids=["left-out", "named"])
def test_a_site_that_would_ask_itself_is_refused(tmp_path: Path, broker: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="would ask itself") as refusal:
        parse(tmp_path, {"upstream": {"site": "plant", **broker}})
    assert "name of the site above" in fix_of(refusal)


def test_the_same_name_at_another_broker_is_another_site(tmp_path: Path) -> None:
    parse(tmp_path, {"upstream": {"site": "plant", "broker": REGION}})


def test_a_name_that_is_too_long_above_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="is longer than 64") as refusal:
        parse(tmp_path, {"upstream": {"site": "region"}}, site="s" * 40, node="n" * 40)
    assert "shorten" in fix_of(refusal)
    parse(tmp_path, {}, site="s" * 40, node="n" * 40)


def test_a_gateway_that_asks_the_cloud_for_releases_has_a_name_that_is_not_too_long(
    tmp_path: Path,
) -> None:
    relay = {"channels": ["meter"], "trust": str(tmp_path / "trust.signed")}
    with pytest.raises(ValidationError, match="is longer than 64"):
        parse(tmp_path, {}, site="s" * 40, node="n" * 40, relay=relay)


def test_an_escalation_with_nobody_to_ask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="nobody to ask") as refusal:
        parse(tmp_path, {"escalation": {"deadline_ms": 100.0}})
    assert "upstream" in fix_of(refusal)


def test_a_backlog_on_tier2_is_refused(tmp_path: Path) -> None:
    escalation = {"backlog": {"max_bytes": 10}}
    with pytest.raises(ValidationError, match="no backlog") as refusal:
        parse(tmp_path, {"upstream": {"site": "region"}, "escalation": escalation})
    assert "max_spool_bytes" in fix_of(refusal)


def test_what_goes_to_a_broker_fits_into_its_packets(tmp_path: Path) -> None:
    def narrow(port: int) -> dict[str, Any]:
        return {"url": f"mqtt://127.0.0.1:{port}", "max_packet_bytes": 2**17}

    telemetry = parse(tmp_path, {}, cloud=narrow(1884)).part(Worker()).telemetry
    assert 2**16 < telemetry.max_message_bytes < 2**17
    alone = parse(tmp_path, {}, broker=narrow(1883)).part(Worker()).telemetry
    assert alone == telemetry
    upstream = {"upstream": {"site": "region", "broker": narrow(1885)}}
    config = parse(tmp_path, upstream).part(Worker())
    assert config.telemetry.max_message_bytes == 2**19
    assert config.pipelines["meter"].escalation.max_message_bytes == telemetry.max_message_bytes


def test_a_worker_has_its_part_of_the_disk_and_of_what_may_be_asked(tmp_path: Path) -> None:
    escalation = {"max_inflight": 100, "budget": {"samples_per_minute": 60}}
    config = parse(
        tmp_path,
        {"upstream": {"site": "region"}, "escalation": escalation},
        telemetry={"max_spool_bytes": 2**20},
        workers=4,
        metrics={"port": 9000},
    ).part(Worker(3, 4))
    assert config.telemetry.max_spool_bytes == 2**18
    asked = config.pipelines["meter"].escalation
    assert (asked.max_inflight, asked.budget.samples_per_minute) == (25, 15)
    assert config.metrics.port == 9003
