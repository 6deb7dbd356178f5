"""When the frames of a dataset are, in memory that grows with its segments and not its frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class Stretches:
    """Frames in some order, as stretches in which each follows the one before.

    Attributes:
        firsts: the first frame of each stretch.
        lengths: its number of frames.
    """

    firsts: Int64[np.ndarray, " stretches"]
    lengths: Int64[np.ndarray, " stretches"]

    def __len__(self) -> int:
        """Return the number of frames."""
        return int(self._ends[-1]) if len(self.lengths) else 0

    def at(self, places: Int64[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Return the frames at some places of this order."""
        stretch = np.searchsorted(self._ends, places, side="right")
        frames = self.firsts[stretch] + places - (self._ends[stretch] - self.lengths[stretch])
        return np.asarray(frames, dtype=np.int64)

    def evenly(self, limit: int) -> Int64[np.ndarray, " some"]:
        """Return at most so many frames, evenly spaced."""
        return self.at(np.arange(0, len(self), max(1, -(-len(self) // limit))))

    def chunks(self, size: int) -> Iterator[Int64[np.ndarray, " some"]]:
        """Yield all frames, so many at a time."""
        for begin in range(0, len(self), size):
            yield self.at(np.arange(begin, min(begin + size, len(self))))

    @cached_property
    def _ends(self) -> Int64[np.ndarray, " stretches"]:
        return np.cumsum(self.lengths)


@dataclass(frozen=True)
class Timeline:
    """When the frames of a part of a dataset are, without the frames.

    Neighbours of one segment are one stretch. Only where segments alternate from frame to frame
    does this take as much memory as an index for each.

    Attributes:
        stretches: the frames, rising; some may be left out.
        segments: segment of each stretch. Frames of different segments are never treated as
            consecutive.
        n_frames: frames of the part, those that are left out included.
        time_step_ps: time between consecutive frames of a segment, None where there is none.
    """

    stretches: Stretches
    segments: Int64[np.ndarray, " stretches"]
    n_frames: int
    time_step_ps: float | None

    @classmethod
    def of(
        cls, segments: Int64[np.ndarray, " frames"], time_step_ps: float | None = None
    ) -> "Timeline":
        """Return that of frames whose segments are known."""
        ends = np.append(np.flatnonzero(np.diff(segments)) + 1, len(segments))[: len(segments)]
        firsts = np.append(0, ends)[:-1]
        stretches = Stretches(firsts, ends - firsts)
        return cls(stretches, np.asarray(segments[firsts], np.int64), len(segments), time_step_ps)

    def left(self, firsts: np.ndarray, lengths: np.ndarray) -> "Timeline":
        """Return it with so much left of each stretch; nothing of those without length."""
        some = lengths > 0
        return Timeline(
            Stretches(firsts[some], lengths[some]),
            self.segments[some],
            self.n_frames,
            self.time_step_ps,
        )
