"""How an artefact is cut and packed for its way. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from shared.errors import DigestError
from shared.releases.artefact import Artefact

LEVEL = 3
"""Of zstd. Weights do not become smaller at 19 (0.925 and 0.839 of fp32 and int8 either way), and
packing them takes 30 times as long."""

LEAST_SAVING = 0.05
MIN_PACKED_BYTES = 64 * 2**10
"""A smaller artefact is a message or two, packed or not."""

PULL_ABOVE_BYTES = 8 * 2**20
"""A broker keeps what is retained in its memory, and this much of one model is enough."""

WINDOW_LOG_MAX = 17
"""What a frame may have the unpacking side keep: 128 KiB. Our chunks need 64 KiB."""


def describe(
    data: bytes,
    chunk_bytes: int,
    precision: str,
    *,
    may_pack: bool = True,
    pull_above_bytes: int = PULL_ABOVE_BYTES,
    url: str = "",
) -> Artefact:
    """Returns what a manifest says of an artefact.

    Args:
        data: the whole.
        chunk_bytes: size of each chunk but the last, unpacked.
        precision: ``int8`` or ``fp32``.
        may_pack: whether the chunks may be packed; they are where it saves 5 % or more.
        pull_above_bytes: a larger artefact is not retained by brokers, but asked for.
        url: where a web server has the chunks as they travel, one after the other.
    """
    plain = Artefact(
        precision="int8" if precision == "int8" else "fp32",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        chunk_bytes=chunk_bytes,
        chunks=tuple(_digest(part) for part in _cut(data, chunk_bytes)),
        url=url,
        delivery="pull" if len(data) > pull_above_bytes else "retained",
    )
    return _packed(plain, data) if may_pack and len(data) >= MIN_PACKED_BYTES else plain


def chunked(data: bytes, chunk_bytes: int) -> list[bytes]:
    """Cuts an artefact into chunks.

    Args:
        data: the whole.
        chunk_bytes: size of each but the last.
    """
    return list(_cut(data, chunk_bytes))


def pack_chunk(raw: bytes) -> bytes:
    """Returns a chunk as it travels: packed, or as it is where that makes it no smaller."""
    from shared.releases import zstd  # noqa: PLC0415 - a node that packs nothing does without it

    packed = zstd.compress(raw, LEVEL)
    return packed if len(packed) < len(raw) else raw


def unpack_chunk(artefact: Artefact, index: int, data: bytes) -> bytes:
    """Returns a chunk unpacked; no more memory is used than a chunk and its window take.

    Args:
        artefact: whose chunk it is.
        index: which.
        data: as it travelled, with the signed digest.

    Raises:
        DigestError: it is not packed, or not a chunk of the size that was signed.
    """
    if not artefact.is_packed(index):
        return data
    from shared.releases import zstd  # noqa: PLC0415 - a node that unpacks nothing does without it

    size = artefact.raw_size(index)
    options = {int(zstd.DecompressionParameter.window_log_max): WINDOW_LOG_MAX}
    unpacker = zstd.ZstdDecompressor(options=options)
    try:
        raw = unpacker.decompress(data, max_length=size)
    except zstd.ZstdError as error:
        raise DigestError(f"chunk {index} of {artefact.sha256} does not unpack: {error}") from error
    if len(raw) != size or not unpacker.eof or unpacker.unused_data:
        raise DigestError(f"chunk {index} of {artefact.sha256} unpacks to another size than {size}")
    return raw


def _packed(plain: Artefact, data: bytes) -> Artefact:
    """Returns the packed form of an artefact where that saves enough, else the plain one."""
    sizes, digests = [], []
    for part in _cut(data, plain.chunk_bytes):
        travels = pack_chunk(part)
        sizes.append(len(travels))
        digests.append(_digest(travels))
    if sum(sizes) > (1 - LEAST_SAVING) * plain.size:
        return plain
    return msgspec.structs.replace(
        plain, encoding="zstd", wire_bytes=tuple(sizes), chunks=tuple(digests)
    )


def _cut(data: bytes, chunk_bytes: int) -> Iterator[bytes]:
    return (data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
