"""A lock on a folder that a process and its children work in."""

import fcntl
import os
import time
from pathlib import Path

from trajgen.errors import InputError

#: How long a command waits for the children of a killed one to end.
LOCK_WAIT_S = 20.0


class FolderLock:
    """Holds a folder for one process and its children.

    The lock belongs to an open file that children inherit, so it is free only when every process
    of a killed command has ended.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
        os.set_inheritable(self._descriptor, True)
        give_up = time.monotonic() + LOCK_WAIT_S
        while not self._try():
            if time.monotonic() > give_up:
                os.close(self._descriptor)
                raise InputError(
                    f"another al command is at work in {folder}; wait for its end (al status shows "
                    "how far a run is)"
                )
            time.sleep(0.2)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give the folder free."""
        os.close(self._descriptor)
