"""A message of questions that a broker finds too large, in two. Pure."""

from __future__ import annotations

import msgspec

from shared.messages import Escalation, Tensor


def halves(escalation: Escalation) -> tuple[Escalation, ...]:
    """Returns a message in two: the same questions by the same numbers, in their order.

    The counts of the gate ride on the first.

    Args:
        escalation: a message whose arrays fit its samples.

    Returns:
        Two messages; none where there are fewer than two samples to divide.
    """
    count = len(escalation.samples)
    if count < 2:
        return ()
    middle = count // 2
    first, second = (
        msgspec.structs.replace(
            escalation,
            samples=escalation.samples[start:end],
            inputs=_rows(escalation.inputs, count, start, end),
            probabilities=_rows(escalation.probabilities, count, start, end),
        )
        for start, end in ((0, middle), (middle, count))
    )
    return first, msgspec.structs.replace(second, seen=0, unsure=0, drift_alarms=0)


def _rows(tensor: Tensor, count: int, start: int, end: int) -> Tensor:
    """Returns the rows from ``start`` to before ``end`` of a tensor of ``count``."""
    row_bytes = len(tensor.data) // count
    data = tensor.data[start * row_bytes : end * row_bytes]
    return Tensor(tensor.dtype, (end - start, *tensor.shape[1:]), data)
