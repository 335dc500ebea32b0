"""The trust document in force, on the disk of a node. Versions are added and never changed."""

from __future__ import annotations

import logging
from pathlib import Path

from shared.durable import clear_unfinished, write_durably
from shared.errors import ArtefactError, ConfigError, StorageError
from shared.files import put_aside, read_file
from shared.releases.trust import Trust, open_first, open_next

SUFFIX = ".trust"

log = logging.getLogger(__name__)


class TrustStore:
    """Every version of the trust document that this node has seen.

    Args:
        installed: the trust file that the node was installed with.
        state_dir: the node's folder; every version is kept in ``trust/`` in it.

    Attributes:
        envelopes: the signed documents that are here, by version.
    """

    def __init__(self, installed: Path, state_dir: Path) -> None:
        self.envelopes: dict[int, bytes] = {}
        self._installed = installed
        self._folder = state_dir / "trust"
        self._current: Trust | None = None

    @property
    def current(self) -> Trust:
        """The version in force.

        Raises:
            RuntimeError: nothing was loaded.
        """
        if self._current is None:
            raise RuntimeError("load() comes first")
        return self._current

    def load(self) -> None:
        """Reads the installed document and what came after it.

        Raises:
            ConfigError: the installed one cannot be used.
            StorageError: the installed one cannot be read.
        """
        envelope = read_file(self._installed)
        try:
            self._take(open_first(envelope), envelope)
        except ArtefactError as error:
            raise ConfigError(
                f"{self._installed} is no trust file: {error}. "
                "Fix: take the one that `escalon keys` has written"
            ) from error
        self._keep_installed(envelope)
        while self._load_next():
            pass
        clear_unfinished(self._path(self.current.version))
        clear_unfinished(self._path(self.current.version + 1))

    def _keep_installed(self, envelope: bytes) -> None:
        """Keeps the installed version for those below: the file may be replaced by a later one."""
        version = self.current.version
        try:
            if not self._path(version).exists():
                write_durably(self._path(version), envelope)
            for older in range(1, version):
                if self._path(older).exists():
                    self.envelopes[older] = read_file(self._path(older))
        except StorageError as error:
            log.error("older trust versions cannot be handed down: %s", error)

    def add(self, envelope: bytes) -> Trust:
        """Takes the next version: on the disk first, then in force.

        Args:
            envelope: bytes from anywhere.

        Returns:
            The version that is in force now: it, or one behind it that the disk has.

        Raises:
            SignatureError: too few of the old or of the new root keys have signed it.
            ManifestError: it is not the next version, or contradicts itself.
            StorageError: the disk does not take it.
        """
        trust = open_next(envelope, self.current)
        write_durably(self._path(trust.version), envelope)
        self._take(trust, envelope)
        while self._load_next():  # what the disk had kept behind one that it had damaged
            pass
        trust = self.current
        log.warning("trust version %d is in force, key epoch %d", trust.version, trust.key_epoch)
        return trust

    def _load_next(self) -> bool:
        path = self._path(self.current.version + 1)
        try:
            envelope = path.read_bytes()
            self._take(open_next(envelope, self.current), envelope)
        except FileNotFoundError:
            return False
        except (OSError, ArtefactError) as error:
            # It comes again from the broker.
            put_aside(path, f"cannot be used ({error})")
            return False
        return True

    def _take(self, trust: Trust, envelope: bytes) -> None:
        self._current = trust
        self.envelopes[trust.version] = envelope

    def _path(self, version: int) -> Path:
        return self._folder / f"{version}{SUFFIX}"
