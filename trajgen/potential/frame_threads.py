"""Compiled loops over frames, shared out among as many threads as torch has."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch

#: Numbers of a tensor of pairs below which one thread is as fast as several.
_NUMBERS_PER_THREAD = 100_000

_pool = ThreadPoolExecutor()  # its threads start when they are asked for


def shares_of_frames(frames: int, numbers: int) -> list[tuple[int, int]]:
    """Return the first frame of each thread and that behind its last.

    Args:
        frames: how many there are.
        numbers: how many numbers there are to work on, of all frames; few are left to one thread.
    """
    threads = max(min(torch.get_num_threads(), numbers // _NUMBERS_PER_THREAD, frames), 1)
    ends = np.linspace(0, frames, threads + 1).astype(np.int64)
    return [(int(begin), int(end)) for begin, end in pairwise(ends)]


def run_in_threads(loop: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call the loop with each of the arguments, at the same time; it must not hold the GIL."""
    rest = [_pool.submit(loop, *arguments) for arguments in calls[1:]]
    loop(*calls[0])
    for each in rest:
        each.result()
