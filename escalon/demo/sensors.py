"""Twelve cameras that read utility meters, in one process: ``python -m escalon.demo.sensors``.

A phase's name on standard input makes them deliver what that phase shows; the end of the input, or
``stop``, makes them wait for the broker's acknowledgements, write the ledger of all that they sent,
and end.
"""

from __future__ import annotations

import argparse
import queue
import random
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from escalon.demo.digits import Scans, delivered, drifted
from shared.config import BrokerConfig
from shared.entry import set_up_log
from shared.messages import Sample, to_json
from shared.mqtt.link import Link, wait_for_any
from shared.npz import read_npz
from shared.scores import Floats
from shared.topics import Topics

SENSORS = 12
PHASES = ("steady", "drift", "rollout", "after")
DRIFTED_PHASES = ("drift", "rollout", "after")
MAX_BEHIND_S = 1.0
LAST_ACKS_S = 10.0
DECIMALS = 2


def sensor_name(index: int) -> str:
    """Returns the name of a camera, counted from 0: ``cam-01`` to ``cam-12``."""
    return f"cam-{index + 1:02d}"


@dataclass
class Ledger:
    """All that the cameras sent, in order, as it was on the wire.

    Attributes:
        ids: sample ids.
        phases: phase of each.
        digits: true digit of each.
        pixels: float32 [64] of each.
        acknowledged: ids that the broker acknowledged.
    """

    ids: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    digits: list[int] = field(default_factory=list)
    pixels: list[Floats] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)

    def write(self, path: Path) -> None:
        """Writes what the broker acknowledged as npz."""
        kept = [index for index, sample in enumerate(self.ids) if sample in self.acknowledged]
        np.savez(
            path,
            ids=np.array([self.ids[index] for index in kept]),
            phases=np.array([self.phases[index] for index in kept]),
            digits=np.array([self.digits[index] for index in kept], np.int64),
            pixels=np.array([self.pixels[index] for index in kept], np.float32).reshape(-1, 64),
            unacknowledged=len(self.ids) - len(kept),
        )


class Cameras:
    """Publishes scans at an even rate.

    Args:
        link: the site's broker.
        topics: of the site.
        pipeline: where the samples go.
        field_scans: for the phases before ``after``.
        fresh_scans: for ``after``.
        rate_per_s: of all cameras together.
        seed: decides order, fog and drift.
    """

    def __init__(
        self,
        *,
        link: Link,
        topics: Topics,
        pipeline: str,
        field_scans: Scans,
        fresh_scans: Scans,
        rate_per_s: float,
        seed: int,
    ) -> None:
        self.ledger = Ledger()
        self.phase = ""
        self._link = link
        self._topics = topics
        self._pipeline = pipeline
        self._run = uuid.uuid4().hex[:6]  # an earlier run's samples may still be on the broker
        self._rng = np.random.default_rng(seed)
        self._sources = {
            phase: fresh_scans if phase == "after" else field_scans for phase in PHASES
        }
        self._passes = {phase: self._shuffled_passes(phase) for phase in PHASES}
        self._interval_s = 1.0 / rate_per_s
        self._due_s = 0.0

    def poll(self, now_s: float) -> float:
        """Publishes what is due; returns when the next scan is, monotonic."""
        if not self.phase:
            self._due_s = now_s
            return now_s + self._interval_s
        self._due_s = max(self._due_s, now_s - MAX_BEHIND_S)
        while now_s >= self._due_s:
            self._publish()
            self._due_s += self._interval_s
        return self._due_s

    @property
    def settled(self) -> bool:
        """Whether the broker has acknowledged everything."""
        return len(self.ledger.acknowledged) == len(self.ledger.ids)

    def _publish(self) -> None:
        ledger, number = self.ledger, len(self.ledger.ids)
        index = next(self._passes[self.phase])
        scans = self._sources[self.phase]
        pixels = delivered(scans.pixels[index : index + 1], self._rng)
        if self.phase in DRIFTED_PHASES:
            pixels = drifted(pixels, self._rng)
        features = [round(float(value), DECIMALS) for value in pixels[0]]
        sensor = sensor_name(number % SENSORS)
        identity = f"{sensor}-{self._run}-{number:06d}"
        sample = Sample(features=features, id=identity, timestamp=time.time())
        taken = self._link.publish(
            self._topics.samples(self._pipeline, sensor),
            to_json(sample),
            on_ack=lambda: ledger.acknowledged.add(identity),
        )
        if taken:
            ledger.ids.append(identity)
            ledger.phases.append(self.phase)
            ledger.digits.append(int(scans.digits[index]))
            ledger.pixels.append(np.array(features, np.float32))

    def _shuffled_passes(self, phase: str) -> Iterator[int]:
        """Yields indices of scans: every scan once before any comes again."""
        while True:
            yield from self._rng.permutation(len(self._sources[phase].digits)).tolist()


def _read_commands(commands: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        commands.put(line.strip())
    commands.put("stop")


def _load(path: Path) -> Scans:
    data = read_npz(path, "x", "y")
    return Scans(data["x"], data["y"])


def _run(cameras: Cameras, link: Link, ledger_path: Path) -> None:
    commands: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    stopping_s: float | None = None
    while True:
        now_s = time.monotonic()
        link.receive()
        link.tend(now_s)
        if not commands.empty() and link.connected:
            command = commands.get()
            cameras.phase = "" if command == "stop" else command
            stopping_s = now_s + LAST_ACKS_S if command == "stop" else None
        due_s = cameras.poll(now_s)
        link.flush()
        if stopping_s is not None and (cameras.settled or now_s >= stopping_s):
            break
        wait_for_any([link], min(0.05, due_s - time.monotonic()))
    cameras.ledger.write(ledger_path)
    link.close()


def main() -> int:
    """Entry of the process."""
    parser = argparse.ArgumentParser(prog="python -m escalon.demo.sensors", description=__doc__)
    parser.add_argument("--broker", required=True, help="the site's broker, mqtt://host:port")
    parser.add_argument("--prefix", default="escalon", help="first level of the topics")
    parser.add_argument("--site", default="site-a", help="the site")
    parser.add_argument("--pipeline", default="meter", help="the pipeline")
    parser.add_argument("--data", type=Path, required=True, help="folder with the scans")
    parser.add_argument("--ledger", type=Path, required=True, help="where the ledger is written")
    parser.add_argument("--rate", type=float, default=150.0, help="samples/s of all cameras")
    parser.add_argument("--seed", type=int, default=1, help="decides order, fog and drift")
    arguments = parser.parse_args()
    set_up_log("info")
    link = Link(
        BrokerConfig(url=arguments.broker),
        f"{arguments.prefix}-sensors-{random.getrandbits(32):08x}",
        persistent=False,
        will=None,
        rng=random.Random(),  # noqa: S311 - jitter
    )
    cameras = Cameras(
        link=link,
        topics=Topics(arguments.prefix, arguments.site),
        pipeline=arguments.pipeline,
        field_scans=_load(arguments.data / "field.npz"),
        fresh_scans=_load(arguments.data / "fresh.npz"),
        rate_per_s=arguments.rate,
        seed=arguments.seed,
    )
    _run(cameras, link, arguments.ledger)
    return 0


if __name__ == "__main__":
    sys.exit(main())
