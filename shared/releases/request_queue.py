"""Who waits for which chunk, and whose turn it is. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

MAX_PER_NODE = 64
MAX_TOTAL = 16_384


class Wanted(NamedTuple):
    """A chunk that a node asked for.

    Attributes:
        sha256: of the artefact, in hex.
        chunk: its index.
    """

    sha256: str
    chunk: int


class RequestQueue:
    """The nodes take turns, a chunk each, so that one that asks for much keeps no other waiting.

    An answer is heard by every node that listens, so what several nodes want is answered once.

    Args:
        max_per_node: chunks that one node may wait for.
        max_total: chunks that all nodes together may wait for.
    """

    def __init__(self, max_per_node: int = MAX_PER_NODE, max_total: int = MAX_TOTAL) -> None:
        self._max_per_node = max_per_node
        self._max_total = max_total
        self._of: OrderedDict[str, OrderedDict[Wanted, None]] = OrderedDict()
        self._who: dict[Wanted, list[str]] = {}
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def add(self, node: str, wanted: Iterable[Wanted]) -> Counter[str]:
        """Takes a request.

        Args:
            node: who asks.
            wanted: for what.

        Returns:
            How many chunks were not taken, by reason: ``repeated_request`` for one that the node
            waits for already, ``node_asks_too_much``, ``too_many_requests`` of all nodes together.
        """
        dropped: Counter[str] = Counter()
        mine = self._of.get(node, OrderedDict())
        for each in wanted:
            if each in mine:
                dropped["repeated_request"] += 1
            elif len(mine) >= self._max_per_node:
                dropped["node_asks_too_much"] += 1
            elif self._total >= self._max_total:
                dropped["too_many_requests"] += 1
            else:
                mine[each] = None
                self._who.setdefault(each, []).append(node)
                self._total += 1
        if mine:
            self._of.setdefault(node, mine)
        return dropped

    def take(self) -> Wanted | None:
        """Returns what to answer next, for all who wait for it; None where nobody waits."""
        if not self._of:
            return None
        node, mine = next(iter(self._of.items()))
        self._of.move_to_end(node)
        wanted = next(iter(mine))
        for each in self._who.pop(wanted):
            theirs = self._of[each]
            del theirs[wanted]
            self._total -= 1
            if not theirs:
                del self._of[each]
        return wanted
