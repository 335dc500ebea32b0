"""A candidate that was trained once becomes a release, whatever stands in its way for a while."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from cloud.channel import Channel
from cloud.config import CloudPipelineConfig
from cloud.course import FIRST_RETRY_S, Course
from cloud.director import Director
from cloud.registration import AGAIN_S, MAX_READS
from cloud.registry import Registry
from cloud.signer import Signer
from cloud.store import Arrived, TelemetryStore
from cloud.vigil import Vigil
from shared.errors import ConfigError
from shared.messages import GateCount, Telemetry, TelemetryRecord, Tensor
from shared.metrics import CloudMetrics
from tests.builders import CHANNEL, record, trust_in
from tests.cloud_desk import TIER2
from tests.fakes import wait_until
from tests.training_data import LABELS, blobs_of

Make = Callable[[], "Rig"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a data set, in which one course has trained the first models already."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "base").mkdir()
    rng = np.random.default_rng(7)
    for name, count in (("train", 90), ("calibration", 600)):
        inputs, labels = blobs_of(count, rng)
        np.savez(folder / "base" / f"{name}.npz", x=inputs, y=labels)
    rig = Rig(folder, folder / "first", folder / "base")
    rig.trains()
    yield folder
    rig.course.close()


class Rig:
    """The course of a pipeline on a real registry, which trains in real child processes."""

    def __init__(
        self,
        folder: Path,
        first_job: Path,
        base: Path,
        retrain: dict[str, Any] | None = None,
        **training: Any,
    ) -> None:
        self.folder = folder
        self.base = base
        self.candidate = first_job / "candidate"
        self.registry = Registry(folder / "registry")
        config = CloudPipelineConfig.model_validate(
            {
                "input": {"shape": (6,)},
                "labels": LABELS,
                "tier1_channel": CHANNEL,
                "tier2_channel": TIER2,
                "retrain": retrain or {},
                "training": {
                    "base": base,
                    "first_job": first_job,
                    "input_maximum": 16.0,
                    **training,
                },
            }
        )
        key = Ed25519PrivateKey.generate()
        signer = Signer(key, trust_in(key), 90.0)
        self.channels = {
            name: Channel(name, config.rollout, folder / "rollouts", self.registry)
            for name in (TIER2, CHANNEL)
        }
        self.directors = {name: Director(each, signer) for name, each in self.channels.items()}
        self.store = TelemetryStore(
            f"sqlite:///{folder / 'telemetry.sqlite'}", str(folder / "inputs")
        )
        self.store.open()
        self.vigil = Vigil(
            pipeline="meter",
            config=config.retrain,
            store=self.store,
            folder=folder / "watching",
            director=self.directors[CHANNEL],
            metrics=CloudMetrics(CollectorRegistry()),
        )
        self.course = Course(
            name="meter",
            config=config,
            chunk_bytes=64 * 2**10,
            folder=folder / "jobs",
            store=self.store,
            registry=self.registry,
            directors=self.directors,
            vigil=self.vigil,
        )
        self.now_s = 0.0
        self.batches = f"{time.monotonic_ns()}"
        self.sent = 0
        for director in self.directors.values():
            director.start()
        self.course.start(self.now_s)

    def trains(self) -> None:
        """Polls until the training has ended and its candidate is judged."""

        def judged() -> bool:
            self.course.poll(self.now_s)
            return not self.course.busy

        wait_until(judged, "the training ends")

    def poll(self, after_s: float = AGAIN_S) -> None:
        self.now_s += after_s
        self.course.poll(self.now_s)

    def send(self, *records: TelemetryRecord, counts: tuple[GateCount, ...] = ()) -> None:
        """Has telemetry have come."""
        self.sent += 1
        message = Telemetry(1, "hub", f"batch-{self.batches}-{self.sent}", records, counts)
        self.store.add([Arrived("plant", message)], time.time())

    @property
    def registered(self) -> dict[str, list[str]]:
        names = (TIER2, CHANNEL)
        return {name: [each.name for each in self.registry.versions(name)] for name in names}

    @property
    def standing(self) -> tuple[str, str]:
        return self.directors[TIER2].standing, self.directors[CHANNEL].standing


@pytest.fixture
def make(trained: Path, tmp_path: Path) -> Make:
    """Makes a course that finds the candidate of a training that was done before."""

    def made() -> Rig:
        shutil.copytree(trained / "first", tmp_path / "first")
        return Rig(tmp_path, tmp_path / "first", trained / "base")

    return made


def test_a_candidate_is_kept_while_another_process_holds_its_channel(make: Make) -> None:
    rig = make()
    rig.trains()
    with rig.channels[CHANNEL].lock.claimed():
        for _ in range(3):
            rig.poll()
        assert "another process still holds the rollout of meter-tier1" in rig.course.activity
        assert not rig.course.busy
    rig.poll()
    assert rig.standing == ("1", "1")
    rig.poll()
    assert rig.course.activity == "meter: watching"


def test_a_candidate_that_is_damaged_for_good_is_trained_anew(make: Make) -> None:
    rig = make()
    rig.trains()
    (rig.candidate / "tier1.onnx").unlink()
    for _ in range(MAX_READS):
        rig.poll()
    assert "no first models yet" in rig.course.activity
    rig.poll(FIRST_RETRY_S)
    assert rig.course.busy
    rig.trains()
    rig.poll()
    assert rig.standing == ("1", "1")


def test_while_it_trains_the_course_says_how_far_it_is(trained: Path, tmp_path: Path) -> None:
    rig = Rig(tmp_path, tmp_path / "first", trained / "base")
    said: set[str] = set()

    def says() -> bool:
        rig.course.poll(rig.now_s)
        said.add(rig.course.activity)
        return any(each.startswith("meter: training: tier2, epoch ") for each in said)

    try:
        wait_until(says, "a pass is done")
        progress = rig.course.progress
        assert progress is not None
        assert 0 < progress.share <= 1
    finally:
        rig.course.close()


def test_a_course_whose_trainer_is_not_installed_does_not_begin(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"escalon\[torch\]"):
        Rig(tmp_path, tmp_path / "first", trained / "base", trainer="torch")


# Later trainings


RETRAIN = {"after_samples": 100, "audits": 100, "window": 50, "cool_down_s": 0.0}


def audited(count: int, first: int = 0) -> list[TelemetryRecord]:
    """Returns records of the audit with inputs of the data set."""
    inputs, labels = blobs_of(count, np.random.default_rng(8))
    return [
        msgspec.structs.replace(
            record(first + number, audit=True),
            tier2_version="1",
            input=Tensor.of(features.astype(np.float32)),
            tier1_probabilities=(scores := scores_of(int(label))),
            tier2_probabilities=scores,
        )
        for number, (features, label) in enumerate(zip(inputs, labels, strict=True))
    ]


def scores_of(label: int) -> Tensor:
    rest = 0.1 / (len(LABELS) - 1)
    return Tensor.of(np.array([0.9 if place == label else rest for place in range(len(LABELS))],
                              np.float32))  # fmt: skip


@pytest.fixture
def live(trained: Path, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Makes a course whose first models stand; each life on the same folder."""
    shutil.copytree(trained / "first", tmp_path / "first")
    lives: list[Rig] = []

    def begun(**training: Any) -> Rig:
        rig = Rig(tmp_path, tmp_path / "first", trained / "base", RETRAIN, **training)
        lives.append(rig)
        if rig.course.busy:
            rig.trains()
        rig.poll()
        rig.poll()
        return rig

    yield begun
    for rig in lives:
        rig.course.close()


def until_it_trains(rig: Rig) -> None:
    """Polls until the samples are gathered, and the child runs."""

    def trains() -> bool:
        rig.poll()
        progress = rig.course.progress
        return progress is not None and progress.stage == "tier1"

    wait_until(trains, "it trains")


def test_enough_samples_begin_a_training_and_a_drift_does_not_wait_for_its_end(
    live: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    rig = live()
    assert not rig.course.busy
    with caplog.at_level(logging.INFO):
        rig.send(*audited(100))
        rig.poll()
    assert rig.course.busy
    assert "gathering" in rig.course.activity
    assert "meter: training version 2: 100 new samples" in caplog.text
    rig.send(counts=(GateCount("tier1-a", "meter", "1", 1000, 1000),))
    rig.poll()
    assert rig.vigil.alarm is not None
    with caplog.at_level(logging.INFO):
        rig.trains()
    assert "rejected: another drift, or another version, came after its samples" in caplog.text
    assert rig.registered[CHANNEL] == ["1"]


def test_after_a_drift_the_loop_alone_releases_what_is_certified(live: Callable[..., Rig]) -> None:
    rig = live()
    rig.send(counts=(GateCount("tier1-a", "meter", "1", 1000, 1000),))
    rig.poll()
    rig.send(*audited(300))
    rig.poll()
    assert rig.course.busy
    rig.trains()
    rig.poll()
    assert rig.registered[CHANNEL] == ["1", "2"]
    assert rig.vigil.under_way is None


def test_a_training_that_the_end_of_the_cloud_cut_off_goes_on_at_its_next_start(
    live: Callable[..., Rig],
) -> None:
    rig = live()
    rig.send(*audited(100))
    until_it_trains(rig)
    gathered = rig.folder / "jobs" / "meter-2" / "telemetry.npz"
    before = gathered.stat().st_mtime_ns
    rig.course.close()
    again = Rig(rig.folder, rig.candidate.parent, rig.base, RETRAIN)
    try:
        again.poll()
        assert again.course.busy
        again.trains()
        again.poll()
        assert again.vigil.under_way is None
        assert gathered.stat().st_mtime_ns == before
        again.poll()
        assert not again.course.busy  # the same samples are not trained on again
    finally:
        again.course.close()


def test_a_candidate_that_is_not_registered_yet_survives_a_restart(
    live: Callable[..., Rig],
) -> None:
    rig = live()
    rig.send(counts=(GateCount("tier1-a", "meter", "1", 1000, 1000),))
    rig.poll()
    rig.send(*audited(300))
    rig.poll()
    with rig.channels[CHANNEL].lock.claimed():
        rig.trains()
        rig.poll()
        assert "a candidate waits" in rig.course.activity
        rig.course.close()
    model = rig.folder / "jobs" / "meter-2" / "candidate" / "tier1.onnx"
    before = model.stat().st_mtime_ns
    again = Rig(rig.folder, rig.candidate.parent, rig.base, RETRAIN)
    try:
        again.poll()
        again.trains()
        again.poll()
        assert again.registered[CHANNEL] == ["1", "2"]
        assert again.standing == ("1", "2")
        assert model.stat().st_mtime_ns == before  # found, not trained anew
    finally:
        again.course.close()


def test_a_training_that_failed_is_tried_again_without_other_samples(
    live: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    live()
    rig = live(trainer="command", command=("/no/such/program",))
    rig.send(*audited(100))
    for _ in range(2):
        rig.poll(FIRST_RETRY_S)
        assert rig.course.busy
        rig.trains()
    assert caplog.text.count("cannot start the trainer /no/such/program") == 2


def test_one_site_that_keeps_its_inputs_does_not_keep_the_others_from_training(
    live: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    rig = live()
    others = [
        msgspec.structs.replace(each, node="tier1-b", input=None) for each in audited(30, 5000)
    ]
    rig.send(*audited(100), *others)
    until_it_trains(rig)
    assert "speaks of 1 of 2 nodes: inputs of plant/tier1-b stay on their sites" in caplog.text


def test_where_nothing_can_certify_no_training_begins_and_the_reason_is_said(
    live: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    """A node whose audited inputs come has kept those of what was hard."""
    rig = live()
    withheld = [msgspec.structs.replace(each, input=None) for each in audited(50, 5000)]
    rig.send(*audited(100), *withheld)
    rig.poll()
    rig.trains()
    said = "a uniform sample of the traffic has 0 samples with inputs"
    assert said in caplog.text
    assert f"the last training failed: {said}" in rig.course.activity
    assert rig.vigil.under_way is None
    assert not (rig.folder / "jobs" / "meter-2" / "order.json").exists()
