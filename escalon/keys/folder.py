"""A folder with the keys of a fleet and its trust documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.durable import write_durably
from shared.errors import ArtefactError, ConfigError
from shared.files import read_file
from shared.releases.keys import load_private_key, new_key_pem, public_hex
from shared.releases.trust import Trust, open_first

TRUST = "trust.signed"
RELEASE_KEY = "release.key"
OWNER_ONLY = 0o600


class NewKey(NamedTuple):
    """A key that is not on the disk yet.

    Attributes:
        name: of its file.
        pem: the file.
        key: the same.
    """

    name: str
    pem: bytes
    key: Ed25519PrivateKey

    @classmethod
    def make(cls, name: str) -> NewKey:
        """Makes a key."""
        pem = new_key_pem()
        return cls(name, pem, load_private_key(pem))


class KeyFolder:
    """Root keys, the release key, and every version of the trust document.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def trust_path(self) -> Path:
        """The newest trust document, which nodes and cloud are given."""
        return self.path / TRUST

    @property
    def release_key_path(self) -> Path:
        """The key that the cloud signs with."""
        return self.path / RELEASE_KEY

    def trust(self) -> Trust:
        """Returns the newest trust document.

        Raises:
            ConfigError: it is damaged.
            StorageError: it cannot be read.
        """
        try:
            return open_first(read_file(self.trust_path))
        except ArtefactError as error:
            raise ConfigError(f"{self.trust_path} cannot be used: {error}") from error

    def refuse_if_used(self) -> None:
        """Sees to it that no fleet's keys are overwritten.

        Raises:
            ConfigError: the folder holds keys or a trust document.
        """
        found = sorted(path.name for path in self.path.glob("*.key")) + sorted(
            path.name for path in self.path.glob("*.signed")
        )
        if found:
            raise ConfigError(
                f"{self.path} holds {', '.join(found)}: it belongs to a fleet already. "
                "Fix: name a new folder, or `escalon keys rotate`"
            )

    def install_release_key(self, name: str) -> None:
        """Makes a release key the one that the cloud is given.

        It is the last step. After a crash before it the cloud says at its start that nobody trusts
        its key, and the key's file is here.

        Args:
            name: of the key's file.

        Raises:
            StorageError: it cannot be read or written.
        """
        write_durably(self.release_key_path, read_file(self.path / name), mode=OWNER_ONLY)

    def root_keys(self, trust: Trust, others: Sequence[Path] = ()) -> list[Ed25519PrivateKey]:
        """Returns the root keys of a trust document that are here, or in files elsewhere.

        Args:
            trust: the document.
            others: files on another stick.

        Raises:
            ConfigError: a file holds no key, or fewer are here than it takes.
            StorageError: a file cannot be read.
        """
        paths = [*sorted(self.path.glob("root*.key")), *others]
        keys = [load_private_key(read_file(path), str(path)) for path in paths]
        by_public = {public_hex(key): key for key in keys}
        found = [key for public, key in by_public.items() if public in trust.root.keys]
        if len(found) < trust.root.threshold:
            raise ConfigError(
                f"{len(found)} of the {trust.root.threshold} root keys that it takes are in "
                f"{self.path}. Fix: give the others as --root-key FILE"
            )
        return found

    def publish(self, version: int, envelope: bytes, made: Sequence[NewKey]) -> None:
        """Writes new keys, then the trust document: under its number, and as the newest one.

        Args:
            version: of the document.
            envelope: it, signed, and found to be one that nodes accept.
            made: the keys that are new in it. Only their owner reads the files.

        Raises:
            StorageError: a file cannot be written.
        """
        for each in made:
            write_durably(self.path / each.name, each.pem, mode=OWNER_ONLY)
        write_durably(self.path / f"trust-{version}.signed", envelope)
        write_durably(self.trust_path, envelope)
