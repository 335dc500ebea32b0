"""What a manifest says of a file: packed or not, and never in contradiction to itself."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import DigestError
from shared.releases.artefact import Artefact, chunks_in_common, problems
from shared.releases.packing import chunked, describe, pack_chunk, unpack_chunk
from tests.builders import sha256

CHUNK_BYTES = 2**14
NOISE = random.Random(1).randbytes(2**17)
WEIGHTS = bytes(each & 0x3F for each in NOISE)
PACKED = describe(WEIGHTS, CHUNK_BYTES, "int8")
PLAIN = describe(NOISE, CHUNK_BYTES, "fp32")


def with_(base: Artefact, **changes: Any) -> Artefact:
    return msgspec.structs.replace(base, **changes)


def test_what_packs_well_travels_packed_and_what_does_not_as_it_is() -> None:
    assert (PACKED.encoding, PLAIN.encoding) == ("zstd", "identity")
    assert PACKED.wire_total < 0.95 * PACKED.size
    assert PLAIN.wire_bytes == ()
    assert PLAIN.wire_total == PLAIN.size == len(NOISE)
    assert (PACKED.sha256, PACKED.size) == (sha256(WEIGHTS), len(WEIGHTS))


def test_who_may_not_pack_does_not() -> None:
    plain = describe(WEIGHTS, CHUNK_BYTES, "int8", may_pack=False)
    assert plain.encoding == "identity"
    assert plain.chunks == tuple(sha256(part) for part in chunked(WEIGHTS, CHUNK_BYTES))


def test_a_chunk_that_packing_makes_no_smaller_travels_as_it_is_among_packed_ones() -> None:
    mixed = describe(bytes(2**17) + NOISE[: 2**14], CHUNK_BYTES, "fp32")
    assert mixed.encoding == "zstd"
    assert mixed.is_packed(0)
    assert not mixed.is_packed(8)
    assert unpack_chunk(mixed, 8, NOISE[: 2**14]) == NOISE[: 2**14]


def test_a_large_artefact_is_pulled_and_a_small_one_retained() -> None:
    assert describe(NOISE, CHUNK_BYTES, "fp32", pull_above_bytes=len(NOISE)).delivery == "retained"
    assert describe(NOISE, CHUNK_BYTES, "fp32", pull_above_bytes=len(NOISE) - 1).delivery == "pull"


@given(st.integers(2**16, 2**17 + 5), st.integers(2**12, 2**16))
def test_packed_chunks_prove_themselves_and_make_the_whole(size: int, chunk_bytes: int) -> None:
    data = (WEIGHTS * 2)[:size]
    artefact = describe(data, chunk_bytes, "int8")
    packed = [pack_chunk(part) for part in chunked(data, chunk_bytes)]
    assert artefact.encoding == "zstd"
    assert artefact.chunks == tuple(sha256(part) for part in packed)
    assert artefact.wire_bytes == tuple(len(part) for part in packed)
    assert problems(artefact) == []
    unpacked = [unpack_chunk(artefact, index, part) for index, part in enumerate(packed)]
    assert b"".join(unpacked) == data


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(pack_chunk(bytes(2**22)), id="a-bomb"),
        pytest.param(pack_chunk(bytes(100)), id="too-short"),
        pytest.param(pack_chunk(bytes(CHUNK_BYTES)) + b"x", id="something-behind-it"),
        pytest.param(pack_chunk(bytes(CHUNK_BYTES))[:-1], id="cut"),
        pytest.param(b"not zstd at all", id="another-format"),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_does_not_unpack_to_its_size_is_refused(wire: bytes) -> None:
    with pytest.raises(DigestError, match="unpack"):
        unpack_chunk(PACKED, 0, wire)


@pytest.mark.parametrize(
    ("artefact", "problem"),
    [
        pytest.param(with_(PACKED, sha256="x"), "a digest is not SHA-256", id="digest"),
        pytest.param(with_(PACKED, wire_bytes=()), "on the wire do not fit", id="no-sizes"),
        pytest.param(
            with_(PACKED, wire_bytes=PACKED.wire_bytes[1:]), "on the wire do not fit", id="a-size"
        ),
        pytest.param(
            with_(PACKED, wire_bytes=(0, *PACKED.wire_bytes[1:])), "do not fit", id="size-zero"
        ),
        pytest.param(
            with_(PACKED, wire_bytes=(CHUNK_BYTES + 1, *PACKED.wire_bytes[1:])),
            "on the wire do not fit",
            id="larger-than-unpacked",
        ),
        pytest.param(
            with_(PLAIN, wire_bytes=(CHUNK_BYTES,) * len(PLAIN.chunks)),
            "on the wire do not fit",
            id="sizes-of-what-is-not-packed",
        ),
        pytest.param(with_(PLAIN, url="file:///etc/passwd"), "http or https", id="file"),
        pytest.param(with_(PLAIN, url="http://a/b\r\nX: y"), "http or https", id="line-break"),
        pytest.param(with_(PLAIN, url="http://a/" + "b" * 2048), "http or https", id="long"),
    ],
)
def test_a_contradiction_is_named(artefact: Artefact, problem: str) -> None:
    assert any(problem in each for each in problems(artefact))


@pytest.mark.parametrize("url", ["http://models.local/a.onnx", "https://a.example:8443/b?c=d"])
def test_a_sound_artefact_has_no_problem(url: str) -> None:
    assert problems(with_(PACKED, url=url)) == []
    assert problems(PLAIN) == []


def test_chunks_in_common_are_those_of_equal_digest_wherever_they_stand() -> None:
    older = describe(NOISE, CHUNK_BYTES, "fp32")
    moved = NOISE[CHUNK_BYTES : 2 * CHUNK_BYTES] + bytes([1]) * CHUNK_BYTES + NOISE[:100]
    newer = describe(moved, CHUNK_BYTES, "fp32")
    assert chunks_in_common(newer, [older]) == {0: (older, 1)}
    assert chunks_in_common(newer, []) == {}
