"""When the frames of a dataset are, in memory that grows with its segments and not its frames."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trajgen.data.records import numbered_after


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
    """When the frames of a dataset are, without the frames.

    Neighbours of one segment in one shard are one stretch. Only where segments alternate from frame
    to frame does this take as much memory as an index for each.

    Attributes:
        stretches: the frames, rising, counted through the shards; some may be left out.
        segments: segment of each stretch. Frames of different segments are never treated as
            consecutive.
        shards: shard of each stretch.
        intervals_ps: for each shard the time between consecutive frames of a segment, NaN where
            there is none.
        n_frames: frames of each shard, those that are left out included.
    """

    stretches: Stretches
    segments: Int64[np.ndarray, " stretches"]
    shards: Int64[np.ndarray, " stretches"]
    intervals_ps: Float64[np.ndarray, " shards"]
    n_frames: Int64[np.ndarray, " shards"]

    @classmethod
    def of(
        cls,
        segments: Iterable[Int64[np.ndarray, " _"]],
        intervals_ps: Sequence[float | None],
        continues: Sequence[bool] | None = None,
    ) -> "Timeline":
        """Return that of shards whose frames' segments are known.

        Args:
            segments: of the frames of each shard, which are let go one after the other.
            intervals_ps: time between consecutive frames of a segment in each shard.
            continues: for each shard whether its first segment is the last of the shard before it;
                None for none of them.
        """
        none = np.zeros(0, dtype=np.int64)
        firsts, lengths, ids, shards = [none], [none], [none], [none]
        n_frames: list[int] = []
        before, last = 0, -1
        goes_on = [False] * len(intervals_ps) if continues is None else continues
        for shard, (own, follows) in enumerate(zip(segments, goes_on, strict=True)):
            ends = np.append(np.flatnonzero(np.diff(own)) + 1, len(own))[: len(own)]
            begins = np.append(0, ends)[:-1]
            firsts.append(before + begins)
            lengths.append(ends - begins)
            ids.append(numbered_after(last, np.asarray(own[begins], np.int64), follows))
            shards.append(np.full(len(ends), shard))
            n_frames.append(len(own))
            before, last = before + len(own), int(ids[-1].max(initial=last))
        return cls(
            Stretches(np.concatenate(firsts), np.concatenate(lengths)),
            np.concatenate(ids),
            np.concatenate(shards),
            np.array([np.nan if step is None else step for step in intervals_ps], np.float64),
            np.array(n_frames, dtype=np.int64),
        )

    @property
    def n_segments(self) -> int:
        """The number of segments, of a timeline from which no frames are left out."""
        return int(self.segments.max(initial=-1)) + 1

    def keeping(
        self, firsts: Int64[np.ndarray, " stretches"], lengths: Int64[np.ndarray, " stretches"]
    ) -> "Timeline":
        """Return it with these frames of each stretch; a length of zero keeps none."""
        some = lengths > 0
        stretches = Stretches(firsts[some], lengths[some])
        return replace(
            self, stretches=stretches, segments=self.segments[some], shards=self.shards[some]
        )

    def of_shards(self, kept: Bool[np.ndarray, " shards"]) -> "Timeline":
        """Return it with the frames of some shards."""
        lengths = np.where(kept[self.shards], self.stretches.lengths, 0)
        return self.keeping(self.stretches.firsts, lengths)
