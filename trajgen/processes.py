"""Child processes that end with their parent, so that a killed run leaves nothing at work."""

import ctypes
import os
import signal
import sys

#: Set for children that shall end with their parent, and for the children of those.
ENVIRONMENT_FLAG = "TRAJGEN_DIE_WITH_PARENT"

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux; elsewhere nothing happens).

    Args:
        parent_pid: who the parent was when this process was started; where it has ended by now,
            this process ends too.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def die_with_launcher() -> None:
    """Do so in a process that a launcher of several processes started, where the flag is set."""
    if os.environ.get(ENVIRONMENT_FLAG):
        die_with_parent(os.getppid())
