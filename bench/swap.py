"""Latency while a node takes a new release: fetches it, tries it, swaps it in, watches it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import onnx
import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from bench.errors import BenchError
from bench.ledger import Ledger
from bench.loops import Latency, offer
from bench.models import LABELS, SMALL
from bench.rows import ratios
from bench.scenario import Outcome, Plan, Say, latency_figure
from bench.stand import Contestant, Stand
from shared.inputs import Inputs
from shared.messages import Tensor
from shared.model import Model
from shared.model_spec import Calibration, ModelSpec
from shared.releases.blobs import chunked, describe
from shared.releases.manifest import Manifest, sign_manifest
from shared.releases.release import Release, Variant
from shared.releases.rollout import Rollout
from shared.releases.trust import found_trust
from shared.scores import Floats
from shared.topics import Topics

RATE_PER_S = 1000.0
CHANNEL = "p64"
PROBATION_S = 1.0
COURSE_S = 5.0
"""From the manifest to the commit, with its two trials, it takes some 3 s."""
COMMIT_TIMEOUT_S = 30.0
GOLDEN_SAMPLES = 8


def swap(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """A thousand messages a second: as long as nothing happens, and while a release comes."""
    key = Ed25519PrivateKey.generate()
    trust = stand.folder / "trust.signed"
    trust.write_bytes(found_trust([key], [key], time.time()))
    contestant = stand.following(SMALL, CHANNEL, trust, PROBATION_S)
    releases = Releases(stand, contestant, key)
    before: list[Latency] = []
    during: list[Latency] = []
    with stand.running(contestant), releases.publishing():
        for number in range(1, plan.rounds + 1):
            before.append(_run(stand, plan, contestant).latency)
            releases.publish(number)
            run = _run(stand, plan, contestant)
            during.append(run.latency)
            run.check_within(number, releases.await_commit(number))
            say(
                f"release {number}/{plan.rounds}: p99 {before[-1].p99_ms:.2f} ms before, "
                f"{during[-1].p99_ms:.2f} ms while it came"
            )
    title = f"{RATE_PER_S:.0f} messages/s, a release comes"
    ratio = ratios([run.p99_ms for run in during], [run.p99_ms for run in before])
    p50 = median(run.p50_ms for run in during) / median(run.p50_ms for run in before)
    return Outcome(
        {"swap_p99": ratio},
        [
            latency_figure(title, "ours, before", before),
            latency_figure(title, "ours, while it comes", during),
        ],
        {"swap_p99": f"p50: {p50:.2f}; chunks, two trials in child processes, load, swap, watch"},
    )


class Run(NamedTuple):
    """What was measured, and when.

    Attributes:
        latency: of what was offered.
        begins_s: when the first measured message was due, by ``perf_counter``.
        ends_s: when the last one was.
    """

    latency: Latency
    begins_s: float
    ends_s: float

    def check_within(self, number: int, committed_s: float) -> None:
        """Holds the end of a course against what was measured: else it was not all measured.

        Args:
            number: of the release.
            committed_s: when it was committed, by ``perf_counter``.

        Raises:
            BenchError: the commit came before or after.
        """
        if not self.begins_s <= committed_s <= self.ends_s:
            raise BenchError(
                f"release {number} was committed {committed_s - self.begins_s:.1f} s after the "
                f"measurement began, which took {self.ends_s - self.begins_s:.1f} s. Fix: measure "
                "on a machine with nothing else to do, or change COURSE_S"
            )


def _run(stand: Stand, plan: Plan, contestant: Contestant) -> Run:
    ledger = Ledger()
    with stand.load(contestant, ledger) as load:
        begins_s = time.perf_counter() + plan.warm_up_s
        latency = offer(load, ledger, RATE_PER_S, plan.warm_up_s, COURSE_S)
        return Run(latency, begins_s, begins_s + COURSE_S)


class Releases:
    """Publishes releases as the cloud does, and hears how the node takes them.

    Args:
        stand: its broker and its models.
        contestant: the node.
        key: signs.
    """

    def __init__(self, stand: Stand, contestant: Contestant, key: Ed25519PrivateKey) -> None:
        self._port = stand.broker.port
        self._file = stand.model(SMALL)
        self._topics = Topics(*contestant.lane.topics.split("/")[:2])
        self._key = key
        self._states: dict[int, str] = {}
        self._committed_s: dict[int, float] = {}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "releases")
        self._client.on_message = self._on_report

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Connects, and hangs up behind the block."""
        self._client.connect("127.0.0.1", self._port)
        self._client.subscribe(self._topics.updates())
        self._client.loop_start()
        try:
            yield
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def publish(self, number: int) -> None:
        """Publishes the release of a number: chunks first, then the manifest."""
        data, manifest = self._make(number)
        (artefact,) = manifest.release.artefacts
        for index, part in enumerate(chunked(data, artefact.chunk_bytes)):
            self._put(self._topics.blob(artefact.sha256, index), part)
        self._put(self._topics.releases(CHANNEL), sign_manifest(manifest, [self._key]))

    def await_commit(self, number: int) -> float:
        """Waits until the node has committed a release; returns when, by ``perf_counter``.

        Raises:
            BenchError: it has not taken it.
        """
        ends_s = time.monotonic() + COMMIT_TIMEOUT_S
        while number not in self._committed_s:
            if time.monotonic() > ends_s:
                raise BenchError(f"release {number} was not committed: {self._states}")
            time.sleep(0.01)
        return self._committed_s[number]

    def _put(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=1, retain=True)

    def _on_report(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        report = json.loads(message.payload)
        self._states[report["seq"]] = report["state"]
        if report["state"] == "COMMITTED":
            self._committed_s.setdefault(report["seq"], time.perf_counter())

    def _make(self, number: int) -> tuple[bytes, Manifest]:
        model = onnx.load(self._file)
        model.producer_version = str(number)  # other bytes, the same answers
        data = bytes(model.SerializeToString())
        inputs = np.random.default_rng(number).standard_normal((GOLDEN_SAMPLES, SMALL.features))
        golden = inputs.astype(np.float32)
        now = time.time()
        variant = Variant(
            artefact=describe(data, 16_384, "int8", may_pack=False),
            calibration=Calibration(1.0, 0.0),
            scores=Tensor.of(_scores(self._file, golden)),
            tolerance=1.0,
        )
        release = Release(
            pipeline=SMALL.name,
            version=str(number),
            labels=LABELS,
            input_shape=(SMALL.features,),
            scores="logits",
            golden=Tensor.of(golden),
            variants=(variant,),
        )
        return data, Manifest(
            channel=CHANNEL,
            key_epoch=1,
            seq=number,
            issued=now,
            expires=now + 3600,
            state="active",
            release=release,
            rollout=Rollout(id=f"bench-{number}", salt="bench", share=1.0),
        )


def _scores(file: Path, inputs: Floats) -> Floats:
    spec = ModelSpec("golden", "0", "", LABELS, "logits", Calibration(1.0, 0.0))
    return Model.load(file, spec, Inputs.plain((SMALL.features,)), threads=1).scores(inputs)
