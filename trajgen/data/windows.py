"""Windows of consecutive frames at any lag, for models of whole trajectories.

Windows are not listed but drawn: a trajectory has as many at each of its lags as it has frames.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trajgen.data.timeline import Stretches, Timeline
from trajgen.errors import InputError

#: A window has a frame to begin with, one to end with, and one between.
MIN_FRAMES = 3
#: A run of frames serves a lag that it meets to within this factor.
LAG_TOLERANCE = 1.4


@dataclass(frozen=True)
class Windows:
    """Where windows lie; a short one is padded by its last frame and masked.

    Attributes:
        frames: the frame of each cell.
        present: False for padding.
        times_ps: time of each cell since the first; that of the last frame in the padding.
        lag_ps: time between neighbours, but for cells that were moved.
        strides: the same in frames.
    """

    frames: Int64[np.ndarray, "windows length"]
    present: Bool[np.ndarray, "windows length"]
    times_ps: Float64[np.ndarray, "windows length"]
    lag_ps: Float64[np.ndarray, " windows"]
    strides: Int64[np.ndarray, " windows"]


@dataclass(frozen=True)
class Shifts:
    """By how many frames cells of windows lie elsewhere than one lag after the cell before.

    Attributes:
        earlier: frames by which a cell lies before its place; less than a stride, so that cells
            stay in order.
        outward: frames by which the first cells lie further back (negative, one number for all of
            them) and the last ones further on (positive, likewise); as far as their run goes.
    """

    earlier: Int64[np.ndarray, "windows length"]
    outward: Int64[np.ndarray, "windows length"]

    @classmethod
    def none(cls, windows: int, length: int) -> "Shifts":
        """Return those of evenly spaced windows."""
        nothing = np.zeros((windows, length), dtype=np.int64)
        return cls(nothing, nothing)

    def take(self, rows: Int64[np.ndarray, " some"]) -> "Shifts":
        """Return those of some windows."""
        return Shifts(self.earlier[rows], self.outward[rows])


@dataclass(frozen=True)
class Runs:
    """Runs of consecutive frames that windows are cut out of.

    Attributes:
        frames: the frames of all runs, one run after the other.
        begins: where each run begins in ``frames``.
        lengths: its number of frames.
        intervals_ps: time between its frames.
        weights: how often each frame begins a window, relative to the others; None for alike.
        reversible: runs that are as likely backwards.
    """

    frames: Stretches
    begins: Int64[np.ndarray, " runs"]
    lengths: Int64[np.ndarray, " runs"]
    intervals_ps: Float64[np.ndarray, " runs"]
    weights: Float64[np.ndarray, " frames"] | None
    reversible: Bool[np.ndarray, " runs"]

    @classmethod
    def find(
        cls, timeline: Timeline, reversible: Bool[np.ndarray, " shards"] | None = None
    ) -> "Runs":
        """Find the segments of shards with a known time step.

        A segment that goes on in the next shard is one run, where both have the same time step and
        are as likely backwards, and the shard between is not left out.

        Args:
            timeline: when the frames of one molecule are; within a shard none but those at the ends
                of a segment may be left out.
            reversible: shards that are as likely backwards; None for none of them.
        """
        steps_ps = timeline.intervals_ps
        turned = np.zeros(len(steps_ps), dtype=bool) if reversible is None else reversible
        known = timeline.of_shards(~np.isnan(steps_ps))
        order = np.argsort(known.segments, kind="stable")
        segments, shards = known.segments[order], known.shards[order]
        lengths = known.stretches.lengths[order]
        begins = np.ones(len(order), dtype=bool)
        begins[1:] = (
            (np.diff(segments) != 0)
            | (np.diff(shards) > 1)
            | (steps_ps[shards[1:]] != steps_ps[shards[:-1]])
            | (turned[shards[1:]] != turned[shards[:-1]])
        )
        of_runs = np.bincount(np.cumsum(begins) - 1, lengths).astype(np.int64)
        return cls(
            frames=Stretches(known.stretches.firsts[order], lengths),
            begins=np.cumsum(of_runs) - of_runs,
            lengths=of_runs,
            intervals_ps=steps_ps[shards[begins]],
            weights=None,
            reversible=turned[shards[begins]],
        )

    def shortest_lag_ps(self) -> float | None:
        """Return the shortest lag that has a window, None where there is none."""
        usable = self.lengths >= MIN_FRAMES
        return float(self.intervals_ps[usable].min()) if usable.any() else None

    def longest_lag_ps(self, length: int) -> float | None:
        """Return the longest lag at which a run holds two whole windows, or else a short one."""
        two = (self.lengths - 1) * self.intervals_ps / (2 * (length - 1))
        lags = np.where(two >= self.intervals_ps, two, self.intervals_ps)
        usable = self.lengths >= MIN_FRAMES
        return float(lags[usable].max()) if usable.any() else None

    def count(self, lag_ps: float, length: int) -> int:
        """Return the number of windows at a lag."""
        return int(self._starts(np.array([lag_ps]), length)[0].sum())

    def serves(self, lag_ps: float, length: int) -> bool:
        """Say whether a window of some weight begins anywhere at a lag."""
        starts = self._starts(np.array([lag_ps]), length)[0][0]
        masses = self._weight_before(self.begins + starts) - self._weight_before(self.begins)
        return bool((masses > 0).any())

    def draw(
        self,
        lags_ps: Float64[np.ndarray, " windows"],
        length: int,
        places: Float64[np.ndarray, " windows"],
        shifts: Shifts | None = None,
        backward: Bool[np.ndarray, " windows"] | None = None,
    ) -> Windows:
        """Draw windows, each start of a lag alike, or by ``weights``.

        Args:
            lags_ps: wanted lag of each window; a run takes the nearest multiple of its interval.
            length: frames of a window; in a run that is too short, as many as fit.
            places: where among all starts, or among their weights, in [0, 1).
            shifts: cells that are not a lag apart; None for none.
            backward: windows that go back in time, where their run is as likely so; None for none.

        Raises:
            InputError: no run has a window at a lag.
        """
        lags, lag = np.unique(lags_ps, return_inverse=True)
        starts, strides, counts = self._starts(lags, length)
        before = self._weight_before(self.begins)
        masses = self._weight_before(self.begins + starts) - before
        ends = np.cumsum(masses, axis=1)
        totals = ends[:, -1] if len(self.lengths) else np.zeros(len(lags))
        if (totals <= 0).any():
            lag_ps = float(lags[np.argmin(totals)])
            raise InputError(f"no run of frames has a window of three frames at lag_ps {lag_ps:g}")
        aimed = np.minimum(places * totals[lag], np.nextafter(totals, 0.0)[lag])
        run = np.empty(len(lags_ps), dtype=np.int64)
        for number in range(len(lags)):
            own = lag == number
            run[own] = np.searchsorted(ends[number], aimed[own], side="right")
        inside_run = aimed - (ends[lag, run] - masses[lag, run])
        reached = self._place_at(before[run] + inside_run)
        # Rounding of sums of weights may reach past the last start.
        first = np.clip(reached - self.begins[run], 0, starts[lag, run] - 1)
        stride, count = strides[lag, run], counts[lag, run]
        cell = np.arange(length)
        place = np.minimum(cell, count[:, None] - 1) * stride[:, None]
        turned = np.zeros(len(run), dtype=bool) if backward is None else backward
        turned = turned & self.reversible[run]
        # Read backwards, a window begins at what was its last frame.
        last = self.lengths[run] - 1
        room = np.where(turned, last - first - (count - 1) * stride, first)
        if shifts is not None:
            place = place - shifts.earlier
            after = last - room - np.where(shifts.outward > 0, place, 0).max(axis=1)
            place = place + np.clip(shifts.outward, -room[:, None], after[:, None])
        along = room[:, None] + place
        inside = self.begins[run][:, None] + np.where(turned[:, None], last[:, None] - along, along)
        interval = self.intervals_ps[run]
        return Windows(
            self.frames.at(inside),
            cell < count[:, None],
            (place - place[:, :1]) * interval[:, None],
            stride * interval,
            stride,
        )

    def draw_frames(self, places: Float64[np.ndarray, " draws"]) -> Int64[np.ndarray, " draws"]:
        """Draw single frames, each alike or by ``weights``.

        Args:
            places: where among their weights, in [0, 1).
        """
        total = self._weight_before(np.array(len(self.frames)))
        aimed = np.minimum(places * total, np.nextafter(total, 0.0))
        return self.frames.at(np.clip(self._place_at(aimed), 0, len(self.frames) - 1))

    def _weight_before(self, places: Int64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
        """Return the sum of the weights of all frames before some places."""
        sums = self._sums_of_weights
        return np.asarray(places.astype(np.float64) if sums is None else sums[places])

    def _place_at(self, weight: Float64[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Return the last place with at most this much weight before it."""
        sums = self._sums_of_weights
        if sums is None:
            return np.floor(weight).astype(np.int64)
        return np.searchsorted(sums, weight, side="right") - 1

    @cached_property
    def _sums_of_weights(self) -> Float64[np.ndarray, " frames_and_end"] | None:
        """Return the weight before each frame, and of all; None where all count alike."""
        return None if self.weights is None else np.concatenate([[0.0], np.cumsum(self.weights)])

    def _starts(
        self, lags_ps: np.ndarray, length: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return for each lag and run the starts, the stride, and the frames of a window."""
        if length < MIN_FRAMES:
            raise InputError(f"a window of {length} frames is too short; at least {MIN_FRAMES}")
        ratio = lags_ps[:, None] / self.intervals_ps
        strides = np.maximum(np.round(ratio), 1).astype(np.int64)
        counts = np.minimum((self.lengths - 1) // strides + 1, length)
        served = (ratio > 1 / LAG_TOLERANCE) & (counts >= MIN_FRAMES)
        starts = np.where(served, self.lengths - (counts - 1) * strides, 0)
        return starts, strides, counts
