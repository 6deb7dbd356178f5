"""What is being generated, in memory, or in a file that a killed run goes on with.

What each step adds follows from earlier steps and from seeds alone. So it is enough to remember
how many steps reached the disk: those after them are done again, to the same bits.
"""

import math
import os
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trajgen.errors import InputError
from trajgen.files import read_json, whole_file, write_json
from trajgen.work_folder import WorkFolder

#: Steps are brought to disk after this time.
STORE_SECONDS = 30.0
#: Values that are looked at at once.
CHUNK_VALUES = 2**24

Step = TypeVar("Step")


class StepwiseValues:
    """Numbers that steps fill in one after another.

    Attributes:
        values: the numbers; zero where nothing was put yet. Under a work folder they are a file
            that is mapped into memory.
        done: steps that need not be done again.
    """

    values: Tensor
    done: int

    def __init__(self, name: str, shape: tuple[int, ...], work: WorkFolder | None) -> None:
        """Begin, or take up what lies in the work folder.

        Args:
            name: name of the file, without its suffix.
            shape: shape of the numbers, all of float32.
            work: the folder; None for memory.

        Raises:
            InputError: what lies there is damaged.
            OSError: the disk has no room for the numbers.
        """
        self.done = 0
        self._work = work
        self._stored = time.monotonic()
        if work is None:
            self.values = torch.zeros(shape)
            return
        work.begin()
        self._state = work.path / "steps.json"
        file, size = work.path / f"{name}.f32", 4 * math.prod(shape)
        if not file.is_file():
            write_json(self._state, {"done": 0})  # first: a file without it is damaged
            with whole_file(file) as temporary, temporary.open("wb") as made:
                made.truncate(size)
                if hasattr(os, "posix_fallocate"):  # a full disk is then an error now, not later
                    os.posix_fallocate(made.fileno(), 0, size)
        if file.stat().st_size != size or not self._state.is_file():
            raise InputError(f"{work.path} is damaged; remove the folder to begin anew")
        self._map = np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
        self.values = torch.from_numpy(self._map)
        self.done = int(read_json(self._state)["done"])

    def to_do(self, steps: Sequence[Step]) -> Iterator[Step]:
        """Yield the steps that are left; what one put into the values is kept."""
        for number, step in enumerate(steps[self.done :], start=self.done + 1):
            yield step
            self.done = number
            # After the last step values may be struck out, which no step could be done again on.
            due = number == len(steps) or time.monotonic() - self._stored >= STORE_SECONDS
            if self._work is not None and due:
                self._map.flush()
                write_json(self._state, {"done": self.done})
                self._stored = time.monotonic()


class Canvas(StepwiseValues):
    """The frames of all chains, of which ever more are filled in.

    Attributes:
        positions_nm: the frames; zero where nothing was put yet.
    """

    positions_nm: Float[Tensor, "chains frames sites 3"]

    def __init__(self, chains: int, frames: int, sites: int, work: WorkFolder | None) -> None:
        """Begin, or take up what lies in the work folder, as ``StepwiseValues``."""
        super().__init__("positions", (chains, frames, sites, 3), work)
        self.positions_nm = self.values

    def finite(self) -> Bool[Tensor, "chains frames"]:
        """Say of each frame whether all of it is finite."""
        per_frame = self.positions_nm.shape[0] * self.positions_nm.shape[2] * 3
        pieces = self.positions_nm.split(max(1, CHUNK_VALUES // per_frame), dim=1)
        return torch.cat([piece.isfinite().flatten(2).all(dim=2) for piece in pieces], dim=1)
