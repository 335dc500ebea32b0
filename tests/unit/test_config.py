"""A configuration is checked whole: ranges, variables, paths, and what belongs together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from cloud.config import CertificateConfig
from cloud.watching.config import RetrainConfig
from shared.cascade.config import EscalationConfig
from shared.config import (
    BatchingConfig,
    BrokerConfig,
    InputConfig,
    MetricsConfig,
    ModelConfig,
    PipelineConfig,
    ProbationConfig,
    ReleasesConfig,
)
from tier1.config import Tier1PipelineConfig
from tier2.config import RelayConfig, TelemetryConfig, UplinkConfig


def refused(kind: type[BaseModel], value: dict[str, Any], folder: Path = Path()) -> list[str]:
    """Returns the keys that are refused."""
    with pytest.raises(ValidationError) as refusal:
        kind.model_validate(value, context={"environment": {}, "folder": folder}, strict=False)
    return [".".join(map(str, error["loc"])) for error in refusal.value.errors()]


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (BrokerConfig, "keepalive_s", 4),
        (BrokerConfig, "keepalive_s", 3601),
        (BrokerConfig, "protocol", "3.1"),
        (MetricsConfig, "port", -1),
        (MetricsConfig, "port", 65536),
        (BatchingConfig, "max_batch_size", 0),
        (BatchingConfig, "max_batch_size", 4097),
        (BatchingConfig, "max_delay_ms", -0.1),
        (BatchingConfig, "max_delay_ms", float("nan")),
        (BatchingConfig, "queue_size", 0),
        (EscalationConfig, "deadline_ms", 0),
        (EscalationConfig, "deadline_ms", float("inf")),
        (EscalationConfig, "audit_share", 1.01),
        (EscalationConfig, "audit_share", -0.01),
        (InputConfig, "shape", []),
        (InputConfig, "shape", [0]),
        (InputConfig, "shape", [1] * 8),
        (UplinkConfig, "inputs", "some"),
        (RelayConfig, "channels", []),
        (TelemetryConfig, "max_records", 0),
        (TelemetryConfig, "retry_s", 0),
        (TelemetryConfig, "max_spool_bytes", 2**16 - 1),
        (CertificateConfig, "alpha", 0),
        (CertificateConfig, "alpha", 1),
        (CertificateConfig, "delta", 1),
        (CertificateConfig, "escalation_budget", 1.1),
        (RetrainConfig, "window", 49),
        (RetrainConfig, "p_value", 0),
        (ReleasesConfig, "channel", "a/b"),
        (ReleasesConfig, "channel", "+"),
        (ReleasesConfig, "probation_s", 0),
        (ReleasesConfig, "deadline_s", 86_401),
        (ProbationConfig, "max_broken_share", 1),
        (ProbationConfig, "escalation_margin", -0.1),
        (ProbationConfig, "lost_margin", 1.1),
        (ProbationConfig, "latency_factor", 0.9),
        (ProbationConfig, "rss_factor", 0.9),
        (ProbationConfig, "rss_slack_bytes", -1),
        (ProbationConfig, "max_extension_s", 86_401),
        (ProbationConfig, "false_alarm", 0),
        (ReleasesConfig, "max_artifact_bytes", 2**31 + 1),
        (ModelConfig, "temperature", 0),
        (ModelConfig, "threshold", 1.1),
        (ModelConfig, "labels", ["only-one"]),
        (ModelConfig, "version", ""),
        (Tier1PipelineConfig, "max_payload_bytes", 0),
        (Tier1PipelineConfig, "sensors", ["cam/01"]),
        (Tier1PipelineConfig, "delivery", "exactly_once"),
        (Tier1PipelineConfig, "inference", "process"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_a_value_out_of_range_is_refused_by_its_key(
    kind: type[BaseModel], key: str, value: object
) -> None:
    assert any(found.split(".")[0] == key for found in refused(kind, {key: value}))


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("mqtt://broker", "broker", 1883),
        ("mqtt://10.0.0.1:1884", "10.0.0.1", 1884),
        ("mqtt://[::1]:1884/", "::1", 1884),
    ],
)
def test_a_brokers_address_gives_host_and_port(url: str, host: str, port: int) -> None:
    broker = BrokerConfig(url=url)
    assert (broker.host, broker.port) == (host, port)


@pytest.mark.parametrize(
    "url", ["broker:1883", "http://broker", "mqtt://", "mqtt://h:0", "mqtt://h:99999", "mqtt://h/a"]
)
def test_what_is_no_brokers_address_is_refused(url: str) -> None:
    assert refused(BrokerConfig, {"url": url}) == ["url"]


def test_a_password_is_not_in_the_configurations_text() -> None:
    assert "hush" not in repr(BrokerConfig(url="mqtt://h", username="me", password="hush"))


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        pytest.param("mqtt://${HOST}", {"HOST": "a"}, "mqtt://a", id="set"),
        pytest.param("mqtt://${HOST:-b}", {}, "mqtt://b", id="default"),
        pytest.param("mqtt://${HOST:-b}", {"HOST": "a"}, "mqtt://a", id="set-beats-default"),
        pytest.param("mqtt://${H}:${P}", {"H": "a", "P": "9"}, "mqtt://a:9", id="two"),
        pytest.param("mqtt://${HOST}", {"HOST": "${P}"}, "mqtt://${p}", id="not-expanded-twice"),
    ],
)
def test_variables_are_put_in(text: str, environment: dict[str, str], expected: str) -> None:
    context = {"environment": environment, "folder": Path()}
    broker = BrokerConfig.model_validate({"url": text}, context=context)
    assert broker.url.lower() == expected


def test_a_file_is_looked_for_in_the_folder_of_the_yaml(tmp_path: Path) -> None:
    (tmp_path / "trust.pub").write_bytes(b"")
    context = {"environment": {}, "folder": tmp_path}
    value = {"channel": "c", "trust": "trust.pub"}
    config = ReleasesConfig.model_validate(value, context=context, strict=False)
    assert config.trust == tmp_path / "trust.pub"
    assert refused(ReleasesConfig, {"channel": "c", "trust": "gone"}, tmp_path) == ["trust"]
    assert refused(ReleasesConfig, {"channel": "c", "trust": "."}, tmp_path) == ["trust"]


def test_a_pipeline_without_any_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="this pipeline has no model"):
        PipelineConfig(input=InputConfig(shape=(3,)))


def test_the_size_of_a_sample_is_the_product_of_its_shape() -> None:
    assert InputConfig(shape=(3, 8, 8)).size == 192


def test_a_configuration_does_not_change() -> None:
    config = BatchingConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.queue_size = 1
