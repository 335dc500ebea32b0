"""A node's part around an updater, without the node: time, clock and health are the test's."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from shared.config import InputConfig, PipelineConfig, ReleasesConfig
from shared.messages import UpdateReport, from_json
from shared.metrics import NodeMetrics
from shared.model import Model
from shared.releases.blobs import chunked
from shared.releases.clock import BUILT_S
from shared.releases.health import Health
from shared.releases.machine import State
from shared.releases.manifest import Manifest, sign_manifest
from shared.releases.place import Place
from shared.releases.record import ChannelFile, ChannelRecord
from shared.releases.trust_follower import TrustFollower
from shared.releases.trust_store import TrustStore
from shared.releases.updater import Updater
from shared.topics import Topics
from tests.builders import (
    CHANNEL,
    CHUNK_BYTES,
    GOLDEN_INPUTS,
    SHAPE,
    Trusted,
    diagonal_onnx,
    file_of,
    manifest,
)
from tests.fakes import FakeBroker, FakeLink, wait_until

TOPICS = Topics("escalon", "site-a")
PROBATION_S = 10.0
DEADLINE_S = 100.0
WHOLE_COURSE = [
    "OFFERED", "FETCHING", "VERIFIED", "STAGED", "SMOKE", "ACTIVATING", "PROBATION", "COMMITTED",
]  # fmt: skip


def model_of(seq: int) -> bytes:
    """Returns the artefact of a release: its gain is its seq."""
    return diagonal_onnx(float(seq))


def release(number: int, data: bytes | None = None, **changes: Any) -> Manifest:
    """Returns the release with this seq and the artefact of that number, with changes."""
    data = model_of(number) if data is None else data
    return manifest(data, gain=float(number), **{"seq": number, "version": str(number), **changes})


def gated(samples: int, unsure: int) -> Health:
    """Returns what a node counts whose gate has not accepted some of its samples."""
    return Health(batches=samples, samples=samples, gated_samples=samples, unsure_samples=unsure)


class Station:
    """A node's part around an updater: hands on messages, puts a returned model in place.

    Args:
        folder: the node's; it exists.
        key: signs what ``publish`` publishes.
        hub: the broker.
        trust: the signed document that is followed; empty for a fixed trust in ``key``.
        node: its name.
        config: of the channel.
    """

    def __init__(
        self,
        folder: Path,
        key: Ed25519PrivateKey,
        hub: FakeBroker,
        *,
        trust: bytes = b"",
        node: str = "tier1-a",
        **config: Any,
    ) -> None:
        if trust or not (folder / "trust.signed").exists():
            (folder / "trust.signed").write_bytes(trust)
        releases = ReleasesConfig(
            channel=CHANNEL,
            trust=folder / "trust.signed",
            probation_s=PROBATION_S,
            deadline_s=DEADLINE_S,
            **config,
        )
        self.pipeline = PipelineConfig(input=InputConfig(shape=SHAPE), releases=releases)
        self.folder = folder
        self.node = node
        self.key = key
        self.hub = hub
        self.link = FakeLink(hub)
        self.metrics = NodeMetrics(CollectorRegistry())
        self.health = Health(0, 0)
        self.trusted = Trusted(key)
        self._follows = bool(trust)
        self.now_s = 1000.0
        self.utc_s = BUILT_S + 1000.0
        self.follower = TrustFollower(
            TrustStore(folder / "trust.signed", folder),
            self.link,
            TOPICS,
            self.metrics,
            lambda: self.updater.reconcile(self.now_s),
        )
        self.updater = Updater(
            config=releases,
            pipeline=self.pipeline,
            place=Place(node, "meter", folder, self.link, TOPICS),
            trusts=self.follower if trust else self.trusted,
            metrics=self.metrics,
            rng=random.Random(1),
            clock=lambda: self.utc_s,
        )
        self.model: Model | None = None

    def start(self) -> None:
        if self._follows:
            self.follower.start()
        self.updater.start()
        self.model = self.updater.serving
        self.updater.on_connected(self.now_s)

    def turn(self) -> None:
        """One turn of the node's loop."""
        for message in self.link.receive():
            chunk = TOPICS.blob_chunk(message.topic)
            if self._follows and self.follower.on_message(message.topic, message.payload):
                continue
            if chunk is not None:
                self.updater.on_chunk(*chunk, message.payload, self.now_s)
            else:
                self.updater.on_manifest(message.payload, self.now_s)
        self.updater.poll(self.health, self.now_s)
        self.model = self.updater.serving

    def run_to(self, state: State, seq: int) -> None:
        """Takes turns until a release is in a state; time passes only in the jitter."""

        def there() -> bool:
            if self.state != (state, seq):
                self.turn()
            if self.state == (State.OFFERED, seq) and state is not State.OFFERED:
                self.now_s += 1.0
            return self.state == (state, seq)

        wait_until(there, f"seq {seq} in {state}")

    def commit(self, seq: int) -> None:
        self.run_to(State.PROBATION, seq)
        self.now_s += PROBATION_S
        self.run_to(State.COMMITTED, seq)

    def settle(self) -> None:
        """Takes turns until nothing is under way and nothing arrives."""
        self.turn()
        wait_until(lambda: not self.link.receive(), "no message comes any more")

    def publish(self, described: Manifest, data: bytes, *, chunks: int | None = None) -> None:
        """Publishes a release, retained, with its first chunks."""
        self.publish_chunks(described, data, chunks=chunks)
        topic = TOPICS.releases(CHANNEL)
        self.hub.publish(topic, sign_manifest(described, [self.key]), retain=True)

    def publish_chunks(
        self, described: Manifest, data: bytes, *, chunks: int | None = None
    ) -> None:
        """Publishes the first chunks of a release, retained."""
        for index, part in enumerate(chunked(data, CHUNK_BYTES)[:chunks]):
            self.hub.publish(TOPICS.blob(file_of(described).sha256, index), part, retain=True)

    @property
    def reports(self) -> list[UpdateReport]:
        topic = TOPICS.updates(self.node, CHANNEL)
        return [from_json(payload, UpdateReport) for payload in self.hub.payloads(topic)]

    @property
    def state(self) -> tuple[State, int] | None:
        return (State(self.reports[-1].state), self.reports[-1].seq) if self.reports else None

    @property
    def version(self) -> str | None:
        return self.model.spec.version if self.model is not None else None

    @property
    def answers_rightly(self) -> bool:
        """Whether what serves gives the answers of the version that it says it is."""
        assert self.model is not None
        scores = self.model.scores(GOLDEN_INPUTS)
        return np.allclose(scores, np.float32(self.model.spec.version) * GOLDEN_INPUTS)

    @property
    def record(self) -> ChannelRecord:
        return ChannelFile.of(self.folder, CHANNEL).read()

    @property
    def active_envelope(self) -> bytes | None:
        active = self.record.active
        return None if active is None else active.envelope

    @property
    def blobs(self) -> set[str]:
        return {path.name for path in (self.folder / "models" / CHANNEL / "blobs").iterdir()}

    def drops(self, reason: str) -> float:
        value = self.metrics.registry.get_sample_value("edge_drops_total", {"reason": reason})
        return value or 0.0

    def die(self) -> None:
        """kill -9: the disk stays as it is. Child and thread, of this process here, are ended."""
        path = self.folder / "channels" / f"{CHANNEL}.record"
        kept = path.read_bytes() if path.exists() else None
        self.updater.close()
        if kept is not None:
            path.write_bytes(kept)
        self.link.disconnect()
        self.hub.links.remove(self.link)
