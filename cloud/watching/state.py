"""What the cloud must not forget of what it watches: one file a pipeline, replaced whole."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cloud.record_file import read_record
from cloud.watching.finding import Test
from cloud.watching.reference import AuditReference, Moments
from shared.durable import write_durably

MAX_VERSIONS = 16
"""A rollback brings back the version before; of older ones nothing has to be known."""


class Alarm(msgspec.Struct, frozen=True):
    """A drift that was found.

    Attributes:
        test: which test found it.
        words: what it found.
        since_s: when, seconds since 1970.
        number: of the store's row that it was found at: samples behind it came after the drift.
    """

    test: Test
    words: str
    since_s: float
    number: int


class VersionWatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version, beside what the store holds.

    Attributes:
        version: of tier-1's model.
        began_s: since when it is watched, seconds since 1970.
        began_number: newest row of the store then.
        counts_after: its gate counts behind this row are watched.
        audits_after: its audited samples behind this row are watched.
        rate: its escalation rate in the beginning; None while that is not known.
        audits: its audited samples in the beginning; None while there are too few.
        alarm: the drift that was found; None for none.
        voided: whether its manifest was made to say so. If it no longer does, a person has
            ended the alarm.
    """

    version: str
    began_s: float
    began_number: int
    counts_after: int
    audits_after: int
    rate: Moments | None = None
    audits: AuditReference | None = None
    alarm: Alarm | None = None
    voided: bool = False


class UnderWay(msgspec.Struct, frozen=True):
    """A training that has begun, and of whose candidate nothing is decided yet.

    Attributes:
        version: that its candidate is to become.
        began_s: when it began, seconds since 1970.
        since_s: what came since then teaches and certifies, seconds since 1970.
        number: newest row of the store when it began.
    """

    version: str
    began_s: float
    since_s: float
    number: int


class WatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline's memory.

    Attributes:
        tried_s: when the last training began, seconds since 1970; None if there was none.
        trained_s: when the last one began whose candidate was taken or rejected.
        trained_number: newest row of the store then: samples behind it are new. One that failed
            has used nothing up.
        under_way: the training that is under way. If the cloud ends, it begins again.
        versions: what is known of them, the one that was watched last at the end.
    """

    tried_s: float | None = None
    trained_s: float | None = None
    trained_number: int = 0
    under_way: UnderWay | None = None
    versions: tuple[VersionWatch, ...] = ()

    def of(self, version: str) -> VersionWatch | None:
        """Returns what is known of a version, None if it was never watched."""
        return next((each for each in self.versions if each.version == version), None)

    def keeping(self, watch: VersionWatch) -> WatchRecord:
        """Returns the record with a version's watch as it is now."""
        others = [each for each in self.versions if each.version != watch.version]
        return msgspec.structs.replace(self, versions=(*others, watch)[-MAX_VERSIONS:])


class WatchFile:
    """The file of a pipeline's record.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> WatchRecord:
        """Returns the record, an empty one if there is none.

        Raises:
            StorageError: it cannot be read.
        """
        found = read_record(
            self._path, WatchRecord, "no record of what is watched",
            "Fix: move it away; drifts that go on are found again",
        )  # fmt: skip
        return found or WatchRecord()

    def write(self, record: WatchRecord) -> None:
        """Replaces the record.

        Raises:
            StorageError: it cannot be written; the old one still stands.
        """
        write_durably(self._path, msgspec.json.encode(record))
