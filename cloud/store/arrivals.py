"""What messages of telemetry hold, read into rows. Pure."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from cloud.store.records import Row, Sample, read_record
from shared.cascade.sizes import MAX_VERSION_CHARACTERS
from shared.errors import PayloadError
from shared.messages import GateCount, SampleLabel, Telemetry
from shared.topics import MAX_NAME, NAME

MAX_COUNT = 2**53

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrived:
    """A message of telemetry.

    Attributes:
        site: whence it comes, by its topic.
        telemetry: the message.
    """

    site: str
    telemetry: Telemetry

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by when it comes again: site, sender, batch."""
        return self.site, self.telemetry.sender, self.telemetry.batch

    @property
    def is_named(self) -> bool:
        """Whether its batch has a name that can be stored."""
        return 0 < len(self.telemetry.batch) <= MAX_NAME and "\0" not in self.telemetry.batch


@dataclass(frozen=True)
class SiteLabel:
    """A person's label, and the site whose sample it is about."""

    site: str
    label: SampleLabel


@dataclass
class Content:
    """What messages hold.

    Attributes:
        samples: records that are sound.
        counts: rows of gate counts, without number and time.
        labels: of people.
        broken: how many records and counts were left out.
    """

    samples: list[Sample] = field(default_factory=list)
    counts: list[Row] = field(default_factory=list)
    labels: list[SiteLabel] = field(default_factory=list)
    broken: int = 0


def read_arrivals(arrivals: Sequence[Arrived]) -> Content:
    """Reads messages. What is broken in them is left out, said and counted."""
    content = Content()
    for each in arrivals:
        telemetry = each.telemetry
        for record in telemetry.records:
            try:
                content.samples.append(read_record(record, each.site))
            except PayloadError as error:
                content.broken += 1
                log.warning("record %r of %s: %s", record.sample.id, telemetry.sender, error)
        for count in telemetry.counts:
            if _is_sound(count):
                content.counts.append(_count_row(count, each.site))
            else:
                content.broken += 1
        content.labels += [SiteLabel(each.site, label) for label in telemetry.labels]
    return content


def _is_sound(count: GateCount) -> bool:
    names = (count.node, count.pipeline)
    version = count.model_version
    return (
        all(map(NAME.fullmatch, names))
        and len(version) <= MAX_VERSION_CHARACTERS
        and "\0" not in version
        and 0 <= count.unsure <= count.seen <= MAX_COUNT
        and 0 <= count.drift_alarms <= MAX_COUNT
    )


def _count_row(count: GateCount, site: str) -> Row:
    return {
        "pipeline": count.pipeline,
        "site": site,
        "node": count.node,
        "model_version": count.model_version,
        "seen": count.seen,
        "unsure": count.unsure,
        "certificate": count.certificate,
        "drift_alarms": count.drift_alarms,
    }
