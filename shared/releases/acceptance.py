"""Takes the manifests of a channel: each is verified, ruled on, and the ruling carried out."""

from __future__ import annotations

import logging
from dataclasses import replace

from shared.errors import ArtefactError, StorageError
from shared.metrics import NodeMetrics
from shared.releases.complaints import Complaints
from shared.releases.course import End
from shared.releases.journal import Journal, Subject
from shared.releases.machine import Event
from shared.releases.manifest import Manifest
from shared.releases.memory import available_bytes
from shared.releases.offers import Offers
from shared.releases.record import Accepted, memory_of
from shared.releases.ruling import Host, Ruling, rule
from shared.releases.standing import Standing
from shared.releases.under_way import UnderWay
from shared.releases.vetting import Vetting


class Acceptance:
    """Does what ``ruling.py`` says about a manifest.

    Args:
        host: what a release must fit; its free memory is read anew each time.
        journal: the channel's record.
        standing: what is committed.
        under_way: the update that goes on, if one does.
        offers: makes the next one.
        vetting: whether a manifest counts.
        metrics: counts what is refused.
        complaints: says why.
    """

    def __init__(
        self,
        host: Host,
        *,
        journal: Journal,
        standing: Standing,
        under_way: UnderWay,
        offers: Offers,
        vetting: Vetting,
        metrics: NodeMetrics,
        complaints: Complaints,
    ) -> None:
        self._host = host
        self._journal = journal
        self._standing = standing
        self._under_way = under_way
        self._offers = offers
        self._vetting = vetting
        self._metrics = metrics
        self._complaints = complaints

    def take(self, envelope: bytes, now_s: float) -> None:
        """Takes a signed manifest from anywhere.

        Args:
            envelope: the signed bytes.
            now_s: monotonic.
        """
        try:
            manifest = self._vetting.open(envelope)
        except ArtefactError as error:
            self._complain(envelope, error)
            self._metrics.drops.labels(reason="release_refused").inc()
            return
        ruling = rule(
            manifest,
            self._journal.record,
            self._under_way.release,
            self._standing.release,
            replace(self._host, memory_bytes=available_bytes()),
            serves=self._under_way.serving is not None,
            now_s=self._vetting.utc_s(),
            void=self._standing.void,
        )
        self._carry_out(ruling, Accepted(envelope), manifest, now_s)

    def _complain(self, envelope: bytes, error: ArtefactError) -> None:
        if self._vetting.was_accepted(envelope):
            text = "the keys have changed since this manifest was accepted, a new one is awaited"
            self._complaints.say(f"{text}: {error}", logging.WARNING)
        else:
            self._complaints.say(f"release refused: {error}")

    def _carry_out(
        self, ruling: Ruling, accepted: Accepted, manifest: Manifest, now_s: float
    ) -> None:
        if ruling.ends is not None:
            self._under_way.end(End(*ruling.ends), now_s)
        match ruling.act:
            case "ignore":
                return
            case "hold":
                self._under_way.hold()
            case "offer":
                self._under_way.begin(self._offers.make(accepted, manifest, now_s), now_s)
                if ruling.refusal:
                    self._under_way.end(End(Event.REJECT, ruling.refusal), now_s)
            case _:
                self._remember(ruling, accepted, manifest, now_s)

    def _remember(
        self, ruling: Ruling, accepted: Accepted, manifest: Manifest, now_s: float
    ) -> None:
        """Takes the number of a manifest that changes nothing of what serves or is under way."""
        record = self._journal.record
        memory = memory_of(manifest, record)
        if ruling.marks:
            memory |= self._standing.marked(accepted.envelope)
        try:
            if ruling.act == "adopt":
                self._under_way.adopt(accepted, manifest)
            elif ruling.act == "confirm":
                subject = Subject(manifest, "" if record.active is None else record.active.sha256)
                reason = "it runs already"
                self._journal.go(Event.CONFIRM, subject, now_s, reason, retry=False, **memory)
            else:
                self._journal.write(**memory)
        except StorageError as error:
            # What is under way goes on under its own number; the manifest is retained.
            self._complaints.say(f"seq {manifest.seq} not on disk: {error}")
            return
        if ruling.marks:
            self._standing.void = manifest.void
