"""What questions take in a message, so that it stays within its limit. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from shared.messages import EscalatedSample, pack
from shared.topics import MAX_NAME

MAX_ID_CHARACTERS = 134
"""A sensor's id has 128; a sample of a pack without ids of their own adds its place, ``/65535``."""
MAX_TIMESTAMP_CHARACTERS = 128
MAX_VERSION_CHARACTERS = 256

UTF8_BYTES = 4  # of a character, at most
NUMBER_BYTES = 9  # of an integer in MessagePack, at most
MAX_SAMPLE_BYTES = 48 + UTF8_BYTES * (MAX_ID_CHARACTERS + MAX_NAME + MAX_TIMESTAMP_CHARACTERS)
"""Of a sample beside its numbers and its scores."""

HEAD_BYTES = 160  # of a message without samples, beside its names: numbers, shapes, lengths
MAX_HEAD_BYTES = HEAD_BYTES + UTF8_BYTES * MAX_VERSION_CHARACTERS + 3 * MAX_NAME


def sample_bytes(sample: EscalatedSample) -> int:
    """Returns what a sample takes, whatever its number, beside its numbers and its scores."""
    return len(pack(sample)) + NUMBER_BYTES


def head_bytes(*names: str) -> int:
    """Returns what a message without samples takes, at most.

    Args:
        names: of the node, of the pipeline, of the model's version and of who gets the reply.
    """
    return HEAD_BYTES + sum(len(name.encode()) for name in names)


def cut(sizes: Sequence[int], head: int, max_bytes: int, max_samples: int) -> list[slice]:
    """Cuts samples in a row into messages. One that is too large for any is alone in its own.

    Args:
        sizes: what each of N samples takes.
        head: what a message takes beside them.
        max_bytes: of a message.
        max_samples: of a message, at least 1.

    Returns:
        Which samples go into each message, in their order.
    """
    parts: list[slice] = []
    start, filled_bytes = 0, head
    for place, size in enumerate(sizes):
        is_full = filled_bytes + size > max_bytes or place - start >= max_samples
        if is_full and place > start:
            parts.append(slice(start, place))
            start, filled_bytes = place, head
        filled_bytes += size
    if start < len(sizes):
        parts.append(slice(start, len(sizes)))
    return parts
