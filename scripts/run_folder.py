"""A folder of results that a killed script goes on with: what it was asked, and what is done."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trajgen.errors import InputError
from trajgen.files import read_json, write_json


def require_same_arguments(arguments: argparse.Namespace, free: tuple[str, ...]) -> None:
    """Refuse a folder whose results were made with other arguments, but for the ``free`` ones."""
    made = {name: str(value) for name, value in vars(arguments).items() if name not in free}
    file = arguments.out / "arguments.json"
    if file.exists() and (before := read_json(file)) != made:
        other = ", ".join(name for name in made if before.get(name) != made[name])
        raise InputError(f"{arguments.out} holds results of another {other}; name another --out")
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(file, made)


class Stages:
    """Results of stages, each of which is done once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the result of a stage, done now or before."""
        file = self.folder / f"{name}.json"
        if not file.is_file():
            write_json(file, work())
        found: dict[str, Any] = read_json(file)
        return found
