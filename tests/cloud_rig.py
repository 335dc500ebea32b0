"""The cloud's rollouts on a real folder and a broker in memory; its nodes do what is signed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from cloud.channel import Channel, Ticket
from cloud.director import Director
from cloud.fetchable import Fetchable
from cloud.press import Press
from cloud.registry import Registry
from cloud.releasing import Draft, ModelFile, register
from cloud.retained_file import RetainedFile
from cloud.rollout.fleet import FleetNode, NodeReport
from cloud.rollout.phases import Phase
from cloud.rollout.plan import RolloutPlan, Wave
from cloud.rollout.record import RolloutRecord
from cloud.signer import Signer
from cloud.version import TRAINER, Version
from shared.metrics import CloudMetrics
from shared.model_spec import Calibration
from shared.releases.machine import State
from shared.releases.manifest import Manifest, open_manifest
from shared.releases.rollout import takes_part
from shared.releases.trust import Trust
from shared.topics import Topics
from tests.builders import (
    CERTIFICATE,
    CHANNEL,
    CHUNK_BYTES,
    EPOCH_S,
    LABELS,
    diagonal_onnx,
    trust_in,
)
from tests.fakes import FakeBroker, FakeLink

TOPICS = Topics("escalon", "cloud")
CANARY_THEN_ALL = RolloutPlan(waves=(Wave(share=0, soak_s=0), Wave(share=1, soak_s=0)))
MAX_TURNS = 60


def draft(gain: float, **changes: Any) -> Draft:
    """Returns a draft of a model that answers each feature times a gain."""
    inputs = np.eye(3, dtype=np.float32)
    file = ModelFile(diagonal_onnx(gain), "fp32", Calibration(1.0, 0.8, CERTIFICATE), gain * inputs)
    whole: dict[str, Any] = {
        "pipeline": "meter", "channel": CHANNEL, "labels": LABELS, "files": (file,),
        "golden_inputs": inputs, "by": TRAINER,
    }  # fmt: skip
    return Draft(**(whole | changes))


class CloudRig:
    """One life of a cloud. Another one on the same folder and broker is its next start.

    Args:
        folder: of its state.
        key: signs.
        hub: the broker, which outlives it.
        plan: of the rollouts.
        now_s: seconds since 1970 when it starts.
        trust: whom the fleet trusts.
        fails: names of nodes on which every release but the first fails.
        nodes: so many follow the channel.
        bare: nodes have no model before version 1, and take that whatever the share.
        reports: key epoch and seq that nodes report, by name, whatever the broker has.

    Attributes:
        silent: nodes take what is offered, and say no more.
    """

    def __init__(
        self,
        folder: Path,
        key: Ed25519PrivateKey,
        hub: FakeBroker,
        *,
        plan: RolloutPlan = CANARY_THEN_ALL,
        now_s: float = EPOCH_S,
        trust: Trust | None = None,
        fails: tuple[str, ...] = (),
        nodes: int = 3,
        bare: bool = False,
        reports: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self.reports = reports or {}
        self.now_s = now_s
        self.fails = fails
        self.bare = bare
        self.silent = False
        self.trust = trust or trust_in(key)
        self.hub = hub
        self.link = FakeLink(hub)
        self.registry = Registry(folder / "registry")
        self.channel = Channel(CHANNEL, plan, folder / "rollouts", self.registry)
        self.signer = Signer(key, self.trust, release_days=90.0)
        self.director = Director(self.channel, self.signer, self._ticket)
        metrics = CloudMetrics(CollectorRegistry())
        self.fetchable = Fetchable(self.channel)
        retained = RetainedFile(folder / "retained.json")
        self.press = Press(self.registry.blobs, self.link, TOPICS, metrics.drops, retained)
        self.names = [f"node-{number}" for number in range(nodes)]
        self._tickets = 0

    def _ticket(self, now_s: float) -> Ticket:
        self._tickets += 1
        return Ticket(f"r-{int(now_s)}-{self._tickets}", "salt", now_s)

    def ticket(self) -> Ticket:
        """Returns the ticket of a rollout that a person begins."""
        return self._ticket(self.now_s)

    def start(self) -> None:
        """Reads what stands, and publishes it."""
        self.press.start()
        self.director.start()
        self._bring_out()

    def release(self, gain: float) -> Version:
        """Does what the trainer's course does with a candidate."""
        with self.channel.lock.claimed():
            version = register(draft(gain), self.registry, CHUNK_BYTES, self.now_s)
        self.director.propose(version.name)
        return version

    def turn(self, *, knows_fleet: bool = True) -> None:
        """Takes what the broker brings, then a turn, a second later."""
        self.now_s += 1
        for message in self.link.receive():
            self.press.take(message, self.now_s)
        fleet = self.fleet() if knows_fleet else None
        self.director.turn(fleet, self.press.out(CHANNEL), self.now_s, self.now_s)
        self._bring_out()
        self.press.poll(self.now_s)

    def _bring_out(self) -> None:
        releases = self.fetchable.news(self.director.newest, self.director.record)
        if releases is not None:
            self.press.keep(CHANNEL, releases, self.now_s)
        self.press.put(CHANNEL, self.director.newest, self.now_s)

    def until(self, *phases: Phase) -> RolloutRecord:
        """Turns until the rollout is in a phase and the broker has its manifest."""
        for _ in range(MAX_TURNS):
            self.turn()
            record = self.director.record
            if record is not None and record.phase in phases and record.seq:
                return record
        raise AssertionError(f"{phases} did not come; the rollout is {self.director.record}")

    def at_broker(self) -> Manifest | None:
        """Returns the manifest that nodes see; its signature is good."""
        envelope = self.hub.retained.get(TOPICS.releases(CHANNEL))
        return open_manifest(envelope, self.trust.releases) if envelope else None

    def fleet(self) -> list[FleetNode]:
        """Returns nodes that at once do what the broker's manifest says."""
        manifest = self.at_broker()
        return [FleetNode("plant", name, "arm", True, self._report(name, manifest))
                for name in self.names]  # fmt: skip

    def _report(self, name: str, manifest: Manifest | None) -> NodeReport | None:
        if name in self.reports:
            return NodeReport("r-lost", State.COMMITTED, order=self.reports[name])
        if manifest is None or manifest.state == "halted":
            return None
        is_first = self.bare and manifest.release.version == "1"
        if not is_first and not takes_part(manifest.rollout, "plant", name):
            return None
        if self.silent:
            return NodeReport(manifest.rollout.id, State.FETCHING)
        failed = name in self.fails and manifest.release.version != "1"
        state = State.ROLLED_BACK if failed else State.COMMITTED
        reason = "p95 latency rose" if failed else ""
        return NodeReport(manifest.rollout.id, state, reason, order=manifest.order)

    def seqs(self) -> list[int]:
        """Returns the numbers of all manifests that were signed."""
        return [
            seq
            for seq in range(1, self.registry.next_seq(CHANNEL))
            if self.registry.manifest(CHANNEL, seq)
        ]
