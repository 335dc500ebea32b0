"""What every part of a configuration is made of: sections, names, paths, variables.

The folder and the environment that a configuration is read with come in as validation context
(``config_file.py``), never from the process.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from shared.topics import NAME

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def _context(info: ValidationInfo, key: str) -> Any:
    return (info.context or {}).get(key)


def _expand(value: Any, info: ValidationInfo) -> Any:
    """Puts in ``${VAR}`` and ``${VAR:-default}``; an unset variable without default is an error."""
    environment = _context(info, "environment") or {}

    def replacement(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = environment.get(name, default)
        if found is None:
            raise PydanticCustomError(
                "unset_variable",
                "the environment variable {name} is not set",
                {"name": name, "fix": f"set {name}, or write ${{{name}:-default}}"},
            )
        return str(found)

    return VARIABLE.sub(replacement, value) if isinstance(value, str) else value


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    folder: Path = _context(info, "folder") or Path()
    return Path(os.path.normpath(folder / path.expanduser()))


def _existing_file(path: Path, fix: str = "") -> Path:
    if not path.is_file():
        raise PydanticCustomError(
            "missing_file",
            "there is no file {path}",
            {
                "path": str(path),
                "fix": fix
                or "give the path of an existing file, absolute or from the folder of this YAML",
            },
        )
    return path


def _trust_file(path: Path) -> Path:
    return _existing_file(
        path,
        "`escalon keys init FOLDER` makes a fleet's keys and its trust file, once; every other "
        "node has a copy of that file",
    )


def existing_file(text: str, info: ValidationInfo) -> Path:
    """Returns the file that a text in a configuration names, as ``ExistingFile`` does.

    Args:
        text: its path, with ``${VAR}`` in it or from the folder of the YAML.
        info: of the validator that calls this.

    Raises:
        PydanticCustomError: there is no such file, or a variable is not set.
    """
    return _existing_file(_from_folder(Path(_expand(text, info)), info))


NAME_PATTERN = f"^{NAME.pattern}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
EnvironmentText = Annotated[str, BeforeValidator(_expand)]
AnyPath = Annotated[Path, BeforeValidator(_expand), AfterValidator(_from_folder)]
ExistingFile = Annotated[AnyPath, AfterValidator(_existing_file)]
TrustFile = Annotated[AnyPath, AfterValidator(_trust_file)]


class Section(BaseModel):
    """A part of a configuration: frozen, strict, no unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )
