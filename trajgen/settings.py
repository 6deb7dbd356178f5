"""Strict settings: typed, frozen, an unknown key refused, errors with the dotted path.

Each component owns a ``Settings`` class beside the class it builds. A YAML file maps onto it
one to one, ``--set dotted.key=value`` changes single entries, and the resolved file is written
next to every result.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from trajgen.errors import InputError
from trajgen.files import write_text


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys, no NaN, defaults validated too."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


S = TypeVar("S", bound=Settings)


def load_settings(
    kind: type[S], path: Path | None = None, overrides: tuple[str, ...] | list[str] = ()
) -> S:
    """Build settings from the defaults, then a YAML file, then ``dotted.key=value`` overrides.

    Raises:
        InputError: a file that cannot be read, an unknown key, or a value of the wrong kind; the
            text gives the dotted path.
    """
    values = read_yaml(path) if path is not None else {}
    for override in overrides:
        apply_override(values, override)
    return parse_settings(kind, values, str(path) if path is not None else "settings")


def parse_settings(kind: type[S], values: dict[str, Any], where: str) -> S:
    """Validate a nested dictionary; ``where`` names its source in the error."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_describe(error, kind)}") from error


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one entry of a nested dictionary from ``dotted.key=value`` (the value is YAML)."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise InputError(f"--set {override!r} is not of the form dotted.key=value")
    *parents, last = key.strip().split(".")
    inner = values
    for parent in parents:
        inner = inner.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {key}: '{parent}' is a value and has no keys below it")
    try:
        inner[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {key}: {text!r} is not a YAML value") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping (an empty file is an empty mapping)."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"settings file {path} is missing") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise InputError(f"settings file {path}{place}, is not YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"settings file {path} is not YAML: {first}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"settings file {path} holds a {type(values).__name__}, not a mapping")
    return values


def write_settings(path: Path, settings: Settings) -> None:
    """Write the resolved settings as YAML."""
    write_text(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))


def _describe(error: ValidationError, kind: type[Settings]) -> str:
    first = error.errors()[0]
    dotted = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        known = _known_keys(kind, first["loc"][:-1])
        hint = f"; known there: {', '.join(known)}" if known else ""
        text = f"'{dotted}' is not a setting{hint}"
    elif first["type"] == "missing":
        text = f"'{dotted}' is missing; give it in the file or as --set {dotted}=VALUE"
    else:
        # Our own checks come with a prefix that says nothing to the reader.
        reason = first["msg"].removeprefix("Value error, ")
        text = f"'{dotted}' is {_short(first['input'])}: {reason}"
    others = len(error.errors()) - 1
    return text + (f" (and {others} more)" if others else "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _known_keys(kind: type[Settings], location: tuple[int | str, ...]) -> list[str]:
    current: Any = kind
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        current = field.annotation if field is not None else None
    return sorted(getattr(current, "model_fields", {}))
