"""What training windows are drawn from."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from trajgen.data.stored_positions import StoredPositions
from trajgen.data.windows import Runs, Shifts
from trajgen.errors import InputError
from trajgen.surrogate.conditioning import KNOWN_START, TaskSettings
from trajgen.surrogate.encoded_windows import WindowTimes


@dataclass(frozen=True)
class DrawnWindows:
    """Windows of frames, as indices into all frames of a dataset.

    Attributes:
        frames: the frame of each cell.
        present: False for padding.
        times: when the frames are.
        strides: the lag of each, in frames.
    """

    frames: Int64[Tensor, "windows frames"]
    present: Bool[Tensor, "windows frames"]
    times: WindowTimes
    strides: Int64[Tensor, " windows"]


@dataclass(frozen=True)
class Places:
    """Where windows lie, before their length in frames is known: numbers in [0, 1).

    Attributes:
        lags: which lag.
        starts: which start.
        backward: windows that go back in time, where the trajectory is as likely so.
        from_ensemble: windows that must begin in equilibrium.
        alone: those of a single frame, which may be any frame.
    """

    lags: Float64[np.ndarray, " windows"]
    starts: Float64[np.ndarray, " windows"]
    backward: Bool[np.ndarray, " windows"]
    from_ensemble: Bool[Tensor, " windows"]
    alone: Bool[Tensor, " windows"]

    @classmethod
    def draw(
        cls,
        from_ensemble: Bool[Tensor, " windows"],
        alone: Bool[Tensor, " windows"],
        generator: torch.Generator,
    ) -> "Places":
        """Draw where windows lie."""
        draws = torch.rand(3, len(alone), generator=generator, dtype=torch.float64).numpy()
        return cls(draws[0], draws[1], draws[2] < 0.5, from_ensemble, alone)


@dataclass(frozen=True)
class WindowPool:
    """Runs of frames that windows lie in, and the lags that are drawn.

    Attributes:
        runs: the runs; their weights say how often windows begin at each frame.
        lags_ps: the lags, each drawn as often as the others: even in log time.
    """

    runs: Runs
    lags_ps: Float64[np.ndarray, " lags"]


@dataclass(frozen=True)
class WindowSource:
    """What windows are drawn from.

    A window whose first frame is known may begin anywhere: what follows depends on that frame and
    not on how often it is shown. Where the first frame is asked too, windows must begin as often in
    each state as the equilibrium ensemble is there.

    Attributes:
        positions: all frames of the dataset, beads or atoms.
        temperatures_K: temperature of the frames of each shard.
        starts: for windows that may begin anywhere.
        ensemble: for windows that begin in equilibrium; None where no frames are known to be.
    """

    positions: StoredPositions
    temperatures_K: Float[Tensor, " shards"]
    starts: WindowPool
    ensemble: WindowPool | None

    def count(self, length: int) -> int:
        """Return the number of windows at the shortest lag."""
        lags_ps = self.starts.lags_ps
        return self.starts.runs.count(float(lags_ps[0]), length) if len(lags_ps) else 0

    def sample(self, limit: int) -> Float[Tensor, "some sites 3"]:
        """Read at most so many of the frames that windows may begin at, evenly spaced."""
        return self.positions.read(torch.from_numpy(self.starts.runs.frames.evenly(limit)))

    def serves(self, tasks: TaskSettings) -> bool:
        """Say whether there are windows for tasks."""
        known = any(getattr(tasks, name) for name in KNOWN_START)
        return len(self.starts.lags_ps) > 0 and (known or self.ensemble is not None)

    def windows(
        self,
        length: int,
        places: Places,
        shifts: Shifts | None = None,
    ) -> DrawnWindows:
        """Return the windows at some places.

        Args:
            length: frames of a window.
            places: where they lie.
            shifts: cells that are not a lag apart; None for none.

        Raises:
            InputError: there are no frames in equilibrium, and a window must begin there.
        """
        count = len(places.lags)
        moved = Shifts.none(count, length) if shifts is None else shifts
        frames = np.zeros((count, length), dtype=np.int64)
        present = np.zeros((count, length), dtype=bool)
        times_ps, lag_ps = np.zeros((count, length)), np.zeros(count)
        strides = np.ones(count, dtype=np.int64)
        inside = places.from_ensemble
        for pool, wanted in ((self.starts, ~inside), (self.ensemble, inside)):
            rows = torch.nonzero(wanted).flatten().numpy()
            if not len(rows):
                continue
            if pool is None:
                raise InputError(
                    "the data have no trajectory at equilibrium to draw windows from; ask for "
                    "tasks with a known first frame alone"
                )
            lags = pool.lags_ps[(places.lags[rows] * len(pool.lags_ps)).astype(np.int64)]
            found = pool.runs.draw(
                lags, length, places.starts[rows], moved.take(rows), places.backward[rows]
            )
            alone = places.alone.numpy()[rows]
            one = pool.runs.draw_frames(places.starts[rows])[:, None]
            frames[rows], present[rows] = np.where(alone[:, None], one, found.frames), found.present
            times_ps[rows], lag_ps[rows] = found.times_ps, found.lag_ps
            strides[rows] = found.strides
        chosen = torch.from_numpy(frames)
        times = WindowTimes(
            torch.from_numpy(times_ps).float(),
            torch.from_numpy(lag_ps).float(),
            self.temperatures_K[self.positions.shard_of(chosen[:, 0])],
        )
        return DrawnWindows(chosen, torch.from_numpy(present), times, torch.from_numpy(strides))

    def describe(self, frames: Int64[Tensor, " frames"]) -> str:
        """Say in words which window this is."""
        first, last = frames[[0, -1]].tolist()
        return (
            f"the window from {self.positions.describe(first)} to {self.positions.describe(last)}"
        )
