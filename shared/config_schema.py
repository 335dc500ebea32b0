"""What a configuration model accepts where, in words for the person who writes the file."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from shared.config import NAME_PATTERN
from shared.topics import MAX_NAME

Location = tuple[int | str, ...]

KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a section",
}
RANGES = {
    "exclusiveMinimum": "above",
    "minimum": "at least",
    "exclusiveMaximum": "below",
    "maximum": "at most",
}


class ConfigSchema:
    """What a configuration model accepts where, from its JSON Schema.

    Args:
        kind: the model.
    """

    def __init__(self, kind: type[BaseModel]) -> None:
        self._root: dict[str, Any] = kind.model_json_schema()

    def written(self, location: Location) -> Location:
        """Returns a location as it is in the file.

        Where a section is one of several kinds, pydantic puts the kind's name into the location.
        """
        part, steps = self._root, []
        for step in location:
            if str(step) not in _kinds(part):
                steps.append(step)
            part = self._resolved(self._child(part, str(step)))
        return tuple(steps)

    def keys(self, location: Location) -> list[str]:
        """Returns the keys that a section knows."""
        return sorted(self._at(location).get("properties", {}))

    def accepted(self, location: Location) -> str:
        """Returns in words what a key takes."""
        part = self._at(location)
        if part.get("pattern") == NAME_PATTERN:
            return f"a name of at most {MAX_NAME} letters, digits, '.', '_' and '-', no spaces"
        if "enum" in part or "const" in part:
            return "one of " + ", ".join(map(str, part.get("enum", [part.get("const")])))
        if _kinds(part):
            name = part["discriminator"]["propertyName"]
            return f"a section with `{name}:` {', '.join(_kinds(part))}"
        kind = KINDS.get(part.get("type", ""), "another value")
        ranges = [f"{words} {part[key]:,}" for key, words in RANGES.items() if key in part]
        return ", ".join([kind, *ranges])

    def _at(self, location: Location) -> dict[str, Any]:
        part = self._root
        for step in location:
            part = self._resolved(self._child(part, str(step)))
        return part

    @staticmethod
    def _child(part: dict[str, Any], key: str) -> dict[str, Any]:
        if key in _kinds(part):
            return {"$ref": _kinds(part)[key]}
        named: dict[str, Any] = part.get("properties", {}).get(key, {})
        patterned: dict[str, Any] = next(iter(part.get("patternProperties", {}).values()), {})
        return named or patterned or part.get("additionalProperties") or part.get("items") or {}

    def _resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        """Follows references, and takes of a choice the part that is not null."""
        for option in (part, *part.get("anyOf", []), *part.get("allOf", [])):
            if "$ref" in option:
                found: dict[str, Any] = self._root["$defs"][option["$ref"].rsplit("/", 1)[-1]]
                return found
            if option is not part and option.get("type") != "null":
                return dict(option)
        return part


def _kinds(part: dict[str, Any]) -> dict[str, str]:
    """Returns the references to what a section may be, by its kind."""
    kinds: dict[str, str] = part.get("discriminator", {}).get("mapping", {})
    return kinds
