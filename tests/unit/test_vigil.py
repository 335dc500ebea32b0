"""A drift in the store voids the certificate at the broker, and is said wherever people look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from cloud.rollout.phases import Phase
from cloud.vigil import RETRY_S, Vigil, promised
from cloud.watching.config import DriftConfig, RetrainConfig
from shared.errors import StorageError
from shared.messages import GateCount
from shared.metrics import CloudMetrics
from shared.model_spec import Calibration, Certificate
from shared.releases.manifest import Manifest
from tests.builders import diagonal_onnx, record, release, variant
from tests.cloud_rig import CloudRig
from tests.fakes import FakeBroker
from tests.store.desk import StoreDesk

CONFIG = RetrainConfig(window=50, audits=40, drift=DriftConfig(reference=50))


class Watched:
    """A cloud whose tier-1 channel is watched; each life on one folder, broker and store."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        self.folder = folder
        self.key = key
        self.hub = FakeBroker()
        self.desk = StoreDesk(f"sqlite:///{folder / 'telemetry.sqlite'}", str(folder / "inputs"))
        self.now_s = 0.0
        self.sent = 0
        self.begin()

    def begin(self) -> None:
        """Starts the cloud, again."""
        self.cloud = CloudRig(self.folder, self.key, self.hub)
        self.cloud.start()
        self.metrics = CloudMetrics(CollectorRegistry())
        self.vigil = Vigil(
            pipeline="meter",
            config=CONFIG,
            store=self.desk.store,
            folder=self.folder / "watching",
            director=self.cloud.director,
            metrics=self.metrics,
        )

    def release(self, gain: float) -> None:
        self.cloud.release(gain)
        self.cloud.until(Phase.COMPLETED)

    def counts(self, unsure: int, rows: int = 10, version: str = "1") -> None:
        rows_of = [GateCount("tier1-a", "meter", version, 10, unsure)] * rows
        self.desk.send(counts=rows_of)

    def audits(self, count: int) -> None:
        first, self.sent = self.sent, self.sent + count
        self.desk.send(*(record(first + each, audit=True) for each in range(count)))

    def turn(self, times: int = 4) -> None:
        for _ in range(times):
            self.now_s += 20
            self.vigil.poll(self.now_s)
            self.cloud.turn()

    def at_broker(self) -> Manifest:
        found = self.cloud.at_broker()
        assert found is not None
        return found

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def drift(self) -> None:
        self.release(1.0)
        self.turn()
        self.counts(2)
        self.turn()
        self.counts(8)
        self.turn()


@pytest.fixture
def watched(tmp_path: Path, release_key: Ed25519PrivateKey) -> Iterator[Watched]:
    watched = Watched(tmp_path, release_key)
    yield watched
    watched.desk.close()


def test_before_anything_stands_nothing_is_watched(watched: Watched) -> None:
    watched.turn()
    assert watched.vigil.alarm is None
    assert watched.vigil.in_words(trains=True) == "watching"


def test_what_stands_as_certified_is_watched_in_silence(watched: Watched) -> None:
    watched.release(1.0)
    watched.turn()
    watched.counts(2, rows=50)
    watched.turn()
    assert watched.at_broker().void is None
    assert watched.value("edge_certificate_valid", pipeline="meter") == 1
    assert watched.vigil.in_words(trains=True) == "watching"


def test_a_drift_voids_the_certificate_in_the_manifest_of_the_same_release(
    watched: Watched,
) -> None:
    assert not watched.vigil.is_void
    watched.drift()
    assert watched.vigil.is_void
    alarm, now = watched.vigil.alarm, watched.at_broker()
    assert alarm is not None
    assert now.void is not None
    assert now.void.reason == alarm.words
    assert (now.release.version, now.state, now.retry_epoch) == ("1", "active", 0)
    record_of = watched.cloud.director.record
    assert record_of is not None
    assert record_of.phase is Phase.COMPLETED


def test_metrics_and_activity_say_so(watched: Watched) -> None:
    watched.drift()
    assert watched.value("edge_drift_alarms_total", pipeline="meter", signal="binomial") == 1
    assert watched.value("edge_certificate_valid", pipeline="meter") == 0
    watched.vigil.decide(watched.now_s)
    assert watched.vigil.in_words(trains=True) == (
        f"drift, {watched.vigil.alarm.words if watched.vigil.alarm else ''}; the certificate is "
        "void; collecting"
    )
    assert watched.vigil.in_words(trains=False).endswith("void; people train its models")


def test_after_a_restart_it_is_neither_forgotten_nor_said_anew(watched: Watched) -> None:
    watched.drift()
    alarm, seqs = watched.vigil.alarm, watched.cloud.seqs()
    watched.begin()
    watched.counts(8)
    watched.turn()
    assert watched.vigil.alarm == alarm
    assert watched.cloud.seqs() == seqs
    assert watched.value("edge_drift_alarms_total", pipeline="meter", signal="binomial") is None


def test_cut_off_before_it_was_signed_it_is_signed_at_the_next_start(watched: Watched) -> None:
    watched.release(1.0)
    watched.turn()
    watched.counts(8)
    watched.vigil.poll(watched.now_s + 20)
    assert watched.vigil.alarm is not None
    assert watched.at_broker().void is None
    watched.begin()
    watched.turn()
    assert watched.at_broker().void is not None


def test_a_new_version_begins_without_an_alarm(watched: Watched) -> None:
    watched.drift()
    watched.release(2.0)
    watched.turn()
    assert watched.vigil.alarm is None
    assert watched.at_broker().void is None
    assert watched.value("edge_certificate_valid", pipeline="meter") == 1


def test_where_a_new_version_fails_the_one_before_stands_again_with_its_alarm(
    watched: Watched,
) -> None:
    watched.drift()
    alarm = watched.vigil.alarm
    watched.cloud.fails = tuple(watched.cloud.names)
    watched.cloud.release(2.0)
    watched.vigil.poll(watched.now_s)
    assert watched.vigil.alarm is None
    watched.cloud.until(Phase.ABORTED)
    watched.turn()
    assert (watched.cloud.director.standing, watched.vigil.alarm) == ("1", alarm)
    assert watched.cloud.director.is_void("1")


@pytest.mark.parametrize("restarts", [False, True], ids=["while-it-runs", "while-it-is-down"])
def test_a_person_who_offers_the_version_again_ends_it(watched: Watched, restarts: bool) -> None:
    watched.drift()
    with watched.cloud.channel.lock.claimed():
        watched.cloud.channel.retry(watched.cloud.fleet(), watched.cloud.ticket())
    if restarts:
        watched.begin()
    watched.cloud.until(Phase.COMPLETED)
    watched.turn()
    assert watched.vigil.alarm is None
    assert watched.at_broker().void is None
    watched.counts(8)
    watched.turn()
    assert watched.vigil.alarm is not None


def test_enough_audits_after_a_drift_call_for_a_training(watched: Watched) -> None:
    watched.audits(CONFIG.audits)
    watched.drift()
    assert watched.vigil.decide(watched.now_s).act == "collect"
    watched.audits(CONFIG.audits)
    assert watched.vigil.decide(watched.now_s).act == "collect"  # it looks once a second
    decision = watched.vigil.decide(watched.now_s + 1)
    assert decision.act == "train"
    assert decision.causes[0].startswith("drift: ")
    watched.vigil.begin_training("2")
    assert watched.vigil.under_way is not None
    watched.vigil.end_training(decided=True)
    assert watched.vigil.under_way is None
    assert watched.vigil.decide(watched.now_s + 2).act == "cool_down"
    assert watched.vigil.in_words(trains=True).endswith("waiting after the last training")


def test_a_version_that_is_gone_is_an_error_in_words_now_and_then(watched: Watched) -> None:
    watched.cloud.director.propose("9")
    with pytest.raises(StorageError, match="version 9 of meter-tier1 is damaged or gone"):
        watched.vigil.poll(1.0)
    watched.vigil.poll(1.0 + RETRY_S / 2)
    with pytest.raises(StorageError, match="damaged or gone"):
        watched.vigil.poll(1.0 + RETRY_S)


def certified(coverage: float, alpha: float) -> Calibration:
    return Calibration(1.0, 0.9, Certificate(alpha, 0.05, 400, 8, coverage, alpha))


@pytest.mark.parametrize(
    ("calibrations", "rate", "alpha"),
    [
        ([certified(0.8, 0.05)], 0.2, 0.05),
        ([certified(0.8, 0.05), certified(0.7, 0.05)], 0.3, 0.05),
        ([certified(0.8, 0.05), Calibration(1.0, 0.9)], 1.0, None),
        ([Calibration(1.0, 0.9)], 1.0, None),
    ],
    ids=["one-file", "two-files", "one-of-two", "none"],
)
def test_of_several_files_that_is_promised_which_holds_for_each(
    calibrations: list[Calibration], rate: float, alpha: float | None
) -> None:
    variants = [variant(diagonal_onnx(1.0), calibration=each) for each in calibrations]
    found = promised(release(diagonal_onnx(1.0), variants=tuple(variants)))
    assert found.escalation_rate == pytest.approx(rate)
    assert found.alpha == alpha
