"""Which releases nodes of a channel may still have to fetch."""

from __future__ import annotations

import logging

from cloud.channel import Channel
from cloud.registry import Entry, Registry
from cloud.rollout.record import RolloutRecord
from shared.errors import EscalonError
from shared.releases.release import Release

log = logging.getLogger(__name__)


class Fetchable:
    """What nodes of a channel may fetch; looked up when a manifest is new, or the rollout.

    Args:
        channel: the channel.

    Attributes:
        trouble: why it cannot be told, in words; empty if it can.
    """

    def __init__(self, channel: Channel) -> None:
        self.trouble = ""
        self._channel = channel
        self._known: tuple[Entry | None, tuple[str, str] | None] | None = None

    def news(self, newest: Entry | None, record: RolloutRecord | None) -> list[Release] | None:
        """Returns the releases; None if nothing has changed, or the disk does not tell.

        Args:
            newest: manifest of the channel.
            record: of its rollout.
        """
        about = newest, None if record is None else (record.base, record.version)
        if about == self._known:
            return None
        try:
            releases = fetchable(self._channel)
        except EscalonError as error:
            trouble = f"{self._channel.name}: chunks of older releases stay at the broker: {error}"
            if trouble != self.trouble:
                log.error("%s", trouble)
            self.trouble = trouble
            return None
        self._known, self.trouble = about, ""
        return releases


def fetchable(channel: Channel) -> list[Release]:
    """Returns what nodes of a channel may fetch, the newest manifest's release last.

    That is the release before it, which nodes run that it was not offered to yet; and of the
    rollout, what is rolled out and what a rollback brings back.

    Args:
        channel: the channel.

    Raises:
        EscalonError: the disk does not tell, so nothing may be taken for superfluous.
    """
    record, registry = channel.read(), channel.registry
    published = _last_two(channel.name, registry)
    names = () if record is None else (record.base, record.version)
    versions = [registry.version(channel.name, name) for name in names if name]
    return [*(each.release for each in versions if each is not None), *reversed(published)]


def _last_two(channel: str, registry: Registry) -> list[Release]:
    """Returns the last two releases that manifests were signed of, the newer one first."""
    newest = registry.newest(channel)
    if newest is None:
        return []
    last = newest.manifest.release
    for seq in range(newest.manifest.seq - 1, 0, -1):
        entry = registry.manifest(channel, seq)
        if entry is not None and entry.manifest.release.digests != last.digests:
            return [last, entry.manifest.release]
    return [last]
