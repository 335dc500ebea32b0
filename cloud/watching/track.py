"""A series with its reference and its tests, of bounded length. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from cloud.watching.finding import Finding

LONGEST = 20_000


class Numbered(Protocol):
    """What the store has given a number."""

    @property
    def number(self) -> int:
        """Of the row; it grows."""


Item = TypeVar("Item", bound=Numbered)
Reference = TypeVar("Reference")


class Track(Generic[Item, Reference]):
    """Feeds the tests, from the reference on.

    What it says follows from the rows behind ``after`` and from the reference alone, so that these
    two are all that must be kept: whoever starts anew reads the rows again. Past ``longest`` the
    older half is let go of, and the tests begin anew on the other.

    Args:
        after: rows behind this number are fed.
        reference: learned before; None learns it from the first items.
        learn: makes the reference of so many items.
        needed: so many.
        tests: makes new tests; each takes an item, and says so once it is sure.
        longest: so many items are kept at most, at least twice ``needed``.

    Attributes:
        after: rows behind this number have to be read again after a restart.
        reference: what the tests hold later items against; None while it is not known.
    """

    def __init__(
        self,
        after: int,
        reference: Reference | None,
        *,
        learn: Callable[[Sequence[Item]], Reference],
        needed: int,
        tests: Callable[[Reference], Sequence[Callable[[Item], Finding | None]]],
        longest: int = LONGEST,
    ) -> None:
        self.after = after
        self.reference = reference
        self._learn = learn
        self._needed = needed
        self._make_tests = tests
        self._longest = longest
        self._items: list[Item] = []
        self._tests: Sequence[Callable[[Item], Finding | None]] = ()
        if reference is not None:
            self._tests = tests(reference)

    def add(self, item: Item) -> Finding | None:
        """Takes an item; returns the first finding that it brings."""
        self._items.append(item)
        if self.reference is None:
            if len(self._items) < self._needed:
                return None
            self.reference = self._learn(self._items)
            return self._begin(self.reference)
        if len(self._items) > self._longest:
            half = len(self._items) // 2
            self.after = self._items[half - 1].number
            del self._items[:half]
            return self._begin(self.reference)
        return self._feed(item)

    def _begin(self, reference: Reference) -> Finding | None:
        """Feeds new tests all items that are kept."""
        self._tests = self._make_tests(reference)
        found = [finding for item in self._items if (finding := self._feed(item))]
        return found[0] if found else None

    def _feed(self, item: Item) -> Finding | None:
        # All of them, whatever the first says: each has to see every item.
        found = [finding for test in self._tests if (finding := test(item))]
        return found[0] if found else None
