"""Windows of consecutive frames at any lag, for models of whole trajectories.

Windows are not listed but drawn: a trajectory has as many at each of its lags as it has frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from trajgen.data.records import BeadFrames, Timeline
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

    frames: Int64[np.ndarray, " frames"]
    begins: Int64[np.ndarray, " runs"]
    lengths: Int64[np.ndarray, " runs"]
    intervals_ps: Float64[np.ndarray, " runs"]
    weights: Float64[np.ndarray, " frames"] | None
    reversible: Bool[np.ndarray, " runs"]

    @classmethod
    def find(
        cls,
        parts: Sequence[BeadFrames | Timeline],
        chosen: Bool[np.ndarray, " frames"] | None = None,
        reversible: Bool[np.ndarray, " frames"] | None = None,
    ) -> "Runs":
        """Find the segments of parts with a known time step; frames count through the parts.

        Args:
            parts: frames of one molecule, or when they are.
            chosen: frames that may be used; a run ends where one may not.
            reversible: frames of trajectories that are as likely backwards; None for none.
        """
        runs: list[np.ndarray] = []
        intervals: list[float] = []
        offset = 0
        for part in parts:
            if part.time_step_ps is not None and len(part.segments):
                _, lengths_of_part = np.unique(part.segments, return_counts=True)
                order = offset + np.argsort(part.segments, kind="stable")
                for inside in np.split(order, np.cumsum(lengths_of_part)[:-1]):
                    for run in _pieces(inside, chosen):
                        runs.append(run)
                        intervals.append(part.time_step_ps)
            offset += len(part.segments)
        lengths = np.array([len(run) for run in runs], dtype=np.int64)
        return cls(
            frames=np.concatenate(runs) if runs else np.zeros(0, dtype=np.int64),
            begins=np.cumsum(lengths) - lengths,
            lengths=lengths,
            intervals_ps=np.array(intervals, dtype=np.float64),
            weights=None,
            reversible=np.array(
                [reversible is not None and bool(reversible[run].all()) for run in runs], dtype=bool
            ),
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
        before = self._weight_before
        return bool((before[self.begins + starts] > before[self.begins]).any())

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
        starts, strides, counts = self._starts(lags_ps, length)
        before = self._weight_before[self.begins]
        masses = self._weight_before[self.begins + starts] - before
        ends = np.cumsum(masses, axis=1)
        totals = ends[:, -1] if len(self.lengths) else np.zeros(len(lags_ps))
        if (totals <= 0).any():
            lag_ps = float(lags_ps[np.argmin(totals)])
            raise InputError(f"no run of frames has a window of three frames at lag_ps {lag_ps:g}")
        aimed = np.minimum(places * totals, np.nextafter(totals, 0.0))
        run = (ends <= aimed[:, None]).sum(axis=1)
        row = np.arange(len(lags_ps))
        inside_run = aimed - (ends[row, run] - masses[row, run])
        reached = np.searchsorted(self._weight_before, before[run] + inside_run, side="right")
        # Rounding of sums of weights may reach past the last start.
        first = np.clip(reached - 1 - self.begins[run], 0, starts[row, run] - 1)
        stride, count = strides[row, run], counts[row, run]
        cell = np.arange(length)
        place = np.minimum(cell, count[:, None] - 1) * stride[:, None]
        turned = np.zeros(len(row), dtype=bool) if backward is None else backward
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
            self.frames[inside],
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
        before = self._weight_before
        aimed = np.minimum(places * before[-1], np.nextafter(before[-1], 0.0))
        reached = np.searchsorted(before, aimed, side="right") - 1
        return self.frames[np.clip(reached, 0, len(self.frames) - 1)]

    @cached_property
    def _weight_before(self) -> Float64[np.ndarray, " frames_and_end"]:
        """Return the sum of the weights before each frame, and of all."""
        weights = np.ones(len(self.frames)) if self.weights is None else self.weights
        return np.concatenate([[0.0], np.cumsum(weights)])

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


def _pieces(inside: np.ndarray, chosen: np.ndarray | None) -> list[np.ndarray]:
    if chosen is None:
        return [inside]
    kept = chosen[inside]
    cuts = np.flatnonzero(np.diff(kept)) + 1
    return [piece for piece in np.split(inside, cuts) if len(piece) and chosen[piece[0]]]
