"""The folder beside an output in which long work under way lies, so that a killed one goes on.

``run.json`` says what the result follows from; what else lies in it, the work itself knows.
"""

import os
import re
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trajgen.errors import InputError
from trajgen.files import read_json, refuse_existing, write_json
from trajgen.folder_lock import lock_folder


class WorkFolder:
    """The folder of one output under way.

    Attributes:
        path: the folder.
        identity: what the result follows from.
        finished: the output is there, and a kill came before the folder was removed.
    """

    def __init__(self, out: Path, identity: dict[str, Any], kind: str) -> None:
        """Take up the folder of ``out`` where there is one.

        Args:
            out: the final output.
            identity: what the result follows from, as JSON-able values.
            kind: what is under way: the end of the folder's name.

        Raises:
            InputError: the folder is of other work, or another process is at work in it.
        """
        self.path = out.with_name(f"{out.name}.{kind}")
        self.identity = identity
        self.kind = kind
        self._lock: int | None = None
        self._require_same()
        if self._run.is_file():
            self._take()
        # The provenance is published last, and its name was free when the folder was made.
        self.finished = self._run.is_file() and _is_written(out)
        if not self.finished:
            self._drop_half_published(out)

    def begin(self) -> None:
        """Make the folder where there is none, and keep other processes out."""
        if not self.path.exists():
            self.path.mkdir(parents=True)
        self._take()
        if not self._run.is_file():
            write_json(self._run, self.identity)

    @contextmanager
    def publishing(self, files: Sequence[Path]) -> Iterator[None]:
        """Write the final files inside; after a kill in the middle they are written anew.

        Where the writing fails none of them is left.
        """
        for file in files:  # what has appeared meanwhile is not ours, and not removed below
            refuse_existing(file)
        self.begin()
        write_json(self._published, [file.name for file in files])
        try:
            yield
        except BaseException:
            for file in files:
                file.unlink(missing_ok=True)
            self._published.unlink()
            if list(self.path.iterdir()) == [self._run]:
                self.remove()
            raise

    def remove(self) -> None:
        """Remove the folder of work whose output is written, or which has not begun."""
        for file in self.path.iterdir():
            if file != self._run:  # last, so that a folder that is left is known for what it is
                file.unlink()
        self._run.unlink()
        self.path.rmdir()

    @property
    def _run(self) -> Path:
        return self.path / "run.json"

    @property
    def _published(self) -> Path:
        return self.path / "publishing.json"

    def _take(self) -> None:
        """Keep other processes out; the lock goes with the process, however it ends."""
        if self._lock is not None:
            return
        self._lock = lock_folder(self.path)
        weakref.finalize(self, os.close, self._lock)

    def _require_same(self) -> None:
        if not self._run.is_file():
            return
        begun = read_json(self._run)
        known = begun if isinstance(begun, dict) else {}
        others = [key for key in self.identity if known.get(key) != self.identity[key]]
        if others:
            raise InputError(
                f"{self.path} holds a {self.kind} under way with another {_listed(others)}; give "
                "the arguments that it was begun with, name another --out, or remove the folder "
                "to begin anew"
            )

    def _drop_half_published(self, out: Path) -> None:
        """Remove what a kill left of final files that had begun to appear."""
        if not self._published.is_file():
            return
        for name in read_json(self._published):
            file = out.with_name(name)
            file.unlink(missing_ok=True)
            partial = re.compile(
                re.escape(f".{file.stem}.") + r"\d+\.partial" + re.escape(file.suffix)
            )
            for other in list(out.parent.iterdir()):
                if partial.fullmatch(other.name):
                    other.unlink()
        self._published.unlink()


def _is_written(out: Path) -> bool:
    """Say whether the provenance is there, and of this output: others may share its name."""
    card = out.with_suffix(".json")
    files = read_json(card).get("files", []) if card.is_file() else []
    of_this = re.compile(re.escape(out.stem) + r"(_\d+)?" + re.escape(out.suffix))
    return bool(files) and of_this.fullmatch(files[0]) is not None


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
