"""Every chunk proves itself, and so does the whole."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DigestError, StorageError
from shared.releases.artefact import MAX_CHUNK_BYTES
from shared.releases.blobs import BlobStore, chunked, describe
from shared.releases.packing import pack_chunk
from tests.builders import sha256

DATA = bytes(range(256)) * 2 + b"and a shorter end"
ARTEFACT = describe(DATA, 100, "int8")
PARTS = chunked(DATA, 100)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path)


def fill(blobs: BlobStore, *, leave_out: tuple[int, ...] = ()) -> None:
    for index, part in enumerate(PARTS):
        if index not in leave_out:
            blobs.add_chunk(ARTEFACT, index, part)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_artefact_is_put_together_from_chunks_in_any_order(blobs: BlobStore) -> None:
    for index in reversed(range(len(PARTS))):
        assert not blobs.has(ARTEFACT)
        blobs.add_chunk(ARTEFACT, index, PARTS[index])
    blobs.assemble(ARTEFACT)
    assert blobs.has(ARTEFACT)
    assert blobs.path(ARTEFACT.sha256).read_bytes() == DATA


def test_once_whole_its_chunks_are_gone_and_assembling_again_is_nothing(
    blobs: BlobStore, tmp_path: Path
) -> None:
    fill(blobs)
    blobs.assemble(ARTEFACT)
    blobs.assemble(ARTEFACT)
    assert files(tmp_path) == {f"blobs/{ARTEFACT.sha256}"}


@given(st.data())
def test_a_chunk_with_one_flipped_bit_is_refused_and_leaves_no_trace(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    index = data.draw(st.integers(0, len(PARTS) - 1))
    position = data.draw(st.integers(0, len(PARTS[index]) - 1))
    changed = bytearray(PARTS[index])
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DigestError, match="other bytes than were signed"):
        BlobStore(folder).add_chunk(ARTEFACT, index, bytes(changed))
    assert files(folder) == set()


@pytest.mark.parametrize(
    ("index", "data", "reason"),
    [
        pytest.param(0, PARTS[1], "other bytes", id="another-index's-bytes"),
        pytest.param(-1, PARTS[-1], "has no chunk -1", id="negative-index"),
        pytest.param(len(PARTS), PARTS[0], "has no chunk", id="index-past-the-end"),
        pytest.param(0, DATA, "too large", id="too-large"),
        pytest.param(0, b"", "other bytes", id="empty"),
        pytest.param(0, PARTS[0][:-1], "other bytes", id="truncated"),
    ],
)
def test_a_chunk_that_was_not_signed_is_refused(
    blobs: BlobStore, tmp_path: Path, index: int, data: bytes, reason: str
) -> None:
    with pytest.raises(DigestError, match=reason):
        blobs.add_chunk(ARTEFACT, index, data)
    assert files(tmp_path) == set()


def test_what_is_missing_is_what_is_not_on_disk_after_a_restart_too(
    blobs: BlobStore, tmp_path: Path
) -> None:
    assert blobs.missing(ARTEFACT) == list(range(len(PARTS)))
    fill(blobs, leave_out=(1, 4))
    assert BlobStore(tmp_path).missing(ARTEFACT) == [1, 4]


def test_a_file_left_by_a_killed_write_is_not_taken_for_a_chunk(
    blobs: BlobStore, tmp_path: Path
) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir(parents=True)
    (folder / f".{ARTEFACT.sha256}.map.123.tmp").write_bytes(bytes([1]) * 100)
    (folder / ARTEFACT.sha256).write_bytes(PARTS[0])
    assert blobs.missing(ARTEFACT) == list(range(len(PARTS)))
    fill(blobs)
    blobs.assemble(ARTEFACT)
    blobs.prune({ARTEFACT.sha256})
    assert files(tmp_path) == {f"blobs/{ARTEFACT.sha256}"}


def test_with_a_chunk_missing_there_is_no_whole_and_the_rest_stays(blobs: BlobStore) -> None:
    fill(blobs, leave_out=(2,))
    with pytest.raises(StorageError, match="cannot read the chunks"):
        blobs.assemble(ARTEFACT)
    assert not blobs.has(ARTEFACT)
    assert blobs.missing(ARTEFACT) == [2]


def change(path: Path, at: int) -> None:
    """Flips a bit on the disk, behind everybody's back."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_chunks_that_the_disk_changed_are_found_and_they_alone_are_fetched_anew(
    blobs: BlobStore, tmp_path: Path
) -> None:
    fill(blobs)
    for index in (1, 3):
        change(tmp_path / "incoming" / ARTEFACT.sha256, 100 * index)
    with pytest.raises(StorageError, match=r"2 chunks .* changed by the disk\. Fix"):
        blobs.assemble(ARTEFACT)
    assert not blobs.has(ARTEFACT)
    assert blobs.missing(ARTEFACT) == [1, 3]
    for index in (1, 3):
        blobs.add_chunk(ARTEFACT, index, PARTS[index])
    blobs.assemble(ARTEFACT)
    assert blobs.has(ARTEFACT)


def test_a_release_whose_chunks_do_not_make_its_whole_is_refused_and_forgotten(
    blobs: BlobStore, tmp_path: Path
) -> None:
    lying = msgspec.structs.replace(ARTEFACT, sha256=sha256(b"another"))
    for index, part in enumerate(PARTS):
        blobs.add_chunk(lying, index, part)
    with pytest.raises(DigestError, match="the whole is not what was signed"):
        blobs.assemble(lying)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("torn", [b"", b"\0" * 10, b"\xff" * 100])
def test_a_torn_map_is_no_map_and_the_chunks_come_anew(
    blobs: BlobStore, tmp_path: Path, torn: bytes
) -> None:
    fill(blobs)
    (tmp_path / "incoming" / f"{ARTEFACT.sha256}.map").write_bytes(torn)
    again = BlobStore(tmp_path)
    assert again.missing(ARTEFACT) == list(range(len(PARTS)))
    fill(again)
    again.assemble(ARTEFACT)
    assert again.has(ARTEFACT)


@pytest.mark.parametrize("size", [0, 100, len(DATA) - 1])
def test_a_torn_partial_file_is_none_and_the_chunks_come_anew(
    blobs: BlobStore, tmp_path: Path, size: int
) -> None:
    fill(blobs)
    os.truncate(tmp_path / "incoming" / ARTEFACT.sha256, size)
    again = BlobStore(tmp_path)
    assert again.missing(ARTEFACT) == list(range(len(PARTS)))
    fill(again)
    again.assemble(ARTEFACT)
    assert again.has(ARTEFACT)


def test_the_same_file_cut_in_another_way_does_not_take_what_is_there(blobs: BlobStore) -> None:
    fill(blobs, leave_out=(2,))
    otherwise = describe(DATA, 50, "int8")
    assert blobs.missing(otherwise) == list(range(len(otherwise.chunks)))
    for index, part in enumerate(chunked(DATA, 50)):
        blobs.add_chunk(otherwise, index, part)
    blobs.assemble(otherwise)
    assert blobs.has(ARTEFACT)


def test_chunks_deleted_in_mid_fetch_are_an_error_of_storage_not_a_hole(
    blobs: BlobStore, tmp_path: Path
) -> None:
    fill(blobs, leave_out=(0,))
    shutil.rmtree(tmp_path / "incoming")
    with pytest.raises(StorageError, match="No such file"):
        blobs.add_chunk(ARTEFACT, 0, PARTS[0])
    blobs.add_chunk(ARTEFACT, 0, PARTS[0])
    assert blobs.missing(ARTEFACT) == list(range(1, len(PARTS)))


def test_a_whole_that_was_proved_is_not_read_again_until_it_changes(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.add(DATA)
    reads = []
    real = hashlib.file_digest

    def counting(*args: Any) -> Any:
        reads.append(1)
        return real(*args)

    monkeypatch.setattr(hashlib, "file_digest", counting)
    assert all(blobs.has(ARTEFACT) for _ in range(5))
    assert len(reads) == 1
    change(blobs.path(ARTEFACT.sha256), 0)
    assert not blobs.has(ARTEFACT)
    blobs.path(ARTEFACT.sha256).unlink()
    assert not blobs.has(ARTEFACT)


@pytest.mark.parametrize("damage", [b"", DATA[:-1], DATA[:-1] + b"!", DATA + b"!"])
def test_a_whole_that_the_disk_damaged_is_not_there_and_can_be_made_again(
    blobs: BlobStore, damage: bytes
) -> None:
    fill(blobs)
    blobs.assemble(ARTEFACT)
    blobs.path(ARTEFACT.sha256).write_bytes(damage)
    assert not blobs.has(ARTEFACT)
    fill(blobs)
    blobs.assemble(ARTEFACT)
    assert blobs.has(ARTEFACT)


def test_pruning_keeps_what_is_named_and_deletes_the_rest(blobs: BlobStore, tmp_path: Path) -> None:
    kept, other = blobs.add(b"kept"), blobs.add(b"other")
    fill(blobs, leave_out=(0,))
    blobs.prune({kept})
    assert files(tmp_path) == {f"blobs/{kept}"}
    assert not blobs.path(other).exists()


def test_a_fetch_whose_chunks_were_pruned_begins_anew_in_the_same_life(blobs: BlobStore) -> None:
    blobs.add_chunk(ARTEFACT, 0, PARTS[0])
    blobs.prune(set())
    assert blobs.missing(ARTEFACT) == list(range(len(PARTS)))
    fill(blobs)
    blobs.assemble(ARTEFACT)
    assert blobs.has(ARTEFACT)


def test_pruning_an_empty_store_is_nothing(blobs: BlobStore) -> None:
    blobs.prune(set())


def test_an_artefact_made_here_stands_under_its_digest(blobs: BlobStore) -> None:
    digest = blobs.add(DATA)
    assert digest == sha256(DATA) == ARTEFACT.sha256
    assert blobs.has(ARTEFACT)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 120))
def test_the_description_fits_the_chunks(data: bytes, chunk_bytes: int) -> None:
    artefact, parts = describe(data, chunk_bytes, "fp32"), chunked(data, chunk_bytes)
    assert b"".join(parts) == data
    assert artefact.size == len(data)
    assert artefact.chunks == tuple(sha256(part) for part in parts)
    assert all(len(part) == chunk_bytes for part in parts[:-1])


CHUNK_BYTES = 2**14
WEIGHTS = bytes(each & 0x3F for each in random.Random(1).randbytes(2**17))
PACKED = describe(WEIGHTS, CHUNK_BYTES, "int8")
WIRE = [pack_chunk(part) for part in chunked(WEIGHTS, CHUNK_BYTES)]


def test_packed_chunks_are_proved_as_they_travel_and_become_the_whole(
    blobs: BlobStore, tmp_path: Path
) -> None:
    with pytest.raises(DigestError, match="other bytes"):
        blobs.add_chunk(PACKED, 0, WEIGHTS[:CHUNK_BYTES])
    for index, part in enumerate(WIRE):
        blobs.add_chunk(PACKED, index, part)
    blobs.assemble(PACKED)
    assert blobs.path(PACKED.sha256).read_bytes() == WEIGHTS
    assert files(tmp_path) == {f"blobs/{PACKED.sha256}"}


def test_who_hands_chunks_on_keeps_them_as_they_travelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = BlobStore(tmp_path, keeps_packed=True)
    for index, part in enumerate(WIRE):
        blobs.add_chunk(PACKED, index, part)
    blobs.assemble(PACKED)
    # Another version of zstd packs into other bytes.
    monkeypatch.setattr("shared.releases.blobs.pack_chunk", lambda raw: b"packed otherwise")
    assert [blobs.chunk(PACKED, index) for index in range(len(WIRE))] == WIRE
    blobs.prune({PACKED.sha256})
    assert files(tmp_path) == {f"blobs/{PACKED.sha256}", f"packed/{PACKED.sha256}"}
    blobs.prune(set())
    assert files(tmp_path) == set()


def test_what_was_made_here_is_packed_once_where_its_description_is_known(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.add(WEIGHTS, PACKED)
    monkeypatch.setattr("shared.releases.blobs.pack_chunk", lambda raw: b"packed otherwise")
    assert [blobs.chunk(PACKED, index) for index in range(len(WIRE))] == WIRE


def test_a_store_without_the_packed_chunks_packs_again_and_proves_what_comes_out(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.add(WEIGHTS)
    assert blobs.chunk(PACKED, 2) == WIRE[2]
    monkeypatch.setattr("shared.releases.blobs.pack_chunk", lambda raw: b"packed otherwise")
    with pytest.raises(StorageError, match=r"chunk 2 of .* is damaged or gone"):
        blobs.chunk(PACKED, 2)


@pytest.mark.parametrize("keeps_packed", [False, True])
def test_a_packed_chunk_of_an_older_version_is_copied_and_the_whole_is_proved(
    tmp_path: Path, keeps_packed: bool
) -> None:
    blobs = BlobStore(tmp_path, keeps_packed=keeps_packed)
    blobs.add(WEIGHTS, PACKED if keeps_packed else None)
    newer = WEIGHTS[:-CHUNK_BYTES] + bytes(CHUNK_BYTES)
    artefact = describe(newer, CHUNK_BYTES, "int8")
    for index in range(7):
        assert blobs.copy_chunk(artefact, index, PACKED, index)
    blobs.add_chunk(artefact, 7, pack_chunk(bytes(CHUNK_BYTES)))
    blobs.assemble(artefact)
    assert blobs.path(artefact.sha256).read_bytes() == newer


def test_copies_that_the_disk_damaged_are_found_in_the_whole_and_fetched(
    blobs: BlobStore, tmp_path: Path
) -> None:
    blobs.add(WEIGHTS)
    change(blobs.path(PACKED.sha256), 5)
    newer = WEIGHTS[:-CHUNK_BYTES] + bytes(CHUNK_BYTES)
    artefact = describe(newer, CHUNK_BYTES, "int8")
    for index in range(7):
        blobs.copy_chunk(artefact, index, PACKED, index)
    blobs.add_chunk(artefact, 7, pack_chunk(bytes(CHUNK_BYTES)))
    with pytest.raises(StorageError, match=r"7 chunks of .* copied from an older version"):
        blobs.assemble(artefact)
    assert blobs.missing(artefact) == list(range(7))


def test_a_whole_that_is_damaged_or_gone_has_no_chunk_to_copy(blobs: BlobStore) -> None:
    newer = describe(DATA[:-1] + b"!", 100, "int8")
    assert not blobs.copy_chunk(newer, 0, ARTEFACT, 0)
    blobs.add(DATA)
    change(blobs.path(ARTEFACT.sha256), 5)
    assert not blobs.copy_chunk(newer, 0, ARTEFACT, 0)
    assert blobs.copy_chunk(newer, 1, ARTEFACT, 1)


def test_a_chunk_with_the_right_digest_that_is_no_pack_speaks_against_the_release(
    blobs: BlobStore, tmp_path: Path
) -> None:
    wire = [b"no pack", *WIRE[1:]]
    lying = msgspec.structs.replace(
        PACKED, chunks=tuple(map(sha256, wire)), wire_bytes=tuple(map(len, wire))
    )
    for index, part in enumerate(wire):
        blobs.add_chunk(lying, index, part)
    with pytest.raises(DigestError, match=r"chunk 0 of .* does not unpack"):
        blobs.assemble(lying)
    assert files(tmp_path) == set()


def test_a_large_artefact_is_put_together_without_being_held_in_memory(tmp_path: Path) -> None:
    block = bytes(each & 0x1F for each in random.Random(2).randbytes(MAX_CHUNK_BYTES))
    artefact = describe(block * 128, MAX_CHUNK_BYTES, "int8")
    blobs = BlobStore(tmp_path)
    packed = pack_chunk(block)
    tracemalloc.start()
    for index in range(128):
        blobs.add_chunk(artefact, index, packed)
    blobs.assemble(artefact)
    assert blobs.has(artefact)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert artefact.size == 2**23
    assert peak_bytes < 2**20
