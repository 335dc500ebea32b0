"""What a configuration may say of the cascade, and what it is told where it may not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.cascade.config import BacklogConfig, BreakerConfig, EscalationConfig


def test_the_defaults_are_sound() -> None:
    config = EscalationConfig()
    assert (config.deadline_ms, config.audit_share) == (500.0, 0.01)
    assert config.budget.samples_per_minute is None
    assert config.samples_a_message(100) == config.max_batch_samples


@pytest.mark.parametrize("section", [BreakerConfig, BacklogConfig], ids=["breaker", "backlog"])
def test_a_first_delay_above_the_longest_is_refused_with_a_fix(
    section: type[BreakerConfig | BacklogConfig],
) -> None:
    with pytest.raises(ValidationError) as refusal:
        section(retry_s=30.0, max_retry_s=20.0)
    (error,) = refusal.value.errors()
    assert error["msg"] == "retry_s is 30.0, above max_retry_s, which is 20.0"
    assert "swap or raise" in error["ctx"]["fix"]


@pytest.mark.parametrize(
    "values",
    [
        {"deadline_ms": 0.0},
        {"audit_share": 1.1},
        {"max_inflight": 0},
        {"max_batch_samples": 0},
        {"max_message_bytes": 1},
        {"budget": {"samples_per_minute": 0}},
        {"breaker": {"failures": 0}},
        {"backlog": {"max_bytes": -1}},
        {"dead_line_ms": 5.0},
    ],
    ids=lambda values: next(iter(values)),
)
def test_what_is_out_of_range_or_unknown_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EscalationConfig.model_validate(values)
