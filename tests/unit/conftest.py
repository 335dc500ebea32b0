"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from prometheus_client import CollectorRegistry

from shared.metrics import NodeMetrics

# A noisy machine makes single examples slow; what is too slow shows in the whole suite.
settings.register_profile(
    "unit", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")


@pytest.fixture
def metrics() -> NodeMetrics:
    """Metrics in a registry of their own."""
    return NodeMetrics(CollectorRegistry())


@pytest.fixture(scope="session")
def release_key() -> Ed25519PrivateKey:
    """The key that signs this run's releases."""
    return Ed25519PrivateKey.generate()
