"""Puts the chunks of an artefact together: each of them is proved once more, then the whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from shared.errors import DigestError, StorageError
from shared.releases.artefact import Artefact
from shared.releases.incoming import Incoming, Slot
from shared.releases.packing import unpack_chunk


def put_together(incoming: Incoming, slots: Sequence[Slot], aside: Path) -> Path:
    """Writes the whole aside, or finds it where the chunks are, which need no unpacking.

    Args:
        incoming: holds every chunk.
        slots: how each of them is there.
        aside: where to write what has to be unpacked.

    Returns:
        The file that holds the whole.

    Raises:
        DigestError: the release is at fault: its chunks are the signed ones, the whole is not.
        StorageError: the disk changed chunks, or an older version from which they were copied.
            They are missing from now on.
        OSError: the disk does not do what it should.
    """
    incoming.sync()
    packed = incoming.artefact.encoding != "identity"
    try:
        with incoming.path.open("rb") as file:
            if not packed:
                digest, changed = _join(incoming.artefact, slots, file, None)
            else:
                aside.parent.mkdir(parents=True, exist_ok=True)
                with aside.open("wb") as whole:
                    digest, changed = _join(incoming.artefact, slots, file, whole)
    except DigestError:
        incoming.forget()
        raise
    if changed or digest != incoming.artefact.sha256:
        raise _who_is_at_fault(incoming, slots, changed)
    return aside if packed else incoming.path


def _join(
    artefact: Artefact, slots: Sequence[Slot], file: BinaryIO, whole: BinaryIO | None
) -> tuple[str, list[int]]:
    """Returns the digest of all chunks, unpacked, and the indices of those that have changed."""
    digest, changed = hashlib.sha256(), []
    for index, slot in enumerate(slots):
        file.seek(index * artefact.chunk_bytes)
        if slot is Slot.UNPACKED:
            data = file.read(artefact.raw_size(index))
        else:
            data = file.read(artefact.wire_size(index))
            if hashlib.sha256(data).hexdigest() != artefact.chunks[index]:
                changed.append(index)
                continue
            data = unpack_chunk(artefact, index, data)
        digest.update(data)
        if whole is not None:
            whole.write(data)
    return digest.hexdigest(), changed


def _who_is_at_fault(
    incoming: Incoming, slots: Sequence[Slot], changed: Sequence[int]
) -> StorageError | DigestError:
    """Forgets what is not what it should be; returns the error that says so."""
    sha256 = incoming.artefact.sha256
    copied = [index for index, slot in enumerate(slots) if slot is Slot.UNPACKED]
    if not changed and not copied:
        incoming.forget()
        return DigestError(f"{sha256}: the whole is not what was signed")
    wrong = changed or copied
    for index in wrong:
        incoming.clear(index)
    whose = "" if changed else ", copied from an older version,"
    return StorageError(
        f"{len(wrong)} chunks of {sha256}{whose} were changed by the disk. Fix: they are fetched "
        "anew; if it happens again, replace the disk"
    )
