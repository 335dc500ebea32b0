"""The course of one update: fetch → verify → stage → prove → activate → watch. Each call a step."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from shared.config import PipelineConfig, ReleasesConfig
from shared.messages import Tensor
from shared.model import Model
from shared.model_spec import ModelSpec
from shared.releases.baseline import Promise, Recent
from shared.releases.blobs import BlobStore
from shared.releases.choice import ChoiceLimits, choose
from shared.releases.health import Health
from shared.releases.journal import Journal
from shared.releases.loading import load_release
from shared.releases.machine import AFTER_THE_SWAP, Event, State
from shared.releases.manifest import Manifest
from shared.releases.memory import available_bytes, read_rss_bytes
from shared.releases.probation import Decision, Probation
from shared.releases.record import Accepted
from shared.releases.release import Release, Variant
from shared.releases.smoke import SmokeTest
from shared.releases.trial import Trial
from shared.releases.update import Update

BESIDE_ANOTHER = frozenset({State.SMOKE, *AFTER_THE_SWAP})


@dataclass(frozen=True)
class End:
    """How an update is to end.

    Attributes:
        event: what ends it.
        reason: why, in words.
        retry: the reason lies not in the release: the same manifest may be taken again.
        quarantine: the reason lies in the release: its files are not tried again.
        proven: the release has answered enough samples to be believed.
    """

    event: Event
    reason: str = ""
    retry: bool = False
    quarantine: bool = False
    proven: bool = False


class Course:
    """Takes updates along.

    Args:
        config: the channel.
        pipeline: what the model must fit.
        journal: the channel's record.
        blobs: the files.
        work: folder for child processes.
        threads: that a model may run; None for all that are worth having.
        utc_s: seconds since 1970, never earlier than is known for sure.
    """

    def __init__(
        self,
        *,
        config: ReleasesConfig,
        pipeline: PipelineConfig,
        journal: Journal,
        blobs: BlobStore,
        work: Path,
        threads: int | None,
        utc_s: Callable[[], float],
    ) -> None:
        self._config = config
        self._pipeline = pipeline
        self._journal = journal
        self._blobs = blobs
        self._work = work
        self._threads = threads
        self._utc_s = utc_s
        self._recent = Recent()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix=f"load-{config.channel}")

    def advance(
        self, update: Update, health: Health, running: Model | None, now_s: float
    ) -> End | None:
        """Goes as far as it can.

        Args:
            update: the update.
            health: what the pipeline has counted so far.
            running: the model that is committed.
            now_s: monotonic.

        Returns:
            How the update is to end, or None while it goes on.

        Raises:
            EscalonError: a step failed.
        """
        self.note(health, now_s)
        match self._journal.record.state:
            case State.OFFERED if now_s >= update.begins_s:
                self._go(update, Event.FETCH, now_s)
                for fetch in update.fetches:
                    fetch.begin(now_s)
            case State.FETCHING:
                return self._fetch(update, now_s)
            case State.VERIFIED:
                self._stage(update, now_s)
            case State.STAGED:
                self._go(update, Event.PROVE, now_s)
                update.smoke = SmokeTest(self._trials(update, running), self._work)
                update.smoke.start(now_s)
            case State.SMOKE:
                self._prove(update, now_s)
            case State.ACTIVATING:
                self._activate(update, health, running, now_s)
            case State.PROBATION:
                return self._watch(update, health, now_s)
        return None

    def note(self, health: Health, now_s: float) -> None:
        """Remembers how the model that serves does, as long as no other one is loaded beside it.

        Args:
            health: what the pipeline has counted so far.
            now_s: monotonic.
        """
        if self._journal.record.state not in BESIDE_ANOTHER:
            self._recent.note(health, now_s, read_rss_bytes)

    def load(self, accepted: Accepted, manifest: Manifest) -> Model:
        """Loads the file that was chosen of a release.

        Raises:
            ArtefactError: it does not load or does not fit.
        """
        path = self._blobs.path(accepted.sha256)
        return load_release(path, manifest, self._pipeline, self._threads)

    def close(self) -> None:
        """Ends the thread."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, update: Update, now_s: float) -> End | None:
        if all(fetch.complete for fetch in update.fetches):
            self._go(update, Event.VERIFY, now_s)
            return None
        if update.manifest.expires <= self._utc_s() and not update.repairs:
            return End(Event.TIME_OUT, "it expired while it was fetched")
        if now_s >= update.ends_s:
            reason = f"not complete after {self._config.deadline_s:g} s"
            return End(Event.TIME_OUT, reason, retry=True)
        for fetch in update.fetches:
            fetch.poll(now_s)
        return None

    def _stage(self, update: Update, now_s: float) -> None:
        """Puts the files together, aside: some have 64 MiB and more."""
        if update.assembling is None:
            update.assembling = self._loader.submit(self._assemble, update.release)
        if update.assembling.done():
            update.assembling.result()
            self._go(update, Event.STAGE, now_s)

    def _assemble(self, release: Release) -> None:
        for artefact in release.artefacts:
            self._blobs.assemble(artefact)

    def _trials(self, update: Update, running: Model | None) -> list[Trial]:
        """Returns what is tried: each file of the release, and beside them the one that runs."""
        trials = [
            self._trial(
                update.manifest.model_spec(variant.artefact.sha256),
                update.release.golden,
                variant,
            )
            for variant in update.release.variants
        ]
        if running is not None and self._journal.record.active is not None:
            trials.append(self._trial(running.spec, update.release.golden))
        return trials

    def _trial(self, spec: ModelSpec, golden: Tensor, variant: Variant | None = None) -> Trial:
        """Returns the trial of a file of the release; without a variant it is only measured."""
        layout = self._pipeline.layout
        return Trial(
            spec=spec,
            path=self._blobs.path(spec.sha256),
            input_shape=layout.shape,
            golden_inputs=golden,
            golden_scores=None if variant is None else variant.scores,
            tolerance=0.0 if variant is None else variant.tolerance,
            precision="fp32" if variant is None else variant.artefact.precision,
            inputs=layout.specs,
            batch_size=self._pipeline.batching.max_batch_size,
        )

    def _prove(self, update: Update, now_s: float) -> None:
        report = None if update.smoke is None else update.smoke.poll(now_s)
        if report is None:
            return
        limits = ChoiceLimits(available_bytes=available_bytes())
        choice = choose(report.results, report.running, limits)
        update.accepted = msgspec.structs.replace(update.accepted, sha256=choice.chosen.sha256)
        self._go(update, Event.ACTIVATE, now_s, choice.reason, pending=update.accepted)

    def _activate(
        self, update: Update, health: Health, running: Model | None, now_s: float
    ) -> None:
        """Loads the model beside the one that serves, and lets it serve.

        A load that kills the process has killed it in ACTIVATING, and is not tried again.
        """
        if update.model is not None:
            # The node has put the model in place since the last turn.
            self._go(update, Event.WATCH, now_s)
        elif update.loading is None:
            update.loading = self._loader.submit(self.load, update.accepted, update.manifest)
        elif update.loading.done():
            update.model = update.loading.result()
            # From this turn on all that is counted is the new model's.
            update.probation = self._probation(update, health, running, now_s)

    def _probation(
        self, update: Update, health: Health, running: Model | None, now_s: float
    ) -> Probation:
        baseline = self._recent.baseline(health) if running is not None else None
        self._recent.forget()
        variant = update.release.variant(update.accepted.sha256)
        return Probation(
            baseline=baseline,
            promise=Promise.of(variant.calibration, variant.artefact.size),
            limits=self._config.probation,
            probation_s=self._config.probation_s,
            before=health,
            now_s=now_s,
        )

    def _watch(self, update: Update, health: Health, now_s: float) -> End | None:
        if update.probation is None:
            return None
        verdict = update.probation.poll(health, now_s, read_rss_bytes)
        match verdict.decision:
            case Decision.ROLL_BACK:
                blames = verdict.blames_model
                return End(Event.FAIL, verdict.reason, retry=not blames, quarantine=blames)
            case Decision.COMMIT:
                return End(Event.COMMIT, verdict.reason, proven=not verdict.reason)
        return None

    def _go(
        self, update: Update, event: Event, now_s: float, reason: str = "", **changes: Accepted
    ) -> None:
        self._journal.go(event, update.subject, now_s, reason, **changes)
