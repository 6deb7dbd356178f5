"""Time and memory of calls that take turns in one process."""

import ctypes
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def peak_MiB(call: Callable[[], object]) -> float | None:
    """Return by how much the memory of the process rises during a call; None where unknown."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.exists() and os.access(reset, os.W_OK)):
        call()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls left in the pool is no part of this one
    reset.write_text("5")

    def read(name: str) -> int:
        (line,) = [line for line in status.read_text().splitlines() if line.startswith(name)]
        return int(line.split()[1])

    before = read("VmRSS")
    call()
    return (read("VmHWM") - before) / 1024


def medians(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Time calls for about ``seconds`` each, in three turns; return the medians.

    A turn is many calls of one path, and the first does not count: threads of the path before
    still wait actively for work then, and keep others from theirs.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):
        for name, call in calls.items():
            call()
            turn: list[float] = []
            while sum(turn) < seconds / 3:
                begin = time.perf_counter()
                call()
                turn.append(time.perf_counter() - begin)
            times[name] += turn
    return {name: statistics.median(values) for name, values in times.items()}
