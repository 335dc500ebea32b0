"""Every version that was ever made, and every manifest that was ever signed. Nothing is changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from cloud.version import Version, check, decode, encode
from shared.durable import write_durably
from shared.errors import ArtefactError, NewerSchemaError, StorageError
from shared.files import BROKEN, put_aside, read_if_there
from shared.messages import UNREADABLE
from shared.releases.blobs import BlobStore
from shared.releases.envelope import body_of
from shared.releases.manifest import Manifest, read_manifest
from shared.releases.release import Release

VERSION, MANIFEST = ".json", ".release"

Whole = TypeVar("Whole")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A signed manifest in the registry."""

    envelope: bytes
    manifest: Manifest


class Registry:
    """A folder of versions, manifests, and the artefacts that they name.

    Versions are ``{channel}/versions/{version}.json``, manifests ``{channel}/{seq}.release``. A
    version is there as soon as its file is; its artefacts are written before it, and never
    deleted. Whatever is damaged is named, put aside as ``.broken``, and the rest goes on; its name
    or number is not given again. What a newer Escalon has written is not damaged: it stays where it
    is, and whoever asks for it is told. Nothing is verified here: it was signed here, and every
    node verifies for itself. Who writes holds the channel's lock (``channel.py``).

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.blobs = BlobStore(folder)
        self._names: dict[str, dict[int, str]] = {}

    # Versions

    def add_version(self, version: Version, artefacts: Sequence[bytes] = ()) -> Version:
        """Keeps a version; its artefacts first. The same once more changes nothing.

        Args:
            version: what.
            artefacts: files of its release that are not in the registry yet.

        Raises:
            ManifestError: no manifest could carry it; ``NewerSchemaError`` if a newer Escalon has
                written the version that has its name.
            StorageError: it cannot be written, a file of the release is missing, or another
                version has its name.
        """
        check(version)
        path = self._version_path(version.channel, version.name)
        there = self.version(version.channel, version.name)
        is_other = there is not None and there.release != version.release
        is_lost = there is None and path.with_suffix(BROKEN).exists()
        if is_other or is_lost:
            raise StorageError(
                f"{version.channel} has a version {version.name} already, and versions never "
                "change. Fix: give it another name"
            )
        described = {artefact.sha256: artefact for artefact in version.release.artefacts}
        for data in artefacts:
            self.blobs.add(data, described.get(hashlib.sha256(data).hexdigest()))
        for artefact in version.release.artefacts:
            if not self.blobs.has(artefact):
                raise StorageError(f"the registry has no file {artefact.sha256} of this version")
        if there is None:
            write_durably(path, encode(version))
        return there or version

    def version(self, channel: str, name: str) -> Version | None:
        """Returns a version, None if there is none.

        One whose file is damaged or lost is restored from a manifest that carries it, if any does.

        Raises:
            NewerSchemaError: a newer Escalon has written it.
            StorageError: the disk does not give it.
        """
        found = self._read_version(self._version_path(channel, name))
        return found or self._restored(channel, name)

    def versions(self, channel: str) -> list[Version]:
        """Returns the versions of a channel that can be read, oldest first."""
        found = []
        for path in (self._folder / channel / "versions").glob(f"*{VERSION}"):
            try:
                version = self._read_version(path) or self._restored(channel, path.stem)
            except (StorageError, NewerSchemaError) as error:
                log.error("%s", error)
                continue
            if version is not None:
                found.append(version)
        return sorted(found, key=lambda each: (each.made, each.name))

    def same_release(self, channel: str, release: Release) -> Version | None:
        """Returns the newest version that is this release but for its name, None if there is none.

        What was cut off after a version was kept finds it so when it is done again.
        """
        for version in reversed(self.versions(channel)):
            if msgspec.structs.replace(release, version=version.name) == version.release:
                return version
        return None

    def next_name(self, channel: str) -> str:
        """Returns the number after the highest that a version of a channel has for its name."""
        folder = self._folder / channel / "versions"
        stems = {path.stem for path in folder.glob("*") if path.suffix in (VERSION, BROKEN)}
        stems |= self.offered(channel)
        return str(max((int(each) for each in stems if each.isdecimal()), default=0) + 1)

    # Manifests

    def newest(self, channel: str) -> Entry | None:
        """Returns the newest manifest of a channel that is whole, None if there is none.

        Raises:
            NewerSchemaError: a newer Escalon has written it: an older one must not take its place.
            StorageError: the disk does not give it.
        """
        entries = (self.manifest(channel, seq) for seq in self._numbers(channel, MANIFEST))
        return next((entry for entry in entries if entry is not None), None)

    def manifest(self, channel: str, seq: int) -> Entry | None:
        """Returns a manifest; None if there is none, or it is damaged.

        Raises:
            NewerSchemaError: a newer Escalon has written it.
            StorageError: the disk does not give it.
        """
        path = self._manifest_path(channel, seq)
        return _whole(path, lambda data: Entry(data, read_manifest(data)))

    def next_seq(self, channel: str) -> int:
        """Returns the number after the highest that a file here has in a channel.

        Not all that was ever given, if the folder comes from a backup: see ``Channel.next_seq``.
        """
        return max(self._numbers(channel, MANIFEST, BROKEN), default=0) + 1

    def offered(self, channel: str) -> frozenset[str]:
        """Returns the names of all versions that a manifest was ever signed of."""
        return frozenset(filter(None, self._names_by_seq(channel).values()))

    def add_manifest(self, envelope: bytes) -> Entry:
        """Keeps a signed manifest of a version that is here.

        Raises:
            StorageError: it cannot be written, the version is not here, or a manifest with this
                seq is.
        """
        manifest = read_manifest(envelope)
        channel, release = manifest.channel, manifest.release
        version = self.version(channel, release.version)
        if version is None or version.release != release:
            raise StorageError(f"the registry has no such version {release.version} of {channel}")
        path = self._manifest_path(channel, manifest.seq)
        if path.exists():
            raise StorageError(f"{channel} has a manifest {manifest.seq} already")
        write_durably(path, envelope)
        return Entry(envelope, manifest)

    def _names_by_seq(self, channel: str) -> dict[int, str]:
        """Returns the version of each manifest, newest first; empty where it cannot be told.

        There is one more manifest with every wave, and none ever changes: each is looked into once.
        """
        known = self._names.setdefault(channel, {})
        seqs = self._numbers(channel, MANIFEST)
        for seq in seqs:
            if seq not in known:
                known[seq] = _version_in(read_if_there(self._manifest_path(channel, seq)))
        return {seq: known[seq] for seq in seqs}

    def _numbers(self, channel: str, *suffixes: str) -> list[int]:
        paths = (self._folder / channel).glob("*")
        found = {int(each.stem) for each in paths if each.suffix in suffixes and _is_number(each)}
        return sorted(found, reverse=True)

    def _manifest_path(self, channel: str, seq: int) -> Path:
        return self._folder / channel / f"{seq}{MANIFEST}"

    def _version_path(self, channel: str, name: str) -> Path:
        return self._folder / channel / "versions" / f"{name}{VERSION}"

    def _read_version(self, path: Path) -> Version | None:
        return _whole(path, decode)

    def _restored(self, channel: str, name: str) -> Version | None:
        for seq, version_name in self._names_by_seq(channel).items():
            entry = self.manifest(channel, seq) if version_name == name else None
            if entry is not None:
                manifest = entry.manifest
                note = f"restored from manifest seq {manifest.seq}"
                version = Version(
                    channel=channel, release=manifest.release, made=manifest.issued, by="unknown",
                    notes=note,
                )  # fmt: skip
                log.warning("version %s is %s", version.qualified, note)
                try:
                    write_durably(self._version_path(channel, name), encode(version))
                except StorageError as error:
                    log.error("it is restored again at the next start: %s", error)
                return version
        return None


def _is_number(path: Path) -> bool:
    return path.stem.isdecimal()


def _whole(path: Path, parse: Callable[[bytes], Whole]) -> Whole | None:
    """Returns what a file holds; None if there is none, or it is damaged and put aside."""
    data = read_if_there(path)
    if data is None:
        return None
    try:
        return parse(data)
    except NewerSchemaError as error:
        raise NewerSchemaError(f"{path}: {error}") from error
    except ArtefactError as error:
        put_aside(path, f"is damaged ({error})")
        return None


class _Named(msgspec.Struct):
    version: str


class _Brief(msgspec.Struct):
    """A manifest without all that is large in it."""

    release: _Named


def _version_in(envelope: bytes | None) -> str:
    try:
        return msgspec.json.decode(body_of(envelope or b""), type=_Brief).release.version
    except (ArtefactError, *UNREADABLE):
        return ""
