"""The update that is under way on a channel, if there is one: it begins, goes on and ends here."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import EscalonError, SmokeError, StorageError
from shared.model import Model
from shared.releases.complaints import Complaints
from shared.releases.course import Course, End
from shared.releases.health import Health
from shared.releases.journal import Journal
from shared.releases.machine import AFTER_THE_SWAP, Event, State
from shared.releases.manifest import Manifest, Void
from shared.releases.reconciliation import Reconciliation
from shared.releases.record import Accepted, memory_of
from shared.releases.release import Release
from shared.releases.standing import Standing
from shared.releases.update import Update
from shared.releases.vetting import Vetting

MAX_STOPS = 2

log = logging.getLogger(__name__)


class UnderWay:
    """The place of one update at a time.

    Args:
        channel: the channel.
        journal: its record.
        standing: what serves beside it.
        course: takes its steps.
        vetting: whether it is still trusted.
        reconciliation: asks for what comes next.
        complaints: says what the disk does not take.

    Attributes:
        ended_s: when the last one ended, monotonic.
    """

    def __init__(
        self,
        *,
        channel: str,
        journal: Journal,
        standing: Standing,
        course: Course,
        vetting: Vetting,
        reconciliation: Reconciliation,
        complaints: Complaints,
    ) -> None:
        self.ended_s = -math.inf
        self._channel = channel
        self._journal = journal
        self._standing = standing
        self._course = course
        self._vetting = vetting
        self._reconciliation = reconciliation
        self._complaints = complaints
        self._update: Update | None = None
        self._holds = False

    @property
    def release(self) -> Release | None:
        """What is to serve; None while no update is under way."""
        return None if self._update is None else self._update.release

    @property
    def serving(self) -> Model | None:
        """The model that is to serve from the next batch on: the new one from the swap on."""
        if self._update is not None and self._update.model is not None:
            return self._update.model
        return self._standing.model

    @property
    def void(self) -> Void | None:
        """What is said of the certificates of the release that ``serving`` is of."""
        if self._update is not None and self._update.model is not None:
            return self._update.manifest.void
        return self._standing.void

    @property
    def busy(self) -> bool:
        """Whether something goes on that wakes no socket: a child process, a thread, a jitter."""
        if self._update is None:
            return False
        fetches = self._journal.record.state is State.FETCHING
        return not fetches or any(fetch.busy for fetch in self._update.fetches)

    def begin(self, update: Update, now_s: float) -> None:
        """Begins an update, if the disk takes the offer. None is under way."""
        self._update, self._holds = update, False
        record = self._journal.record
        if update.manifest.order > record.order:
            self._reconciliation.forget_failures()
        memory = memory_of(update.manifest, record)
        try:
            self._journal.go(
                Event.OFFER,
                update.subject,
                now_s,
                pending=update.accepted,
                retry=False,
                **memory,
            )
        except StorageError as error:
            log.error("%s: the offer is not on disk: %s", self._channel, error)
            self._update = None

    def hold(self) -> None:
        """Notes that a newer manifest waits for its end, and comes again then: it is retained."""
        self._holds = True

    def adopt(self, accepted: Accepted, manifest: Manifest) -> None:
        """Goes on in the name of a newer manifest of the same release.

        Raises:
            StorageError: it is not on disk; what is under way goes on under its own number.
        """
        update = self._update
        if update is None:
            return
        renewed = Accepted(accepted.envelope, update.accepted.sha256)
        self._journal.write(pending=renewed, **memory_of(manifest, self._journal.record))
        update.accepted, update.manifest = renewed, manifest

    def on_chunk(self, sha256: str, index: int, data: bytes, now_s: float) -> None:
        """Takes a chunk, if it is one of the update's.

        Raises:
            StorageError: the disk does not take it.
        """
        fetch = None if self._update is None else self._update.fetch_of(sha256)
        if fetch is not None:
            fetch.on_chunk(index, data, now_s)

    def advance(self, health: Health, now_s: float) -> None:
        """Goes as far as it can.

        Raises:
            EscalonError: a step failed.
        """
        update = self._update
        if update is None:
            return
        self._vetting.look_again(update)
        end = self._course.advance(update, health, self._standing.model, now_s)
        if end is not None and end.event is Event.COMMIT:
            self._commit(update, end, now_s)
        elif end is not None:
            self.end(end, now_s)

    @contextmanager
    def guarded(self, now_s: float) -> Iterator[None]:
        """What goes wrong in the block ends the update with its reason, never the node."""
        try:
            yield
        except EscalonError as error:
            log.error("%s: update failed: %s", self._channel, error)
            retry = isinstance(error, StorageError)
            quarantine = isinstance(error, SmokeError)
            self.end(End(Event.FAIL, str(error), retry, quarantine), now_s)

    def end(self, end: End, now_s: float) -> None:
        """Ends the update. A disk that does not take the end finds it again at the next start."""
        update = self._update
        if update is None:
            return
        if end.quarantine:
            self._standing.quarantine(update.accepted)
        self._journal.end(end.event, update.subject, now_s, end.reason, retry=end.retry, stops=0)
        self._leave(update, now_s)
        if end.retry and not self._holds:
            self._reconciliation.ask_later(now_s)  # not at once: it has just failed
        else:
            self._reconciliation.ask(now_s)  # a newer manifest may have come in the meantime

    def farewell(self) -> None:
        """Notes that the node stops on purpose: an update in its probation begins anew.

        Only a crash speaks against a model, and being stopped in its probation again and again:
        that may be somebody who sees it do harm.
        """
        record = self._journal.record
        if self._update is None or record.state not in AFTER_THE_SWAP:
            return
        if record.stops >= MAX_STOPS:
            reason = f"the node was stopped {record.stops + 1} times in its probation"
            self.end(End(Event.FAIL, reason, quarantine=True), self._journal.since_s)
            return
        try:
            self._journal.write(state=State.SMOKE, stops=record.stops + 1)
        except StorageError as error:
            self._complaints.say(str(error))

    def stop(self) -> None:
        """Ends what works for the update; without a farewell before it, as a crash would."""
        if self._update is not None:
            self._update.stop()

    def _commit(self, update: Update, end: End, now_s: float) -> None:
        """Makes the release the active one, on disk first; a disk that is full is asked again."""
        record = self._journal.record
        try:
            self._journal.go(
                Event.COMMIT,
                update.subject,
                now_s,
                end.reason,
                active=update.accepted,
                previous=record.previous if update.repairs else record.active,
                pending=None,
                retry=False,
                proven=end.proven,
                deaths=0,
                stops=0,
            )
        except StorageError as error:
            self._complaints.say(f"not committed yet: {error}")
            return
        if update.model is not None:
            self._standing.commit(update.model, update.manifest)
        self._leave(update, now_s)
        self._reconciliation.forget_failures()
        self._reconciliation.ask(now_s)  # a newer manifest may have come in the meantime

    def _leave(self, update: Update, now_s: float) -> None:
        update.stop()
        self._update, self.ended_s = None, now_s
        # What is tried again keeps its chunks.
        self._standing.has_leftovers = not self._journal.record.retry
