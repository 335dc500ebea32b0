"""Dotted paths into an object, as a type that msgspec decodes straight into."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

ABSENT = "absent"
"""The attribute of every type made here that is None."""


class Leaf(NamedTuple):
    """A value that is read from an object.

    Attributes:
        path: the keys that lead to it, joined by dots.
        type: msgspec's type of it.
        is_required: whether it must be there; if not, it is None where it is not.
    """

    path: str
    type: Any
    is_required: bool = True


Tree = dict[str, "Leaf | Tree"]


class ObjectType:
    """The type of an object of which some values are read, and the rest is passed over.

    Args:
        leaves: what is read; no path may go on from another one.

    Attributes:
        struct: the type, for msgspec's decoders.
    """

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self._places: dict[str, str] = {}
        self.struct = self._struct(_tree(leaves), "")

    def getter(self, paths: Sequence[str | None]) -> attrgetter[Any]:
        """Returns what takes values out of an object of ``struct``.

        Args:
            paths: at least two, else it returns no tuple; None for a value that is None.
        """
        return attrgetter(*(ABSENT if path is None else self._places[path] for path in paths))

    def value(self, found: Any) -> Any:
        """Returns the value of the only leaf out of an object of ``struct``."""
        (place,) = self._places.values()
        return attrgetter(place)(found)

    def _struct(self, tree: Tree, above: str) -> type[msgspec.Struct]:
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        names = {f"f{index}": key for index, key in enumerate(tree)}
        for name, key in names.items():
            below = tree[key]
            if isinstance(below, dict):
                fields.append((name, self._struct(below, f"{above}{name}.")))
                continue
            self._places[below.path] = above + name
            fields.append(
                (name, below.type) if below.is_required else (name, below.type | None, None)
            )
        return msgspec.defstruct(
            "Object",
            fields,
            namespace={ABSENT: None},
            frozen=True,
            gc=False,
            kw_only=True,
            rename=names,
        )


def _tree(leaves: Sequence[Leaf]) -> Tree:
    tree: Tree = {}
    for leaf in leaves:
        *above, key = leaf.path.split(".")
        branch = tree
        for each in above:
            step = branch.setdefault(each, {})
            if not isinstance(step, dict):
                raise ValueError(f"{leaf.path} goes on from {step.path}")
            branch = step
        branch[key] = leaf
    return tree


def words_of(fields: Sequence[tuple[str | None, str]]) -> str:
    """Returns what stands at which path, as a person would write the object.

    Args:
        fields: paths and what stands there, in words; a path that is None is left out.
    """
    tree = _tree([Leaf(path, words) for path, words in fields if path is not None])
    return _words(tree)


def _words(tree: Tree) -> str:
    fields = (
        f'"{key}": {_words(below) if isinstance(below, dict) else below.type}'
        for key, below in tree.items()
    )
    return "{" + ", ".join(fields) + "}"
