"""Holds the times in a trajectory file against the time step that an import was given."""

from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from trajgen.data.trajectories import STEP_TOLERANCE, has_times, time_rounding_ps
from trajgen.errors import InputError

_MEND = "or, where the times in the file are wrong, add --set trust_times=false"


class FileClock:
    """Checks the times of one file, chunk after chunk.

    Args:
        source: the file; where its format has no times, everything passes.
        given_ps: the time step that was given, None to let everything pass.
    """

    def __init__(self, source: Path, given_ps: float | None) -> None:
        self._source = source
        self._given_ps = given_ps if has_times(source) else None
        self._read = 0
        self._last_ps = np.zeros(0)
        self._last_segment = np.zeros(0, dtype=np.int64)

    def check(self, times_ps: np.ndarray, segments: Int64[np.ndarray, " frames"]) -> None:
        """Check the next frames.

        Raises:
            InputError: within a segment the times are uneven, or of another step.
        """
        if self._given_ps is None:
            return
        # With the last frame before them, so that a hole between chunks is seen too.
        times = np.concatenate([self._last_ps, times_ps]).astype(np.float64)
        ids = np.concatenate([self._last_segment, segments])
        first = self._read - len(self._last_ps)
        self._read += len(times_ps)
        self._last_ps, self._last_segment = times[-1:], ids[-1:]
        inside = np.flatnonzero(ids[1:] == ids[:-1])
        if len(inside):
            gaps_ps, rounding_ps = np.diff(times)[inside], time_rounding_ps(times)
            self._require_even(gaps_ps, first + inside, rounding_ps)
            # The mean restores the digits that rounding takes from each step of a stretch.
            own_ps, stretches = float(gaps_ps.mean()), len(times) - len(inside)
            off_ps = abs(own_ps - self._given_ps) - rounding_ps * stretches / len(inside)
            if off_ps > STEP_TOLERANCE * self._given_ps:
                raise InputError(
                    f"time_step_ps is {self._given_ps:g}, but the times in {self._source} are "
                    f"{own_ps:g} ps apart; give the right one, {_MEND}"
                )

    def _require_even(
        self,
        gaps_ps: Float64[np.ndarray, " gaps"],
        frames: Int64[np.ndarray, " gaps"],
        rounding_ps: float,
    ) -> None:
        """Refuse a gap that is not as long as most; ``frames`` are those before each gap."""
        usual_ps = float(np.sort(gaps_ps)[(len(gaps_ps) - 1) // 2])
        off_ps = np.abs(gaps_ps - usual_ps)
        odd = int(off_ps.argmax())
        if off_ps[odd] > STEP_TOLERANCE * abs(usual_ps) + rounding_ps:
            raise InputError(
                f"the times in {self._source} are uneven: {gaps_ps[odd]:g} ps from frame "
                f"{frames[odd]} to the next, where most are {usual_ps:g} ps apart; import the "
                f"parts before and after as files of their own, {_MEND}"
            )
