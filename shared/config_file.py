"""A configuration file: YAML in, a checked configuration or a list of issues with positions out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shared.config_schema import ConfigSchema, Location
from shared.errors import ConfigError

MAX_FILE_BYTES = 2**20
TEXT_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong with a file.

    Attributes:
        file: the file.
        line: counted from 1.
        column: counted from 1.
        key: the path of keys, joined by dots.
        problem: what is wrong.
        fix: what to do.
    """

    file: Path
    line: int
    column: int
    key: str
    problem: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        key = f" {self.key}:" if self.key else ""
        end = "" if self.fix.endswith("?") else "."
        return f"{where}:{key} {self.problem}. Fix: {self.fix}{end}"


class ConfigFileError(ConfigError):
    """A file that is no usable configuration.

    Attributes:
        issues: everything that is wrong with it, in the order of the lines.
    """

    def __init__(self, issues: list[Issue]) -> None:
        self.issues = sorted(issues, key=lambda issue: (issue.line, issue.column))
        super().__init__("\n".join(str(issue) for issue in self.issues))


class ConfigFile:
    """A YAML file with the position of each of its keys.

    Args:
        path: the file.

    Raises:
        ConfigFileError: not there, too large, or not a YAML mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: dict[str, Any] = {}
        self._root: yaml.Node | None = None
        self._read()

    def _read(self) -> None:
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            reason = error.strerror or str(error)
            raise self._error((), reason, "give the path of a readable YAML file") from error
        if b"\0" in raw:
            raise self._error((), "not YAML: the file is not text", "give the path of a YAML file")
        if len(raw) > MAX_FILE_BYTES:
            raise self._error((), f"more than {MAX_FILE_BYTES} bytes", "is this the right file?")
        try:
            self._root = yaml.compose(raw, yaml.SafeLoader)
            self._refuse_odd_keys(self._root)
            data = yaml.safe_load(raw)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise self._yaml_error(error) from error
        if not isinstance(data, dict):
            raise self._error((), "not a mapping of keys", "begin with `role: tier1`")
        self.data = data

    def _refuse_odd_keys(self, node: yaml.Node | None) -> None:
        """Refuses a key that stands twice, which YAML forbids and the library lets pass."""
        if isinstance(node, yaml.SequenceNode):
            for child in node.value:
                self._refuse_odd_keys(child)
        if not isinstance(node, yaml.MappingNode):
            return
        seen = set()
        for key, value in node.value:
            mark = key.start_mark
            if not isinstance(key, yaml.ScalarNode) or key.tag not in TEXT_TAGS:
                raise self._marked(mark, "a key that is no plain word", "put it in quotes")
            if key.value in seen:
                raise self._marked(mark, f"the key {key.value} stands twice", "remove one of them")
            seen.add(key.value)
            self._refuse_odd_keys(value)

    @property
    def role(self) -> str:
        """The value of ``role``.

        Raises:
            ConfigFileError: there is none.
        """
        role = self.data.get("role")
        if role is None:
            raise self._error((), "no role", "add `role: tier1`, `tier2` or `cloud`")
        return str(role)

    def parse(self, kind: type[Config], environment: Mapping[str, str]) -> Config:
        """Checks the file against a configuration model.

        Args:
            kind: the model.
            environment: what ``${VAR}`` may refer to.

        Raises:
            ConfigFileError: with every issue and its position.
        """
        context = {"environment": environment, "folder": self.path.absolute().parent}
        try:
            # JSON has no paths or tuples of its own, so a strict model takes text and lists for
            # them there, but still no "5" for a number.
            text = json.dumps(self.data, default=str)
            return kind.model_validate_json(text, context=context)
        except ValidationError as error:
            details = _causes(error.errors(include_url=False))
            issues = [self._issue(detail, kind) for detail in details]
            raise ConfigFileError(issues) from error

    def wrong_role(self, roles: Sequence[str]) -> ConfigFileError:
        """Returns the error for a role that is not one of ``roles``."""
        if len(roles) == 1:
            problem = f"this node is of role {self.role}, not {roles[0]}"
            return self._error(("role",), problem, "run it with `escalon run`")
        fix = f"write one of {', '.join(roles)}"
        return self._error(("role",), f"{self.role!r} is not a role", fix)

    def _issue(self, detail: ErrorDetails, kind: type[BaseModel]) -> Issue:
        location = ConfigSchema(kind).written(detail["loc"])
        problem, fix = _explain(detail, kind)
        return self._at(location, problem, fix)

    def _error(self, location: Location, problem: str, fix: str) -> ConfigFileError:
        return ConfigFileError([self._at(location, problem, fix)])

    def _at(self, location: Location, problem: str, fix: str) -> Issue:
        mark = self._mark(location)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        key = ".".join(str(part) for part in location)
        return Issue(self.path, line, column, key, problem, fix)

    def _mark(self, location: Location) -> yaml.Mark | None:
        """Returns where a key stands; the nearest key above it where it is not in the file."""
        node, mark = self._root, None
        for part in location:
            step = _child(node, part)
            if step is None:
                break
            mark, node = step
        return mark

    def _yaml_error(self, error: Exception) -> ConfigFileError:
        problem = f"not YAML: {getattr(error, 'problem', None) or error}"
        fix = "look at the indentation, quotes and colons there"
        return self._marked(getattr(error, "problem_mark", None), problem, fix)

    def _marked(self, mark: yaml.Mark | None, problem: str, fix: str) -> ConfigFileError:
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return ConfigFileError([Issue(self.path, line, column, "", problem, fix)])


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Mark, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        child = node.value[part]
        return child.start_mark, child
    return None


def _causes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leaves out that a list is too short where that only follows from what is wrong in it."""
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(_is_inside(other["loc"], detail["loc"]) for other in details)
    ]


def _is_inside(location: Location, section: Location) -> bool:
    return len(location) > len(section) and location[: len(section)] == section


def _explain(detail: ErrorDetails, kind: type[BaseModel]) -> tuple[str, str]:
    """Returns what is wrong and what to do, in words for the person who wrote the file."""
    location, context = detail["loc"], detail.get("ctx", {})
    schema = ConfigSchema(kind)
    if detail["type"] == "extra_forbidden":
        return "unknown key", _did_you_mean(location, schema)
    if detail["type"] == "missing":
        return "this key is missing", f"add `{location[-1]}:`, {schema.accepted(location)}"
    problem = detail["msg"][0].lower() + detail["msg"][1:]
    if "fix" in context:
        return problem, str(context["fix"])
    if detail["type"] == "union_tag_invalid":
        name = context["discriminator"].strip("'")
        problem = f"there is no {name} {context['tag']!r}"
        return problem, f"write {schema.accepted(location)}"
    return f"{problem} (found {detail['input']!r:.60})", f"write {schema.accepted(location)}"


def _did_you_mean(location: Location, schema: ConfigSchema) -> str:
    known = schema.keys(location[:-1])
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"remove it; known are {', '.join(known)}"
