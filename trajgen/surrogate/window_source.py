"""What training windows are drawn from."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from trajgen.data.stored_positions import StoredPositions
from trajgen.data.windows import Runs
from trajgen.errors import InputError
from trajgen.surrogate.conditioning import KNOWN_START, TaskSettings
from trajgen.surrogate.surrogate import WindowTimes

#: Share of windows whose last gap is shorter than a lag.
SHORTER_GAPS = 0.25


@dataclass(frozen=True)
class DrawnWindows:
    """Windows of frames, as indices into all frames of a dataset.

    Attributes:
        frames: the frame of each cell.
        present: False for padding.
        times: when the frames are.
    """

    frames: Int64[Tensor, "windows frames"]
    present: Bool[Tensor, "windows frames"]
    times: WindowTimes


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
        temperature_K: temperature of each frame.
        starts: for windows that may begin anywhere.
        ensemble: for windows that begin in equilibrium; None where no frames are known to be.
    """

    positions: StoredPositions
    temperature_K: Float[Tensor, " all_frames"]
    starts: WindowPool
    ensemble: WindowPool | None

    def count(self, length: int) -> int:
        """Return the number of windows at the shortest lag."""
        lags_ps = self.starts.lags_ps
        return self.starts.runs.count(float(lags_ps[0]), length) if len(lags_ps) else 0

    def serves(self, tasks: TaskSettings) -> bool:
        """Say whether there are windows for tasks."""
        known = any(getattr(tasks, name) for name in KNOWN_START)
        return len(self.starts.lags_ps) > 0 and (known or self.ensemble is not None)

    def draw(
        self,
        length: int,
        from_ensemble: Bool[Tensor, " windows"],
        generator: torch.Generator,
    ) -> DrawnWindows:
        """Draw windows of random lags and places; a quarter of them have a shorter last gap.

        That is what is left where a stretch of time is no multiple of the lag.

        Args:
            length: frames of a window.
            from_ensemble: windows that must begin in equilibrium.
            generator: the source of randomness.

        Raises:
            InputError: there are no frames in equilibrium, and a window must begin there.
        """
        count = len(from_ensemble)
        draws = torch.rand(4, count, generator=generator, dtype=torch.float64).numpy()
        frames = np.zeros((count, length), dtype=np.int64)
        present = np.zeros((count, length), dtype=bool)
        times_ps, lag_ps = np.zeros((count, length)), np.zeros(count)
        for pool, wanted in ((self.starts, ~from_ensemble), (self.ensemble, from_ensemble)):
            rows = torch.nonzero(wanted).flatten().numpy()
            if not len(rows):
                continue
            if pool is None:
                raise InputError(
                    "the data have no trajectory at equilibrium to draw windows from; ask for "
                    "tasks with a known first frame alone"
                )
            which, place, cut, gap = draws[:, rows]
            lags = pool.lags_ps[(which * len(pool.lags_ps)).astype(np.int64)]
            found = pool.runs.draw(lags, length, place, np.where(cut < SHORTER_GAPS, gap, 1.0))
            frames[rows], present[rows] = found.frames, found.present
            times_ps[rows], lag_ps[rows] = found.times_ps, found.lag_ps
        chosen = torch.from_numpy(frames)
        times = WindowTimes(
            torch.from_numpy(times_ps).float(),
            torch.from_numpy(lag_ps).float(),
            self.temperature_K[chosen[:, 0]],
        )
        return DrawnWindows(chosen, torch.from_numpy(present), times)

    def describe(self, frames: Int64[Tensor, " frames"]) -> str:
        """Say in words which window this is."""
        first, last = frames[[0, -1]].tolist()
        return (
            f"the window from {self.positions.describe(first)} to {self.positions.describe(last)}"
        )
