"""Texts of a route that a prediction's values are put into (``string.Template``)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from string import Template

import msgspec
from pydantic import JsonValue
from pydantic_core import PydanticCustomError

from shared.messages import Timestamp

Value = Timestamp | float | str
Values = Mapping[str, Value]

NAMES = (
    "id",
    "sensor",
    "label",
    "confidence",
    "decided_by",
    "reason",
    "model",
    "model_version",
    "timestamp",
    "latency_ms",
    "node",
    "pipeline",
)
"""What may stand behind a ``$``."""

MAX_LEVEL_BYTES = 256
NO_LEVEL = frozenset("/+#")

_JSON = msgspec.json.Encoder()


def parse_template(text: str) -> Template:
    """Returns a text as a template of ``NAMES``.

    Raises:
        PydanticCustomError: a ``$`` without a name, or a name that is none of ``NAMES``.
    """
    template = Template(text)
    if not template.is_valid():
        raise PydanticCustomError(
            "route_template",
            "{text} has a $ that is followed by no name",
            {"text": repr(text), "fix": f"write $$ for the sign itself, or one of {_names()}"},
        )
    for name in template.get_identifiers():
        if name not in NAMES:
            raise PydanticCustomError(
                "route_template",
                "${name} is no name of a prediction's value",
                {"name": name, "fix": _did_you_mean(name)},
            )
    return template


class TopicTemplate:
    """A topic with a prediction's values in its levels.

    Args:
        text: the template.

    Raises:
        PydanticCustomError: it is no template, or could be no topic.
    """

    def __init__(self, text: str) -> None:
        self._template = parse_template(text)
        self._names = self._template.get_identifiers()
        if not text.isprintable() or any(sign in text for sign in "+#"):
            raise PydanticCustomError(
                "route_topic",
                "{text} is no topic to publish on",
                {"text": repr(text), "fix": "leave out + and # and signs that cannot be printed"},
            )
        if text.startswith("$$"):
            raise PydanticCustomError(
                "route_topic",
                "topics that begin with $ are the broker's own",
                {"fix": "begin with another sign"},
            )

    def fill(self, values: Values) -> str | None:
        """Returns the topic, or None if a value cannot be a level of one.

        Sensors and the people who train models choose these values, and must not choose more of
        the topic than its configuration gives them.
        """
        texts = {name: as_text(values[name]) for name in self._names}
        if not all(map(_is_level, texts.values())):
            return None
        topic = self._template.substitute(texts)
        return None if topic.startswith("$") else topic


class PayloadTemplate:
    """A payload with a prediction's values in it.

    Args:
        source: a text is a template as it is. Anything else becomes JSON, and each text in it is a
            template; one that is nothing but a name becomes that value with its type.

    Raises:
        PydanticCustomError: a text in it is no template, or it cannot be written as JSON.
    """

    def __init__(self, source: JsonValue) -> None:
        self._is_text = isinstance(source, str)
        self._fill = _compile(source)
        self.fill(dict.fromkeys(NAMES, ""))

    def fill(self, values: Values) -> bytes:
        """Returns the payload."""
        if self._is_text:
            return str(self._fill(values)).encode(errors="replace")
        return _JSON.encode(self._fill(values))


def as_text(value: Value) -> str:
    """Returns a value as it stands in a text: a number with at most six decimals."""
    return str(round(value, 6)) if isinstance(value, float) else str(value)


def _compile(source: JsonValue, *, within_json: bool = False) -> Callable[[Values], JsonValue]:
    if isinstance(source, str):
        return _compile_text(source, keeps_type=within_json)
    if isinstance(source, Mapping):
        fields = {key: _compile(value, within_json=True) for key, value in source.items()}
        return lambda values: {key: fill(values) for key, fill in fields.items()}
    if isinstance(source, list):
        items = [_compile(item, within_json=True) for item in source]
        return lambda values: [fill(values) for fill in items]
    if isinstance(source, float | int) and not abs(source) < 2**63:
        raise PydanticCustomError(
            "route_payload",
            "{number} cannot be written as JSON that every receiver reads",
            {"number": str(source), "fix": "put it in quotes, or write a smaller number"},
        )
    return lambda values: source


def _compile_text(text: str, *, keeps_type: bool) -> Callable[[Values], JsonValue]:
    template = parse_template(text)
    names = template.get_identifiers()
    if not names:
        literal = template.substitute()
        return lambda values: literal
    if keeps_type and len(names) == 1 and text in (f"${names[0]}", f"${{{names[0]}}}"):
        name = names[0]
        return lambda values: values[name]
    return lambda values: template.substitute({name: as_text(values[name]) for name in names})


def _is_level(value: str) -> bool:
    """Whether a value may stand in one level of a topic.

    MQTT forbids wildcards and NUL in a topic to publish on (3.1.1, section 4.7), and a broker may
    end the connection over a control character (section 1.5.3).
    """
    return (
        0 < len(value) <= MAX_LEVEL_BYTES
        and value.isprintable()
        and NO_LEVEL.isdisjoint(value)
        and len(value.encode()) <= MAX_LEVEL_BYTES
    )


def _names() -> str:
    return ", ".join(f"${name}" for name in NAMES)


def _did_you_mean(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), NAMES, n=1)
    return f"did you mean `${near[0]}`?" if near else f"write one of {_names()}"
