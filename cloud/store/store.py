"""The telemetry store: what sites send up, kept for drift, certificates, training and people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cloud.store.arrivals import Arrived, SiteLabel
from cloud.store.counts import CountRow, Counts
from cloud.store.database import Database
from cloud.store.files import InputFiles
from cloud.store.found import Finder, FoundSample
from cloud.store.inputs import Inputs
from cloud.store.labels import KeptLabel, Labels, LabelTally
from cloud.store.news import News
from cloud.store.outline import Outline, OutlineReader
from cloud.store.queue import LabellingQueue, Queued
from cloud.store.retention import Retention, RetentionLimits
from cloud.store.sealing import Orphans, Sealing
from cloud.store.telemetry import Stored, TelemetryIn
from cloud.store.traffic import InputShares, Traffic, TrafficReader
from shared.errors import StorageError
from shared.scores import Floats

Numbers = Sequence[int] | NDArray[np.int64]

UNLIMITED = RetentionLimits(
    max_age_s=float("inf"), held_age_s=float("inf"), waiting_age_s=float("inf"), max_bytes=2**62
)


class TelemetryStore:
    """Rows in a database, inputs in files beside it.

    Several processes may add to one store; one of them does the upkeep.

    Args:
        url: SQLAlchemy URL of the database: SQLite's or PostgreSQL's.
        inputs: folder or URL of the inputs' files.
        classes: the labels that samples may have, by pipeline.
        limits: what it may hold.
    """

    def __init__(
        self,
        url: str,
        inputs: str,
        *,
        classes: Mapping[str, Sequence[str]] | None = None,
        limits: RetentionLimits = UNLIMITED,
    ) -> None:
        self._database = database = Database(url)
        self._files = files = InputFiles(inputs)
        known = dict(classes or {})
        self._labels = Labels(database, known)
        self._telemetry = TelemetryIn(database, self._labels)
        self._traffic = TrafficReader(database, known)
        self._inputs = Inputs(database, files)
        self._counts = Counts(database)
        self._news = News(database)
        self._outlines = OutlineReader(database)
        self._queue = LabellingQueue(database, known)
        self._finder = Finder(database)
        self._sealing = Sealing(database, files)
        self._orphans = Orphans(database, files)
        self._retention = Retention(database, files, limits)

    def open(self) -> None:
        """Connects and makes the tables where they are missing.

        Raises:
            StorageError: database or files cannot be opened.
        """
        self._files.open()
        self._database.open()

    def close(self) -> None:
        """Closes the connections."""
        self._database.close()

    # In

    def add(self, arrivals: Sequence[Arrived], now_s: float) -> Stored:
        """Stores messages of telemetry in one transaction, each once: all of them or none.

        Args:
            arrivals: the messages.
            now_s: seconds since 1970.

        Raises:
            RowsRefusedError: the database does not take one of them.
            StorageError: the database takes nothing now.
        """
        return self._telemetry.add(arrivals, now_s)

    def label(self, labels: Sequence[SiteLabel], now_s: float) -> LabelTally:
        """Keeps what people say that samples are; it outranks tier-2. Of two the later counts.

        A label of an unknown class is left out and counted (``check_label`` says why); one whose
        sample is not stored waits for it.

        Args:
            labels: at most some thousands.
            now_s: seconds since 1970.

        Raises:
            StorageError: the database does not take them.
        """
        return self._labels.add(labels, now_s)

    def check_label(self, pipeline: str, label: str) -> None:
        """Refuses what no sample of a pipeline can be.

        Raises:
            PayloadError: there is no such pipeline, or no such class in it.
        """
        self._labels.check(pipeline, label)

    # Out

    def traffic(
        self,
        pipeline: str,
        *,
        since_s: float = 0.0,
        after: int = 0,
        limit: int,
        tier1_version: str | None = None,
        audited_only: bool = False,
        newest: bool = False,
    ) -> Traffic:
        """Returns samples in columns, oldest first.

        Args:
            pipeline: the pipeline.
            since_s: those that came since then, seconds since 1970.
            after: those behind this number: read on with the last one of the page before.
            limit: at most so many.
            tier1_version: those of one version of tier-1 alone.
            audited_only: those that the audit drew alone.
            newest: where there are more than ``limit``, the newest of them, not the oldest.

        Raises:
            StorageError: the database does not answer.
        """
        return self._traffic.read(
            pipeline,
            since_s=since_s,
            after=after,
            limit=limit,
            tier1_version=tier1_version,
            audited_only=audited_only,
            newest=newest,
        )

    def inputs(self, numbers: Numbers, shape: tuple[int, ...]) -> Floats:
        """Returns the inputs of samples, in the order of the numbers; bytes become numbers.

        Args:
            numbers: of samples that have one, each once.
            shape: of one input.

        Returns:
            float32 [N, *shape].

        Raises:
            StorageError: one is not there, of another shape, or cannot be read.
        """
        return self._inputs.read([int(number) for number in numbers], shape)

    def fit(self, numbers: Numbers, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Returns which samples have an input of a shape, as ``inputs`` needs them.

        Args:
            numbers: of N samples.
            shape: of one input.

        Returns:
            bool [N].

        Raises:
            StorageError: the database does not answer.
        """
        return np.array(self._inputs.fit([int(number) for number in numbers], shape), np.bool_)

    def counts_after(self, pipeline: str, number: int, limit: int) -> list[CountRow]:
        """Returns gate counts behind a number, oldest first.

        Raises:
            StorageError: the database does not answer.
        """
        return self._counts.after(pipeline, number, limit)

    def newest(self) -> int:
        """Returns the newest number that was given; 0 if there is none.

        Raises:
            StorageError: the database does not answer.
        """
        return self._news.newest()

    def samples_after(self, pipeline: str, number: int, enough: int) -> int:
        """Returns how many samples came behind a number, ``enough`` at most.

        Raises:
            StorageError: the database does not answer.
        """
        return self._news.samples(pipeline, number, enough)

    def audits_after(
        self, pipeline: str, number: int, enough: int, tier2_version: str | None = None
    ) -> int:
        """Returns how many samples behind a number can certify, ``enough`` at most.

        That is those with an input that the audit drew.

        Args:
            pipeline: the pipeline.
            number: of a row.
            enough: no need to count further.
            tier2_version: those that one version of tier-2 answered alone; None for all.

        Raises:
            StorageError: the database does not answer.
        """
        return self._news.audits(pipeline, number, enough, tier2_version)

    def outline(
        self,
        pipeline: str,
        *,
        since_s: float,
        before: int | None,
        limit: int,
        tier2_version: str,
    ) -> Outline:
        """Returns what is to be known of samples before one reads them whole, newest first.

        Args:
            pipeline: the pipeline.
            since_s: those that came since then, seconds since 1970.
            before: those before this number: read on with the last one of the page before.
            limit: at most so many.
            tier2_version: those that one version of tier-2 answered alone.

        Raises:
            StorageError: the database does not answer.
        """
        return self._outlines.read(
            pipeline, since_s=since_s, before=before, limit=limit, tier2_version=tier2_version
        )

    def samples(self, pipeline: str, numbers: Numbers) -> Traffic:
        """Returns samples by their numbers, in columns, oldest first; those that are still there.

        Args:
            pipeline: the pipeline.
            numbers: of the samples.

        Raises:
            StorageError: the database does not answer.
        """
        return self._traffic.by_number(pipeline, [int(number) for number in numbers])

    def input_shares(self, pipeline: str, limit: int = 1000) -> InputShares:
        """Returns how many of the newest samples came with their input, and without.

        Raises:
            StorageError: the database does not answer.
        """
        return self._traffic.input_shares(pipeline, limit)

    def find(
        self, pipeline: str, sample_id: str, *, site: str | None = None, sensor: str | None = None
    ) -> list[FoundSample]:
        """Returns all that is stored of the samples with an id, newest first.

        Args:
            pipeline: the pipeline.
            sample_id: what their sensors call them.
            site: of their sensors; None for any.
            sensor: the sensor; None for any that sent something lately.

        Raises:
            StorageError: the database does not answer.
        """
        return self._finder.find(pipeline, sample_id, site=site, sensor=sensor)

    def queue(self, pipeline: str, daily_limit: int, now_s: float) -> list[Queued]:
        """Returns what people are asked to label today and have not yet, most informative first.

        Args:
            pipeline: the pipeline.
            daily_limit: so many a day.
            now_s: seconds since 1970.

        Raises:
            StorageError: the database does not answer.
        """
        return self._queue.today(pipeline, daily_limit, now_s)

    def asked_for(self, pipeline: str) -> NDArray[np.int64]:
        """Returns the numbers of what people were asked to label, labelled or not.

        It was asked for because it is hard, and is no sample of the traffic.

        Raises:
            StorageError: the database does not answer.
        """
        return self._queue.asked_for(pipeline)

    def labels(self, pipeline: str) -> Iterator[KeptLabel]:
        """Returns the labels of a pipeline, by site, sensor and id.

        Raises:
            StorageError: the database does not answer.
        """
        return self._labels.kept(pipeline)

    # Upkeep

    def upkeep(self, now_s: float) -> bool:
        """Moves inputs into files and removes what is past a limit, a bounded part of it.

        One process does this, in any thread.

        Args:
            now_s: seconds since 1970.

        Returns:
            Whether there may be more to do at once.

        Raises:
            StorageError: files or database do not answer, for a part of it; the rest is done.
        """
        more, trouble = False, None
        # Each has its turn, whatever befell the others: a full disk stops the sealing, and is what
        # the retention is for.
        for turn in (self._sealing.turn, self._retention.turn, self._orphans.turn):
            try:
                more |= turn(now_s)
            except StorageError as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble
        return more

    @property
    def lost_inputs(self) -> int:
        """How many held samples this life's upkeep found without their input: lost or damaged."""
        return self._retention.lost_inputs

    def stored_bytes(self) -> int:
        """Returns what rows and inputs take, about.

        Raises:
            StorageError: the database does not answer.
        """
        return self._retention.stored_bytes()
