"""Carries a node's channel from one release to the next.

A manifest goes to ``acceptance.py``, what it offers to ``under_way.py``; what a crash has cut off
there, ``resumption.py`` begins anew. Here they are joined, for the node to call.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from shared.config import PipelineConfig, ReleasesConfig
from shared.metrics import NodeMetrics
from shared.model import RUNTIME_VERSION, Model
from shared.releases.acceptance import Acceptance
from shared.releases.blobs import BlobStore
from shared.releases.complaints import Complaints
from shared.releases.course import Course
from shared.releases.health import Health
from shared.releases.journal import Journal
from shared.releases.manifest import Void
from shared.releases.offers import Offers
from shared.releases.place import Place
from shared.releases.reconciliation import Reconciliation
from shared.releases.record import ChannelFile
from shared.releases.reports import Reports
from shared.releases.resumption import Resumption
from shared.releases.ruling import Host
from shared.releases.standing import Standing
from shared.releases.trust import Trusts
from shared.releases.under_way import UnderWay
from shared.releases.vetting import Vetting


class Updater:
    """Follows one channel for one pipeline.

    The node calls ``poll`` each turn; what ``serving`` is then serves from the next batch on.

    Args:
        config: the channel.
        pipeline: what the model must fit.
        place: where it works.
        trusts: whose signatures count.
        metrics: what is counted.
        rng: jitter.
        clock: seconds since 1970, as far as the machine knows.
    """

    def __init__(
        self,
        *,
        config: ReleasesConfig,
        pipeline: PipelineConfig,
        place: Place,
        trusts: Trusts,
        metrics: NodeMetrics,
        rng: random.Random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        channel, topics = config.channel, place.topics
        self._min_samples = config.probation.min_samples
        self._reports = Reports(place.link, topics.updates(place.node, channel))
        self._journal = journal = Journal(
            ChannelFile.of(place.state_dir, channel),
            node=place.node,
            channel=channel,
            metrics=metrics,
            publish=self._reports.publish,
        )
        complaints = Complaints(channel)
        vetting = Vetting(channel, trusts, journal, clock)
        blobs = BlobStore(place.state_dir / "models" / channel)
        self._course = Course(
            config=config,
            pipeline=pipeline,
            journal=journal,
            blobs=blobs,
            work=place.state_dir / "work" / channel,
            threads=place.threads,
            utc_s=vetting.utc_s,
        )
        self._standing = standing = Standing(channel, journal, blobs, self._course.load)
        self._reconciliation = Reconciliation(
            place.link,
            topics.releases(channel),
            channel=channel,
            journal=journal,
            utc_s=vetting.utc_s,
            metrics=metrics,
            complaints=complaints,
        )
        self._under_way = UnderWay(
            channel=channel,
            journal=journal,
            standing=standing,
            course=self._course,
            vetting=vetting,
            reconciliation=self._reconciliation,
            complaints=complaints,
        )
        offers = Offers(place, blobs, standing, metrics, rng=rng, deadline_s=config.deadline_s)
        self._acceptance = Acceptance(
            _host(config, pipeline, place),
            journal=journal,
            standing=standing,
            under_way=self._under_way,
            offers=offers,
            vetting=vetting,
            metrics=metrics,
            complaints=complaints,
        )
        self._resumption = Resumption(
            place.link,
            journal=journal,
            standing=standing,
            under_way=self._under_way,
            offers=offers,
            vetting=vetting,
        )

    def start(self) -> None:
        """Loads the committed release, if there is one, and settles what a crash left open.

        Raises:
            StorageError: the disk does not give the record.
        """
        self._journal.load()
        self._resumption.start()
        self._standing.start()

    def begin_with(self, model: Model) -> None:
        """Lets a model serve until the first release, and again should that be rolled back."""
        self._standing.model = model

    @property
    def serving(self) -> Model | None:
        """The model that is to serve from the next batch on; None while there is none."""
        return self._under_way.serving

    @property
    def void(self) -> Void | None:
        """What is said of the certificates of what serves; None where they are not void."""
        return self._under_way.void

    def on_connected(self, now_s: float) -> None:
        """Subscribes, and publishes the last report again: the broker may have lost it."""
        with self._under_way.guarded(now_s):
            self._resumption.on_connected(now_s)
        self._reconciliation.ask(now_s)
        self._journal.say()

    def on_manifest(self, envelope: bytes, now_s: float) -> None:
        """Takes a manifest: verifies it, then does what the rules say."""
        # An emptied retained message is not an uninstall.
        if envelope:
            with self._under_way.guarded(now_s):
                self._acceptance.take(envelope, now_s)

    def on_chunk(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk, if it belongs to the update under way."""
        with self._under_way.guarded(now_s):
            self._under_way.on_chunk(sha256, index, data, now_s)

    def poll(self, health: Health, now_s: float) -> None:
        """Goes as far as it can.

        Args:
            health: what the pipeline has counted so far.
            now_s: monotonic.
        """
        self._reconciliation.poll(now_s)
        self._reports.poll()
        if self._under_way.release is None:
            self._rest(health, now_s)
            return
        with self._under_way.guarded(now_s):
            self._under_way.advance(health, now_s)

    def _rest(self, health: Health, now_s: float) -> None:
        """Does what there is time for while no update is under way."""
        self._journal.catch_up(now_s)
        self._course.note(health, now_s)
        self._standing.prune()
        self._standing.believe(health.samples, self._min_samples)
        with self._under_way.guarded(now_s):
            self._resumption.repair(now_s)

    def reconcile(self, now_s: float) -> None:
        """Has the broker deliver the retained manifest once more."""
        self._reconciliation.ask(now_s)

    @property
    def busy(self) -> bool:
        """Whether something goes on that wakes no socket: a child process, a thread, a jitter."""
        return self._under_way.busy

    def farewell(self) -> None:
        """Notes that the node stops on purpose: that speaks against no model."""
        self._standing.forgive()
        self._under_way.farewell()

    def close(self) -> None:
        """Ends child and thread; without a farewell before it, as a crash would."""
        self._under_way.stop()
        self._course.close()


def _host(config: ReleasesConfig, pipeline: PipelineConfig, place: Place) -> Host:
    return Host(
        site=place.topics.site,
        node=place.node,
        channel=config.channel,
        pipeline=place.pipeline,
        input_shape=pipeline.layout.shape,
        max_artifact_bytes=config.max_artifact_bytes,
        runtime=RUNTIME_VERSION,
        memory_bytes=None,
    )
