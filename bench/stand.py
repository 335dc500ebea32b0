"""The test stand: one broker, the models, and the contestants that are put on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from bench import nodes
from bench.broker import open_mosquitto
from bench.errors import BenchError, StalledError
from bench.ledger import Ledger
from bench.load import Lane, Load
from bench.machine import Cpus, cpu_s
from bench.models import Task, write_model
from bench.processes import Child
from bench.samples import Feed, json_feed, raw_feed

READY_TIMEOUT_S = 30.0
PROBE_PAUSE_S = 0.002
QUIET_S = 0.1
RIGHT_SHARE = 0.99
"""So many answers must be what they should: one late reply does not void a run."""

PREFIX = "bench"


@dataclass(frozen=True)
class Contestant:
    """Someone who answers samples.

    Attributes:
        name: how reports call it.
        lane: its topics.
        task: what it answers.
        qos: of samples and predictions.
        children: its processes; the one that the sensors speak with is the last.
        pack: samples in a message; 0 where a message is one JSON sample.
    """

    name: str
    lane: Lane
    task: Task
    qos: int
    children: Sequence[Child] = field(repr=False)
    pack: int = 0

    def feed(self, qos: int | None = None) -> Feed:
        """Returns its samples, at its QoS or another."""
        qos = self.qos if qos is None else qos
        if self.pack:
            return raw_feed(self.lane.samples, self.task.features, self.pack, qos)
        return json_feed(self.lane.samples, self.task.features, qos)

    @property
    def node(self) -> Child:
        """The process that the sensors speak with."""
        return self.children[-1]

    @property
    def cpu_s(self) -> float:
        """CPU time of all its processes, in s."""
        return sum(child.cpu_s for child in self.children)


class Stand:
    """A broker, models and contestants in a folder.

    Args:
        folder: for models, configurations, state and logs; exists.

    Attributes:
        folder: the same.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._models: dict[str, Path] = {}
        self._pinned = contextlib.ExitStack()
        self.cpus = Cpus()
        self.broker = open_mosquitto(folder / "broker")

    def __enter__(self) -> Self:
        """Starts the broker; pins it and this process to the CPUs that no contestant runs on."""
        self._pinned.enter_context(self.cpus.running_on(self.cpus.others))
        try:
            self.broker.start()
        except BaseException:
            self._pinned.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops the broker."""
        self.broker.stop()
        self._pinned.close()

    @property
    def broker_cpu_s(self) -> float:
        """CPU time of the broker, in s."""
        self.broker.check()
        if self.broker.process is None:
            raise BenchError("the broker does not run")
        return cpu_s(self.broker.process.pid)

    # Contestants

    def naive(self, task: Task, qos: int) -> Contestant:
        """Returns the usual script."""
        topics = f"{PREFIX}/naive-q{qos}/{task.name}"
        arguments = ("bench.naive", *self._script(topics, qos), "--model", str(self.model(task)))
        child = self._child(f"naive-{task.name}-q{qos}", arguments)
        return Contestant("naive", Lane(topics, b'"confidence"'), task, qos, (child,))

    def echo(self, task: Task, qos: int) -> Contestant:
        """Returns a bare echo of a task's samples."""
        topics = f"{PREFIX}/echo-q{qos}/{task.name}"
        child = self._child(f"echo-q{qos}", ("bench.echo", *self._script(topics, qos)))
        return Contestant("echo", Lane(topics, b'"features"'), task, qos, (child,))

    def floor(self, task: Task) -> Contestant:
        """Returns the yardstick: the least that a task's model needs, at QoS 1."""
        topics = f"{PREFIX}/floor/{task.name}"
        arguments = ("--port", str(self.broker.port), "--topics", topics)
        model = ("--model", str(self.model(task)))
        child = self._child("floor", ("bench.floor", *arguments, *model))
        return Contestant("floor", Lane(topics, b'"confidence"'), task, 1, (child,))

    def ours(self, task: Task, qos: int, *, pack: int = 0) -> Contestant:
        """Returns a tier-1 node that answers everything itself.

        Args:
            task: what it answers.
            qos: 1 for ``at_least_once``, 0 for ``at_most_once``.
            pack: samples in a message of raw float32; 0 for one JSON sample.
        """
        name = f"ours-{task.name}-q{qos}" + (f"-pack{pack}" if pack else "")
        pipeline = nodes.answering(self.model(task), task.features, qos, pack)
        child = self._node("tier1", name, name, task, pipeline)
        marker = b'"predictions":' if pack else b'"decided_by":"tier1"'
        lane = Lane(f"{PREFIX}/{name}/{task.name}", marker)
        return Contestant("ours", lane, task, qos, (child,), pack)

    def following(self, task: Task, channel: str, trust: Path, probation_s: float) -> Contestant:
        """Returns a tier-1 node that answers everything itself, and follows a channel.

        Args:
            task: what it answers.
            channel: whose releases it takes.
            trust: the trust file.
            probation_s: how long it watches a new model.
        """
        name = f"following-{task.name}"
        pipeline = nodes.answering(self.model(task), task.features, 1, 0)
        pipeline["releases"] = {
            "channel": channel,
            "trust": str(trust),
            "probation_s": probation_s,
        }
        child = self._node("tier1", name, name, task, pipeline)
        lane = Lane(f"{PREFIX}/{name}/{task.name}", b'"decided_by":"tier1"')
        return Contestant("ours", lane, task, 1, (child,))

    def cascade(self, task: Task) -> Contestant:
        """Returns a tier-1 node that is never sure, with the tier-2 node that it asks."""
        site = f"cascade-{task.name}"
        model = self.model(task)
        children = (
            self._node("tier2", f"{site}-2", site, task, nodes.deciding(model, task.features)),
            self._node("tier1", f"{site}-1", site, task, nodes.asking(model, task.features)),
        )
        lane = Lane(f"{PREFIX}/{site}/{task.name}", b'"decided_by":"tier2"')
        return Contestant("ours, escalated", lane, task, 1, children)

    @contextlib.contextmanager
    def running(self, *contestants: Contestant) -> Iterator[None]:
        """Starts contestants, waits until each answers, and ends them behind the block.

        Raises:
            BenchError: one does not come up.
        """
        with contextlib.ExitStack() as stack:
            for contestant in contestants:
                for child in contestant.children:
                    stack.callback(child.stop)
                    child.start()
            for contestant in contestants:
                self.await_answer(contestant)
            yield

    def await_answer(self, contestant: Contestant) -> float:
        """Sends samples until a contestant answers one as it should.

        Returns:
            When it did, by ``perf_counter``.

        Raises:
            BenchError: it ends, or does not answer in time.
        """
        ends_s = time.perf_counter() + READY_TIMEOUT_S
        with Load(self.broker.port, contestant.lane, contestant.feed(0)) as load:
            while not load.right:
                for child in contestant.children:
                    child.check()
                if time.perf_counter() > ends_s:
                    raise BenchError(
                        f"{contestant.name} does not answer{contestant.node.last_words()}"
                    )
                load.send(1)
                load.turn(PROBE_PAUSE_S)
            answered_s = time.perf_counter()
            # What was sent before it had subscribed is never answered: so, until all is quiet.
            answered = -1
            while load.answered != answered:
                answered = load.answered
                load.turn(QUIET_S)
        return answered_s

    @contextlib.contextmanager
    def load(self, contestant: Contestant, ledger: Ledger | None = None) -> Iterator[Load]:
        """Opens a load on a contestant, and looks that its answers are what they must be.

        Raises:
            BenchError: it stopped answering, or gave other answers than it should.
        """
        load = Load(self.broker.port, contestant.lane, contestant.feed(), ledger=ledger)
        try:
            with load:
                yield load
        except StalledError as error:
            raise StalledError(
                f"{contestant.name}: {error}{contestant.node.last_words()}"
            ) from error
        if load.right < RIGHT_SHARE * load.answered:
            raise BenchError(
                f"{contestant.name}: {load.answered - load.right} of {load.answered} answers "
                f"lack {contestant.lane.marker.decode()}{contestant.node.last_words()}"
            )

    # Parts

    def _script(self, topics: str, qos: int) -> tuple[str, ...]:
        return ("--port", str(self.broker.port), "--topics", topics, "--qos", str(qos))

    def _node(self, role: str, name: str, site: str, task: Task, pipeline: dict[str, Any]) -> Child:
        path = self.folder / f"{name}.yaml"
        state = self.folder / "state" / name
        config = nodes.node(
            role, name, prefix=PREFIX, site=site, broker_url=self.broker.url, state=state
        )
        path.write_text(yaml.safe_dump(config | {"pipelines": {task.name: pipeline}}))
        return self._child(name, (role, str(path)))

    def _child(self, name: str, arguments: Sequence[str]) -> Child:
        return Child(name, arguments, self.folder, self.cpus)

    def model(self, task: Task) -> Path:
        """Returns the file of a task's int8 model."""
        if task.name not in self._models:
            self._models[task.name] = write_model(task, self.folder)
        return self._models[task.name]
