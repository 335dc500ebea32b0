"""Begins anew what was cut off, or what the disk has lost since."""

from __future__ import annotations

from shared.mqtt.link import Link
from shared.releases.course import End
from shared.releases.journal import Journal
from shared.releases.machine import AFTER_THE_SWAP, Event, State
from shared.releases.manifest import read_manifest
from shared.releases.offers import Offers
from shared.releases.reconciliation import RECONCILE_S
from shared.releases.record import Accepted
from shared.releases.standing import Standing
from shared.releases.under_way import UnderWay
from shared.releases.vetting import Vetting


class Resumption:
    """Settles what the last life of a node has left open on a channel.

    Args:
        link: the broker that files come from.
        journal: the channel's record.
        standing: what is committed, and whether it is damaged.
        under_way: takes the update.
        offers: makes it.
        vetting: tells the time.
    """

    def __init__(
        self,
        link: Link,
        *,
        journal: Journal,
        standing: Standing,
        under_way: UnderWay,
        offers: Offers,
        vetting: Vetting,
    ) -> None:
        self._link = link
        self._journal = journal
        self._standing = standing
        self._under_way = under_way
        self._offers = offers
        self._vetting = vetting
        self._interrupted: Accepted | None = None
        self._repair_due_s = 0.0

    def start(self) -> None:
        """Settles an update that was cut off.

        One that was cut off after its swap is rolled back: it may be what killed the node. One that
        was cut off before begins anew at the next connection, with the chunks that are on disk.
        """
        record = self._journal.record
        if record.pending is None:
            return
        if record.state in AFTER_THE_SWAP:
            self._standing.quarantine(record.pending)
            self._journal.settle(Event.FAIL, "the node died while it was new")
        else:
            self._interrupted = record.pending
            self._standing.has_leftovers = False
            self._journal.assume(pending=None, state=State.IDLE, retry=True)

    def on_connected(self, now_s: float) -> None:
        """Begins the update anew that was cut off.

        Raises:
            ArtefactError: its manifest cannot be read any more.
        """
        accepted, self._interrupted = self._interrupted, None
        if accepted is not None:
            self._resume(accepted, now_s)

    def repair(self, now_s: float) -> None:
        """Fetches the active release again if something else serves in its place.

        Not too soon after an update has ended, or it was last tried. Call it while none goes on.

        Raises:
            ArtefactError: its manifest cannot be read any more.
        """
        accepted = self._standing.damaged
        due_s = max(self._repair_due_s, self._under_way.ended_s + RECONCILE_S)
        if accepted is not None and self._link.connected and now_s >= due_s:
            self._repair_due_s = now_s + RECONCILE_S
            self._resume(accepted, now_s)

    def _resume(self, accepted: Accepted, now_s: float) -> None:
        manifest = read_manifest(accepted.envelope)
        repairs = accepted == self._journal.record.active
        begun = Accepted(accepted.envelope)
        update = self._offers.make(begun, manifest, now_s, repairs=repairs)
        self._under_way.begin(update, now_s)
        if manifest.expires <= self._vetting.utc_s() and not repairs:
            self._under_way.end(End(Event.REJECT, "it has expired"), now_s)
