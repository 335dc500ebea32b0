"""The demo's story: prepare → steady → drift → rollout → after → report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloud.registry import Entry, Registry
from cloud.training.order import Report, read_report
from escalon.demo.broker import BrokerProcess, open_broker
from escalon.demo.observer import Observer
from escalon.demo.processes import Processes
from escalon.demo.report import (
    DemoReport,
    FirstModels,
    Models,
    ReleaseReport,
    Sent,
    accuracy,
    node_releases,
    phase_report,
    read_ledger,
    read_unacknowledged,
)
from escalon.demo.screen import Screen
from escalon.demo.workspace import Workspace
from shared.errors import EscalonError
from shared.inputs import Inputs
from shared.model import Model
from shared.model_spec import Calibration, ModelSpec

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"
TIER1_NODES = ("tier1-a", "tier1-b", "tier1-c")
NODES = {"cloud": "cloud", "tier2-a": "tier2", **dict.fromkeys(TIER1_NODES, "tier1")}
PREFIX, SITE, PIPELINE = "escalon", "site-a", "meter"
TIER1_CHANNEL, TIER2_CHANNEL = "meter-tier1", "meter-tier2"

FIRST, SECOND = "1", "2"  # versions of a channel
STEP_S = 0.05
BROKER_S = 10.0
RETAINED_S = 0.5  # what is retained comes within it
FIRST_MODELS_S = 180.0
RELEASE_S = 120.0
LAST_ANSWERS_S = 5.0  # so long after the last answer, no other comes
MAX_BACKLOG_S = 60.0
LAST_DEADLINE_S = 0.6


class StoryError(EscalonError):
    """The story does not go on as it should."""


@dataclass(frozen=True)
class Settings:
    """What a user may choose.

    Attributes:
        seed: decides split, order, fog and drift.
        speed: how much faster than 150 samples/s; phases get shorter alike.
        duration_s: length of ``steady`` and of ``after`` at speed 1.
        broker: URL of a broker that runs already, or which one to start: ``auto``, ``mosquitto``
            or ``amqtt``.
    """

    seed: int = 1
    speed: float = 1.0
    duration_s: float = 12.0
    broker: str = "auto"

    @property
    def rate_per_s(self) -> float:
        """Samples a second of all sensors."""
        return 150.0 * self.speed


class Story:
    """Runs the hierarchy through the phases.

    ``close`` ends every process, however the story went.

    Args:
        settings: what a user chose.
        workspace: the folder.
    """

    def __init__(self, settings: Settings, workspace: Workspace) -> None:
        self._settings = settings
        self._workspace = workspace
        self._broker = _broker_to_start(settings.broker, workspace.run / "broker")
        self._processes: Processes | None = None
        self._observer: Observer | None = None
        self._began_s = time.monotonic()

    @property
    def broker_name(self) -> str:
        """Which broker is used."""
        return self._broker.name if self._broker else "a broker of yours"

    @property
    def broker_url(self) -> str:
        """Where it is."""
        return self._broker.url if self._broker else self._settings.broker

    def prepare(self, screen: Screen) -> None:
        """Starts broker and nodes, and waits until every node serves its first model.

        Raises:
            EscalonError: something does not start.
        """
        workspace, settings = self._workspace, self._settings
        workspace.acquire()
        screen.phase("prepare")
        workspace.prepare(settings.seed)
        if self._broker is not None:
            self._broker.start()
        screen.say(f"broker: {self.broker_name} at {self.broker_url}")
        self._observer = Observer(
            self.broker_url, prefix=PREFIX, site=SITE, pipeline=PIPELINE, since=time.time()
        )
        self._observer.start()
        self._meet_broker()
        environment = workspace.environment(settings.seed, self.broker_url)
        self._processes = Processes(workspace.logs, environment)
        for node, role in NODES.items():
            self._processes.start(node, role, [str(CONFIGS / f"{node}.yaml")])
        self._until(lambda: self._all_serve(FIRST), screen, FIRST_MODELS_S, "the first models")

    def play(self, screen: Screen) -> DemoReport:
        """Plays the phases; returns what they showed.

        Raises:
            EscalonError: a process died, or a step took too long.
        """
        sensors = self._start_sensors()
        length_s = self._settings.duration_s / self._settings.speed
        release_s = RELEASE_S / min(1.0, self._settings.speed)
        self._begin("steady", screen)
        self._for(length_s, screen)
        self._begin("drift", screen)
        observer = self._observing()
        self._until(
            lambda: observer.offered(TIER1_CHANNEL, SECOND), screen, release_s, "a new release"
        )
        self._begin("rollout", screen)
        self._until(
            lambda: self._committed(SECOND), screen, RELEASE_S, "the new release on all nodes"
        )
        self._begin("after", screen)
        self._for(length_s, screen)
        screen.phase("finish")
        return self._finish(sensors, screen)

    def watch(self, screen: Screen) -> None:
        """Keeps the hierarchy up until somebody ends it.

        Raises:
            EscalonError: a process died.
        """
        while True:
            self._step(screen)

    def close(self) -> None:
        """Ends every process and gives the folder back."""
        if self._observer is not None:
            self._observer.close()
        if self._processes is not None:
            self._processes.stop()
        if self._broker is not None:
            self._broker.stop()
        self._workspace.release()

    # Steps

    def _meet_broker(self) -> None:
        """Looks whether the broker answers, and whether a hierarchy like ours is on it already."""
        observer = self._observing()
        ends_s = time.monotonic() + BROKER_S
        while not observer.connected:
            if time.monotonic() >= ends_s:
                raise StoryError(
                    f"no broker answers at {self.broker_url}: start one, or leave --broker out"
                )
            observer.step(STEP_S)
        ends_s = time.monotonic() + RETAINED_S
        while time.monotonic() < ends_s:
            observer.step(STEP_S)
        strangers = sorted(name for name, view in observer.nodes.items() if view.online)
        if strangers:
            raise StoryError(
                f"at {self.broker_url} the nodes {', '.join(strangers)} are online: another "
                "demo uses this broker"
            )
        observer.events.clear()

    def _start_sensors(self) -> str:
        workspace, settings = self._workspace, self._settings
        arguments = {
            "--broker": self.broker_url,
            "--prefix": PREFIX,
            "--site": SITE,
            "--pipeline": PIPELINE,
            "--data": str(workspace.data),
            "--ledger": str(workspace.ledger),
            "--rate": str(settings.rate_per_s),
            "--seed": str(settings.seed),
        }
        flat = [text for pair in arguments.items() for text in pair]
        self._running().start("sensors", "escalon.demo.sensors", flat, stdin=True)
        return "sensors"

    def _begin(self, phase: str, screen: Screen) -> None:
        self._observing().phase = phase
        self._running().tell("sensors", phase)
        screen.phase(phase)

    def _for(self, seconds: float, screen: Screen) -> None:
        """Lets a phase run. It begins with its first answer: the sensors need a moment to start."""
        observer = self._observing()
        if not observer.answers:
            self._until(lambda: bool(observer.answers), screen, RELEASE_S, "the first answer")
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            self._step(screen)

    def _until(
        self, condition: Callable[[], bool], screen: Screen, timeout_s: float, what: str
    ) -> None:
        ends_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() >= ends_s:
                raise StoryError(
                    f"{what} did not come within {timeout_s:g} s. The cloud's last lines:\n"
                    + self._running().tail("cloud")
                )
            self._step(screen)

    def _step(self, screen: Screen) -> None:
        self._running().check()
        if self._broker is not None:
            self._broker.check()
        observer = self._observing()
        observer.step(STEP_S)
        screen.show(observer)

    def _all_serve(self, version: str) -> bool:
        observer = self._observing()
        return self._committed(version) and observer.version_reached(TIER2_CHANNEL, version, 1)

    def _committed(self, version: str) -> bool:
        return self._observing().version_reached(TIER1_CHANNEL, version, len(TIER1_NODES))

    # The end

    def _finish(self, sensors: str, screen: Screen) -> DemoReport:
        self._running().tell(sensors, "stop")
        if not self._ended(sensors, screen):
            raise StoryError("the sensors did not end; see their log")
        ledger = read_ledger(self._workspace.ledger)
        expected = {identity for sent in ledger.values() for identity in sent.ids}
        self._await_answers(expected, screen)
        # An answer too many would come until the last deadline.
        ends_s = time.monotonic() + LAST_DEADLINE_S
        while time.monotonic() < ends_s:
            self._step(screen)
        return self._report(ledger)

    def _await_answers(self, expected: set[str], screen: Screen) -> None:
        """Waits for what is not answered yet, while answers come: a slow broker loses nothing."""
        answers = self._observing().answers
        came, ends_s = len(answers), time.monotonic() + LAST_ANSWERS_S
        last_s = time.monotonic() + MAX_BACKLOG_S
        while time.monotonic() < min(ends_s, last_s) and not expected <= answers.keys():
            self._step(screen)
            if len(answers) > came:
                came, ends_s = len(answers), time.monotonic() + LAST_ANSWERS_S

    def _ended(self, name: str, screen: Screen) -> bool:
        """Waits for a process to end, and looks on meanwhile."""
        ends_s = time.monotonic() + 2 * LAST_ANSWERS_S
        while time.monotonic() < ends_s:
            if self._running().wait(name, 0.0):
                return True
            self._step(screen)
        return False

    def _report(self, ledger: dict[str, Sent]) -> DemoReport:
        observer = self._observing()
        registry = self._registry()
        tier1 = [self._release(registry, TIER1_CHANNEL, version) for version in (FIRST, SECOND)]
        tier2 = self._release(registry, TIER2_CHANNEL, FIRST)
        models = Models(*(_load(registry, release) for release in (*tier1, tier2)))
        return DemoReport(
            phases={
                phase: phase_report(phase, sent, observer, models) for phase, sent in ledger.items()
            },
            release=self._release_report(tier1[1], ledger["after"], models),
            first_models=self._first_models(ledger["steady"], models),
            broker=self.broker_name,
            seed=self._settings.seed,
            seconds_total=round(time.monotonic() - self._began_s, 1),
            corrections=observer.corrections,
            unacknowledged=read_unacknowledged(self._workspace.ledger),
        )

    def _release_report(self, release: Entry, sent: Sent, models: Models) -> ReleaseReport:
        folder = self._workspace.run / "cloud" / "jobs" / f"{PIPELINE}-2" / "candidate"
        report, calibration = _candidate(folder), release.manifest.release.variants[0].calibration
        certificate = calibration.certificate
        return ReleaseReport(
            old_version=models.old.spec.version,
            new_version=models.new.spec.version,
            nodes=node_releases(self._observing().updates, TIER1_CHANNEL),
            int8_bytes=report.int8_bytes,
            fp32_bytes=report.fp32_bytes,
            int8_accuracy=accuracy(models.new, sent),
            fp32_accuracy=accuracy(_load_fp32(folder, models.new.spec), sent),
            certificate=None if certificate is None else msgspec.to_builtins(certificate),
            threshold=calibration.threshold,
        )

    def _first_models(self, sent: Sent, models: Models) -> FirstModels:
        folder = self._workspace.first_job(self._settings.seed) / "candidate"
        report = _candidate(folder)
        return FirstModels(
            tier1_int8_bytes=report.int8_bytes,
            tier1_fp32_bytes=report.fp32_bytes,
            tier1_int8_accuracy=accuracy(models.old, sent),
            tier1_fp32_accuracy=accuracy(_load_fp32(folder, models.old.spec), sent),
            tier2_bytes=(folder / "tier2.onnx").stat().st_size,
        )

    def _registry(self) -> Registry:
        return Registry(self._workspace.run / "cloud" / "registry")

    @staticmethod
    def _release(registry: Registry, channel: str, version: str) -> Entry:
        """Returns the newest manifest of a version; there are several of each."""
        for seq in reversed(range(1, registry.next_seq(channel))):
            entry = registry.manifest(channel, seq)
            if entry is not None and entry.manifest.release.version == version:
                return entry
        raise StoryError(f"the registry has no version {version} of {channel}")

    def _running(self) -> Processes:
        if self._processes is None:
            raise StoryError("prepare() comes first")
        return self._processes

    def _observing(self) -> Observer:
        if self._observer is None:
            raise StoryError("prepare() comes first")
        return self._observer


def _broker_to_start(choice: str, folder: Path) -> BrokerProcess | None:
    """Returns the broker that the demo starts, or None where the choice is a URL."""
    match choice:
        case "auto" | "mosquitto" | "amqtt":
            return open_broker(folder, choice)
        case _:
            return None


def _load(registry: Registry, release: Entry) -> Model:
    manifest = release.manifest
    artefact = manifest.release.artefacts[0]
    path = registry.blobs.path(artefact.sha256)
    shape = manifest.release.input_shape
    return Model.load(path, manifest.model_spec(artefact.sha256), Inputs.plain(shape))


def _load_fp32(folder: Path, spec: ModelSpec) -> Model:
    plain = ModelSpec(spec.name, spec.version, "", spec.labels, spec.scores, Calibration(1.0, 0.0))
    return Model.load(folder / "tier1.fp32.onnx", plain, Inputs.plain((64,)))


def _candidate(folder: Path) -> Report:
    report = read_report(folder)
    if report is None:
        raise StoryError(f"{folder} holds no candidate")
    return report
