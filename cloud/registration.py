"""A candidate on its way into the registry: kept until all of it is there."""

from __future__ import annotations

import logging
import shutil
from collections import deque
from pathlib import Path

from cloud.director import Director
from cloud.registry import Registry
from cloud.releasing import Draft, register
from cloud.training.candidate import Candidate
from shared.errors import ArtefactError, StorageError

AGAIN_S = 5.0
MAX_READS = 12
"""A folder that could not be read for so many tries, a minute, is damaged for good."""

log = logging.getLogger(__name__)


class Registration:
    """Makes a candidate the next version of its channels, and proposes each to its director.

    It waits for nobody: a channel that another process holds, and a disk that fails, are tried
    again after a pause. What is in the registry already is found there.

    Args:
        candidate: what was trained, and is wanted.
        directors: of tier-1's and tier-2's channel.
        registry: where it goes.
        chunk_bytes: size of the chunks in which its files travel.

    Attributes:
        trouble: what it waits for, in words; empty for nothing.
    """

    def __init__(
        self,
        candidate: Candidate,
        directors: tuple[Director, Director],
        registry: Registry,
        chunk_bytes: int,
    ) -> None:
        self.trouble = ""
        self._candidate = candidate
        self._tier1, tier2 = directors
        self._parents = _standing(directors)
        # Tier-2 first, for tier-1's threshold speaks of it.
        has_tier2 = candidate.report.tier2_calibration is not None
        self._waiting = deque([tier2, self._tier1] if has_tier2 else [self._tier1])
        self._registry = registry
        self._chunk_bytes = chunk_bytes
        self._again_s = 0.0
        self._reads = 0

    def poll(self, now_s: float, utc_s: float) -> bool:
        """Goes as far as it can; returns whether all of it is registered and proposed.

        Args:
            now_s: monotonic.
            utc_s: seconds since 1970.

        Raises:
            ArtefactError: the candidate fits nothing, or its folder is damaged for good and was put
                aside, so that the next training does not find it.
        """
        if now_s < self._again_s:
            return False
        try:
            while self._waiting:
                self._register(self._waiting[0], utc_s)
                self._waiting.popleft()
        except StorageError as error:
            self._again_s = now_s + AGAIN_S
            self._say(str(error))
        return not self._waiting

    def _register(self, director: Director, utc_s: float) -> None:
        """Registers one version, and proposes it.

        Raises:
            ArtefactError: it fits nothing, or cannot be read for good.
            StorageError: it cannot be read or kept now, or another process holds the channel.
        """
        draft = self._draft(director)
        with director.channel.lock.claimed(wait_s=0.0):
            version = register(draft, self._registry, self._chunk_bytes, utc_s)
        director.propose(version.name)

    def _draft(self, director: Director) -> Draft:
        channel = director.channel.name
        try:
            if director is self._tier1:
                draft = self._candidate.tier1(channel, self._parents)
            else:
                draft = self._candidate.tier2(channel)
        except StorageError as error:
            self._reads += 1
            if self._reads < MAX_READS:
                raise
            aside = _put_aside(self._candidate.folder)
            raise ArtefactError(f"the candidate in {aside} is given up: {error}") from error
        self._reads = 0
        return draft

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.error("a candidate waits: %s", trouble)
        self.trouble = trouble


def _put_aside(folder: Path) -> Path:
    """Gives a damaged folder another name; returns where it is."""
    aside = folder.with_name(f"{folder.name}.broken")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        return folder.replace(aside)
    except OSError as error:
        log.error("%s stays where it is: %s", folder, error.strerror)
        return folder


def _standing(directors: tuple[Director, Director]) -> tuple[str, ...]:
    """Returns what a new tier-1 version is made from: the one that runs, and its teacher."""
    standing = ((each.channel.name, each.standing) for each in directors)
    return tuple(f"{channel}/{version}" for channel, version in standing if version)
