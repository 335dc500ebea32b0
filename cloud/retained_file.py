"""What the cloud may have left at its broker, on the disk: a broker keeps it for ever."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.durable import write_durably
from shared.files import read_if_there
from shared.messages import SCHEMA_VERSION, UNREADABLE, Public
from shared.releases.artefact import Artefact

log = logging.getLogger(__name__)


class Retained(Public, frozen=True):
    """What may be at the broker.

    Attributes:
        channels: files by channel.
    """

    channels: dict[str, tuple[Artefact, ...]]
    schema_version: int = SCHEMA_VERSION


class RetainedFile:
    """The file of that list. What it names and nothing needs is taken off at the next start.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._channels: dict[str, tuple[Artefact, ...]] = {}

    @classmethod
    def of(cls, state_dir: Path) -> RetainedFile:
        """Returns the file in a cloud's folder."""
        return cls(state_dir / "retained.json")

    def read(self) -> Mapping[str, tuple[Artefact, ...]]:
        """Returns the files by channel; nothing where there is no list, or a damaged one.

        Raises:
            StorageError: the disk does not give it.
        """
        data = read_if_there(self._path)
        if data is None:
            return self._channels
        try:
            self._channels = dict(msgspec.json.decode(data, type=Retained).channels)
        except UNREADABLE as error:
            log.error(
                "%s is damaged: chunks of older releases stay at the broker: %s", self._path, error
            )
        return self._channels

    def write(self, channels: Mapping[str, Mapping[str, Artefact]]) -> None:
        """Replaces the list; the same once more writes nothing.

        Args:
            channels: files by channel and digest.

        Raises:
            StorageError: it cannot be written; the old list still stands.
        """
        listed = {channel: tuple(files.values()) for channel, files in channels.items()}
        if listed != self._channels:
            write_durably(self._path, msgspec.json.encode(Retained(listed)))
            self._channels = listed
