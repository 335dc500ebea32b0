"""Which of the stored samples a training gets, and with what chance each is among them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.errors import StorageError
from shared.scores import Flags

LEAST_UNIFORM = 40
"""A uniform sample of fewer is not worth a training: a third of it teaches, a quarter of the rest
tunes, and even at alpha = 10 % a test takes 29 accepted ones."""


class Outlined(Protocol):
    """N samples in columns, as the store returns them."""

    @property
    def number(self) -> NDArray[np.int64]:
        """Of the row, int64 [N]."""

    @property
    def chance(self) -> NDArray[np.float64]:
        """The chance that such a sample is sent, float64 [N], in (0, 1]."""

    @property
    def audit(self) -> Flags:
        """Whether the audit drew it, bool [N]."""

    @property
    def has_input(self) -> Flags:
        """Whether its input came with it, bool [N]."""

    @property
    def node(self) -> Sequence[str]:
        """The node that sent it."""


@dataclass(frozen=True)
class Selection:
    """N samples, oldest first.

    Attributes:
        number: of their rows, int64 [N].
        audit: bool [N], drawn from all samples alike.
        chance: to be sent, and to be among these, float64 [N].
        certifies: bool [N], whether its node has a part in what is certified.
        nodes: that have a part in it.
        left_out: nodes that have none.
    """

    number: NDArray[np.int64]
    audit: Flags
    chance: NDArray[np.float64]
    certifies: Flags
    nodes: int
    left_out: tuple[str, ...]

    @property
    def uniform(self) -> float:
        """How many samples a uniform sample out of these has, on average."""
        chances = self.chance[self.certifies]
        return float((chances.min() / chances).sum()) if len(chances) else 0.0

    @property
    def note(self) -> str:
        """What a certificate on these does not speak of, in words; empty for nothing."""
        if not self.left_out:
            return ""
        names = ", ".join(self.left_out[:3]) + (", ..." if len(self.left_out) > 3 else "")
        return (
            f"what is certified speaks of {self.nodes} of {self.nodes + len(self.left_out)} nodes: "
            f"inputs of {names} stay on their sites (uplink.inputs), or nothing of them is audited"
        )

    def fitting(self, fit: Flags) -> Selection:
        """Returns some of the samples: bool [N]."""
        return replace(
            self,
            number=self.number[fit],
            audit=self.audit[fit],
            chance=self.chance[fit],
            certifies=self.certifies[fit],
        )

    def check(self) -> None:
        """Refuses what no certificate can rest on.

        Raises:
            StorageError: too few samples can certify; says how many, and why.
        """
        if self.uniform >= LEAST_UNIFORM:
            return
        why = f"; {self.note}" if self.note else ""
        raise StorageError(
            f"a uniform sample of the traffic has {self.uniform:.0f} samples with inputs that the "
            f"standing tier-2 has answered, {LEAST_UNIFORM} are the fewest to certify on{why}"
        )


def select(outlined: Outlined, most: int, rng: np.random.Generator) -> Selection:
    """Selects samples: what the audit alone has brought before all others.

    What tier-1 accepts is rare among what was sent, and nothing can be certified without it. It
    takes half of the room at most, the newest of it, and no sample that is older is taken. Of the
    others in that time each gets into the rest with one and the same chance, whatever it is, which
    goes into its inclusion probability.

    Args:
        outlined: all samples that were sent in some time, oldest first, with an input or without.
        most: about so many are selected at most; by chance a few more.
        rng: draws the others.
    """
    rare = outlined.has_input & (outlined.chance < 1)
    places = np.flatnonzero(rare)
    half = max(1, most // 2)
    begin = int(places[-half]) if len(places) > half else 0
    within = np.arange(len(outlined.number)) >= begin
    rare, common = rare & within, outlined.has_input & (outlined.chance >= 1) & within
    room = max(1, most - int(np.count_nonzero(rare)))
    share = min(1.0, room / max(1, int(np.count_nonzero(common))))
    taken = rare | (common & (rng.random(len(within)) < share))
    names, whose = np.unique(np.array(outlined.node, dtype=np.str_), return_inverse=True)
    part = _has_part(outlined, within, whose, len(names))
    present = np.bincount(whose[within], minlength=len(names)) > 0
    return Selection(
        number=outlined.number[taken],
        audit=outlined.audit[taken],
        chance=np.where(common, outlined.chance * share, outlined.chance)[taken],
        certifies=part[whose][taken],
        nodes=int(np.count_nonzero(part)),
        left_out=tuple(names[present & ~part].tolist()),
    )


def _has_part(
    outlined: Outlined, within: Flags, whose: NDArray[np.intp], nodes: int
) -> NDArray[np.bool_]:
    """Returns which nodes audit, and let all inputs out: bool [nodes].

    Of the others what comes is no sample of their traffic, whatever it is weighed with.
    """
    audited = np.bincount(whose[within & outlined.audit], minlength=nodes) > 0
    withheld = np.bincount(whose[within & ~outlined.has_input], minlength=nodes) > 0
    return audited & ~withheld
