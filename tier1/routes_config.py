"""Configuration of local action: which prediction is told to whom beside the one who asked."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from shared.config_section import Name, Section
from shared.messages import DecidedBy
from tier1.templates import PayloadTemplate, TopicTemplate

MAX_TOPIC_CHARACTERS = 256
MAX_PAYLOAD_BYTES = 16 * 2**10


def _topic(text: str) -> str:
    TopicTemplate(text)
    return text


def _payload(source: JsonValue) -> JsonValue:
    if source is None:
        raise PydanticCustomError(
            "route_payload",
            "there is nothing here",
            {"fix": "write a text, a mapping or a list; '' for a message of no bytes"},
        )
    PayloadTemplate(source)
    if len(str(source).encode(errors="replace")) > MAX_PAYLOAD_BYTES:
        raise PydanticCustomError(
            "route_payload",
            "more than {max_bytes} bytes",
            {"max_bytes": MAX_PAYLOAD_BYTES, "fix": "send what the receiver needs and no more"},
        )
    return source


Label = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Share = Annotated[float, Field(ge=0, le=1)]


class RouteCondition(Section):
    """Which predictions: each key that is there must hold."""

    label: tuple[Label, ...] | None = Field(default=None, min_length=1)
    """Any of these labels."""
    min_confidence: Share | None = None
    """From this confidence on, 0 to 1."""
    max_confidence: Share | None = None
    """Up to this confidence, 0 to 1."""
    decided_by: tuple[DecidedBy, ...] | None = Field(default=None, min_length=1)
    """Decided by any of these."""
    sensor: tuple[Name, ...] | None = Field(default=None, min_length=1)
    """Of any of these sensors."""

    @model_validator(mode="after")
    def _some_confidence(self) -> Self:
        low, high = self.min_confidence, self.max_confidence
        if low is not None and high is not None and low > high:
            raise PydanticCustomError(
                "route_condition",
                "no confidence is at least {low} and at most {high}",
                {"low": low, "high": high, "fix": "make min_confidence the smaller one"},
            )
        return self


class RouteConfig(Section):
    """A message that a prediction sets off at once, with no cloud involved."""

    when: RouteCondition = RouteCondition()
    """Which predictions; left out, every one."""
    topic: Annotated[
        str,
        StringConstraints(min_length=1, max_length=MAX_TOPIC_CHARACTERS),
        AfterValidator(_topic),
    ]
    """Where to. ``$sensor``, ``$label`` and the like may stand in it."""
    payload: Annotated[JsonValue, AfterValidator(_payload)]
    """What: a text as it is, or a mapping or list that becomes JSON; ``$label`` may stand in it."""
    qos: Literal[0, 1] = 1
    """Whether the broker acknowledges it (1) or not (0)."""
    retain: bool = False
    """Whether the broker keeps it for who subscribes later."""
    corrections: bool = False
    """Whether a later correction of a prediction sets it off, too."""


def check_routes(
    routes: Iterable[RouteConfig],
    *,
    labels: Collection[str] | None,
    sensors: Collection[str] | None,
) -> None:
    """Refuses routes that can never be taken.

    Args:
        routes: of one pipeline.
        labels: of its model; None where they are not known before it is loaded.
        sensors: that it answers; None for every one.

    Raises:
        PydanticCustomError: a route waits for a label or a sensor that does not exist.
    """
    for route in routes:
        _check_known("label", route.when.label, labels)
        _check_known("sensor", route.when.sensor, sensors)


def _check_known(
    kind: str, waited_for: Iterable[str] | None, known: Collection[str] | None
) -> None:
    if known is None:
        return
    for name in waited_for or ():
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        some = ", ".join(sorted(known)[:10])
        raise PydanticCustomError(
            "route_condition",
            "a route waits for the {kind} {name}, which this pipeline does not have",
            {
                "kind": kind,
                "name": name,
                "fix": f"did you mean `{near[0]}`?" if near else f"write one of {some}",
            },
        )
