"""Files that appear under their final name only when they are whole.

A writer gets a temporary name in the same folder; what it wrote is synced and renamed at the
end, and removed when anything fails. After a crash a file is absent or complete.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from trajgen.errors import InputError

#: What the system says where nothing more can be written: disk, quota or file size.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Some writers make private files; a result is as readable as any file of its user.
_UMASK = os.umask(0o077)
os.umask(_UMASK)
_FILE_MODE = 0o666 & ~_UMASK


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as mdtraj choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        temporary.chmod(_FILE_MODE)
        sync_file(temporary)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Raise OSError for a write of safetensors that the system refused.

    The library raises its own error, which hides a full disk or a missing permission.
    """
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        number = int(found.group(1))
        raise OSError(number, os.strerror(number), str(path)) from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success rename it to ``path``.

    Raises:
        InputError: ``path`` exists already; nothing that is there is ever replaced.
    """
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(_FILE_MODE)
                sync_file(file)
        os.rename(temporary, path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path) -> None:
    """Raise InputError where an output path is taken already."""
    if path.exists():
        raise InputError(f"{path} exists already; name another --out, or move it away first")


def require_output(path: Path) -> None:
    """Check before long work that ``path`` is free and that its place can be written to.

    Raises:
        InputError: ``path`` exists already.
        OSError: the nearest folder above that exists refuses a new file.
    """
    refuse_existing(path)
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        return


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: it is missing or is not JSON.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable JSON file ({error})") from error


@contextmanager
def values_of(what: str, mend: str) -> Iterator[None]:
    """Raise InputError where the values in a file are not those that belong there.

    Args:
        what: names the file, or the place in it.
        mend: what the user can do.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{what} does not hold what belongs there ({reason}); {mend}") from error


def append_line(path: Path, line: str) -> None:
    """Append one line and sync it, so that it is on disk when the call returns."""
    new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file; a last line cut off by a crash is left out.

    Raises:
        InputError: a line before the last is not JSON, or a line is no mapping.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    rows = text.split("\n")
    values = []
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        try:
            values.append(json.loads(row))
        except json.JSONDecodeError as error:
            if number == len(rows):  # no newline behind it: the write was cut
                break
            raise InputError(f"{path}, line {number}, is not JSON ({error})") from error
        if not isinstance(values[-1], dict):
            raise InputError(f"{path}, line {number}, is no mapping; restore it from a copy")
    return values


def drop_cut_line(path: Path) -> None:
    """Remove a last line without its newline, which a crash in the middle of a write leaves."""
    if not path.is_file():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with whole_file(path) as temporary:
            temporary.write_bytes(content[: content.rfind(b"\n") + 1])


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk."""
    sync_file(path)
