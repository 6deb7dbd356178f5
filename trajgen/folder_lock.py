"""One process at a time in a folder of work under way."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trajgen.errors import InputError


def lock_folder(folder: Path) -> int:
    """Keep other processes out of a folder; return the descriptor whose closing lets them in.

    The lock goes with the process, however it ends.

    Raises:
        InputError: another process is at work in it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(
            f"another process is at work in {folder}; wait for its end, or end it"
        ) from error
    return descriptor


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Make a folder where there is none and keep other processes out; remove it if left empty.

    Raises:
        InputError: another process is at work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = lock_folder(folder)
    try:
        yield
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(descriptor)
