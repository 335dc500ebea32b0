"""A port that a stranger's broker took between our choice and our bind."""

from __future__ import annotations

from pathlib import Path

import pytest

from escalon.demo import broker as broker_module
from escalon.demo.broker import open_broker
from tests.integration.hierarchy import BrokerKind, quiet_port


@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_broker_of_a_stranger_on_the_chosen_port_is_not_taken_for_ours(
    kind: BrokerKind,
    require_mosquitto: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strangers_port, ours = quiet_port(), quiet_port()
    monkeypatch.setattr(broker_module, "free_port", lambda: strangers_port)
    with open_broker(tmp_path / "stranger", "mosquitto"):
        ports = iter([strangers_port, ours])
        monkeypatch.setattr(broker_module, "free_port", lambda: next(ports))
        monkeypatch.setattr(broker_module, "is_free", lambda port: True)  # it was, a moment ago
        with open_broker(tmp_path / "ours", kind) as broker:
            assert broker.port == ours
