"""Whom the fleet trusts, and the key that the cloud signs with: two files that people replace."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ArtefactError, ConfigError, EscalonError, StorageError
from shared.files import read_file
from shared.releases.keys import load_private_key, public_hex
from shared.releases.trust import MAX_TRUST_BYTES, Trust, open_next
from shared.releases.trust_store import TrustStore

LOOK_S = 2.0
MAX_KEY_BYTES = 16 * 2**10

Stamp = tuple[int, int, int] | None

log = logging.getLogger(__name__)


class Credentials:
    """The trust document in force and the release key that it names.

    Both files are looked at every few seconds, and read once they have rested between two looks.
    The next version comes into force together with a key that it names; until then, and while
    something is wrong with either file, what was in force stays so.

    Args:
        trust_path: the trust file.
        key_path: the release key.
        state_dir: the node's folder; every version of the document is kept in it.

    Attributes:
        trouble: what is wrong with the files, in words; empty for nothing.
    """

    def __init__(self, trust_path: Path, key_path: Path, state_dir: Path) -> None:
        self.trouble = ""
        self._trust_path = trust_path
        self._key_path = key_path
        self._store = TrustStore(trust_path, state_dir)
        self._key: Ed25519PrivateKey | None = None
        self._due_s = 0.0
        self._seen: tuple[Stamp, Stamp] | None = None
        self._read: tuple[Stamp, Stamp] | None = None

    def load(self) -> None:
        """Reads both.

        Raises:
            ConfigError: one cannot be used, or no node would trust what this cloud signs.
            StorageError: one cannot be read.
        """
        self._store.load()
        key = self._read_key()
        self._check(key, self.trust)
        self._key = key

    @property
    def key(self) -> Ed25519PrivateKey:
        """The release key.

        Raises:
            RuntimeError: nothing was loaded.
        """
        if self._key is None:
            raise RuntimeError("load() comes first")
        return self._key

    @property
    def trust(self) -> Trust:
        """The document in force."""
        return self._store.current

    @property
    def envelopes(self) -> Mapping[int, bytes]:
        """The signed documents that are here, by version."""
        return self._store.envelopes

    def look(self, now_s: float) -> bool:
        """Looks, now and then, whether other files were put there; returns whether they count now.

        Args:
            now_s: monotonic.
        """
        if now_s < self._due_s:
            return False
        self._due_s = now_s + LOOK_S
        stamps = _stamp(self._trust_path), _stamp(self._key_path)
        rests, self._seen = stamps == self._seen, stamps
        if stamps == self._read or not rests:
            return False
        try:
            is_new = self._take()
        except EscalonError as error:
            # What the disk has refused now it may give, or take, at the next look.
            self._read = None if isinstance(error, StorageError) else stamps
            self._say(f"{error}. Trust version {self.trust.version} stays in force")
            return False
        self._read, self.trouble = stamps, ""
        return is_new

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.error("%s", trouble)
        self.trouble = trouble

    def _take(self) -> bool:
        """Takes what is in the files; returns whether it is something else than before.

        Raises:
            ArtefactError: it is not the next version of the trust document.
            ConfigError: the key is none, or one that nobody would trust.
            StorageError: a file cannot be read, or the document not be kept.
        """
        envelope, key = read_file(self._trust_path, MAX_TRUST_BYTES), self._read_key()
        before = self.trust.version, public_hex(self.key)
        if envelope not in self.envelopes.values():
            self._check(key, self._next(envelope))
            self._store.add(envelope)
        self._check(key, self.trust)
        self._key = key
        return before != (self.trust.version, public_hex(key))

    def _next(self, envelope: bytes) -> Trust:
        try:
            return open_next(envelope, self.trust)
        except ArtefactError as error:
            wanted = self.trust.version + 1
            raise ConfigError(
                f"{self._trust_path} is not trust version {wanted}: {error}. Fix: put that there, "
                f"`trust-{wanted}.signed` of the folder that `escalon keys` has written"
            ) from error

    def _read_key(self) -> Ed25519PrivateKey:
        return load_private_key(read_file(self._key_path, MAX_KEY_BYTES), str(self._key_path))

    def _check(self, key: Ed25519PrivateKey, trust: Trust) -> None:
        role = trust.releases
        if public_hex(key) not in role.keys or role.threshold > 1:
            raise ConfigError(
                f"no node would trust {self._key_path}: it is not among the release keys of trust "
                f"version {trust.version}, or more than one key must sign. "
                "Fix: put the key there that `escalon keys` made with this trust file"
            )


def _stamp(path: Path) -> Stamp:
    """Returns what changes with a file's content, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
