"""What was recorded of the version that is meant, and of those before it, out of the store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloud.certificate.observed import Observed, TrafficError
from cloud.certificate.promise import Promise
from cloud.config import CloudPipelineConfig
from cloud.store import TelemetryStore, Traffic
from cloud.version import Version
from escalon.release.scope import Scope
from escalon.what_if.report import VersionCurve
from shared.errors import EscalonError

MAX_SAMPLES = 500_000
"""So many of a version are looked at, the newest."""
EARLIER_VERSIONS = 4
"""So many versions before it are drawn beside it."""
EARLIER_SAMPLES = 100_000
"""So many of each of them are looked at, the newest."""
DAY_S = 86_400.0


@dataclass(frozen=True)
class Look:
    """What is looked at.

    Attributes:
        pipeline: the pipeline.
        config: its configuration.
        version: of tier-1.
        tier2_version: that answered beside it last.
        observed: what both saw.
        curves: of the versions before it, and its own last.
    """

    pipeline: str
    config: CloudPipelineConfig
    version: Version
    tier2_version: str
    observed: Observed
    curves: tuple[VersionCurve, ...]

    @property
    def running(self) -> tuple[float, ...]:
        """The thresholds of the version's files."""
        return tuple(each.calibration.threshold for each in self.version.release.variants)

    @property
    def promise(self) -> Promise:
        """What a certificate of the pipeline is to say."""
        certificate = self.config.certificate
        return Promise(certificate.alpha, certificate.delta, certificate.escalation_budget)


def look(
    scope: Scope, store: TelemetryStore, *, named: str | None, since_s: float, now_s: float
) -> Look:
    """Reads what was recorded.

    Of older times than the retention's only what is held is left, which is no sample of the
    traffic: it is not looked at.

    Args:
        scope: tier-1's channel of one pipeline.
        store: the telemetry.
        named: the version of tier-1; None for the one that stands.
        since_s: what came since then, seconds since 1970.
        now_s: seconds since 1970.

    Raises:
        EscalonError: there is no such version, or nothing can be said of it.
    """
    name, config, _ = scope.pipeline(scope.only.name)
    version = _version(scope, named)
    since_s = max(since_s, now_s - scope.config.store.retention.days * DAY_S)
    traffic = store.traffic(
        name, since_s=since_s, limit=MAX_SAMPLES, tier1_version=version.name, newest=True
    )
    if not len(traffic):
        raise TrafficError(
            f"nothing is recorded of version {version.qualified} in this time. Fix: an earlier "
            "--since, another --tier1-version, or wait"
        )
    asked = np.isin(traffic.number, store.asked_for(name))
    observed = _observed(traffic, version, asked)
    earlier = _earlier(scope, version)
    curves = [_curve(store, name, each, since_s) for each in earlier]
    own = VersionCurve(version.qualified, len(observed.chances), observed.curve())
    return Look(
        pipeline=name,
        config=config,
        version=version,
        tier2_version=traffic.tier2_version[-1],
        observed=observed,
        curves=(*(curve for curve in curves if curve is not None), own),
    )


def _version(scope: Scope, named: str | None) -> Version:
    channel = scope.only
    if named is not None:
        return scope.version(named)
    standing = channel.standing()
    if not standing:
        raise EscalonError(f"no version stands in {channel.name} yet; see `escalon release list`")
    return scope.version(f"{channel.name}/{standing}")


def _earlier(scope: Scope, version: Version) -> list[Version]:
    """Returns the versions that were made before, oldest first."""
    versions = scope.registry.versions(version.channel)
    names = [each.name for each in versions]
    place = names.index(version.name) if version.name in names else len(names)
    return versions[max(0, place - EARLIER_VERSIONS) : place]


def _observed(traffic: Traffic, version: Version, asked: np.ndarray | None = None) -> Observed:
    return Observed.of(
        traffic,
        tier1_version=version.name,
        tier2_version=traffic.tier2_version[-1],
        score=version.release.variants[0].calibration.score,
        asked=asked,
    )


def _curve(
    store: TelemetryStore, pipeline: str, version: Version, since_s: float
) -> VersionCurve | None:
    """Returns the curve of a version; None if nothing can be said of it."""
    traffic = store.traffic(
        pipeline, since_s=since_s, limit=EARLIER_SAMPLES, tier1_version=version.name, newest=True
    )
    if not len(traffic):
        return None
    try:
        observed = _observed(traffic, version)
    except TrafficError:
        return None
    return VersionCurve(version.qualified, len(observed.chances), observed.curve())
