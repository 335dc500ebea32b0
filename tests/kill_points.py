"""Kills a fetch before and after every call by which it changes the disk, and looks what is left.

A program of its own, so that each life is a real process that dies by a real SIGKILL: it forks one
for each call. It prints how many there were; what does not hold ends it with an error.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.releases.artefact import Artefact
from shared.releases.blobs import BlobStore, chunked, describe
from shared.releases.packing import pack_chunk

CHUNK_BYTES = 2**14
DATA = bytes(each & 0x3F for each in random.Random(1).randbytes(2**16 + 100))
OLDER = describe(DATA[: 2 * CHUNK_BYTES], CHUNK_BYTES, "int8", may_pack=False)
PLAIN = describe(DATA, CHUNK_BYTES, "int8", may_pack=False)
PACKED = describe(DATA, CHUNK_BYTES, "int8")

CALLS = (
    (os, "pwrite"), (os, "fsync"), (os, "posix_fallocate"), (os, "truncate"),
    (Path, "mkdir"), (Path, "replace"), (Path, "unlink"),
)  # fmt: skip


def kill_at(number: int, *, after: bool) -> None:
    """Has this process die at its nth call; 0 for never."""
    count = 0

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            mine = count
            if mine == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*args, **kwargs)
            finally:
                if mine == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for owner, name in CALLS:
        setattr(owner, name, wrapped(getattr(owner, name)))


def fetch(blobs: BlobStore, artefact: Artefact, say: Callable[[int], object]) -> None:
    """Does what a fetch does, without the network."""
    for index in [] if blobs.has(artefact) else blobs.missing(artefact):
        raw = chunked(DATA, CHUNK_BYTES)[index]
        if artefact is PLAIN and index < len(OLDER.chunks):
            assert blobs.copy_chunk(artefact, index, OLDER, index)
        else:
            blobs.add_chunk(artefact, index, pack_chunk(raw) if artefact.wire_bytes else raw)
        say(index)
    blobs.assemble(artefact)


def live(folder: Path, artefact: Artefact, number: int, *, after: bool) -> tuple[bool, set[int]]:
    """Runs one life; returns whether it was killed, and which chunks it said it had."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        blobs = BlobStore(folder, keeps_packed=artefact is PACKED)
        kill_at(number, after=after)
        fetch(blobs, artefact, lambda index: os.write(writing, bytes([index])))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = set(pipe.read())
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    if not killed and status:
        raise SystemExit(f"a life ended with {status}")
    return killed, said


def check(folder: Path, artefact: Artefact, number: int, *, after: bool) -> bool:
    """Kills one fetch and has the next one go on; returns whether there was anything to kill."""
    BlobStore(folder).add(DATA[: 2 * CHUNK_BYTES])
    killed, said = live(folder, artefact, number, after=after)
    blobs = BlobStore(folder)
    if not blobs.has(artefact) and blobs.path(artefact.sha256).exists():
        raise SystemExit(f"call {number}: half an artefact is taken for a whole one")
    again, fetched = live(folder, artefact, 0, after=False)
    if again or fetched & said or blobs.path(artefact.sha256).read_bytes() != DATA:
        raise SystemExit(f"call {number}: {fetched & said} were fetched twice, or the whole is bad")
    if artefact is PACKED and not (folder / "packed" / artefact.sha256).exists():
        raise SystemExit(f"call {number}: the packed chunks are gone")
    for index in range(len(artefact.chunks)):
        blobs.chunk(artefact, index)
    blobs.prune({artefact.sha256})
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    if left - {artefact.sha256, f"{artefact.sha256}.map"}:
        raise SystemExit(f"call {number}: {left} was left behind")
    return killed


def main(folder: Path) -> None:
    """Kills at every call, for both kinds of artefact."""
    for artefact in (PLAIN, PACKED):
        number, killed = 0, True
        while killed:
            number += 1
            for after in (False, True):
                here = folder / f"{artefact.encoding}-{number}-{after}"
                killed = check(here, artefact, number, after=after)
        print(number - 1)  # noqa: T201 - its result


if __name__ == "__main__":
    main(Path(sys.argv[1]))
