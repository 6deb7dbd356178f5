"""How fast torsions relax beside those of dynamics."""

from typing import Any

import numpy as np
from jaxtyping import Float

from trajgen.analysis.frame_table import FrameTable
from trajgen.analysis.kinetics.autocorrelation import decorrelation_time, torsion_lagged_sums


def relaxation(table: FrameTable, reference: FrameTable) -> dict[str, Any]:
    """Compare the relaxation times of torsions with those of a reference, torsion by torsion.

    ``relaxation_ratio`` is the median of their ratios, which says whether motions are too fast or
    too slow; in ``relaxation_log_error``, the mean of |ln ratio|, the two do not cancel. Both sides
    are looked at up to the same time, half of the shorter of their longest runs. A torsion that
    does not relax until then on one side alone counts with that time there, so that its ratio is a
    bound, nearer to 1 than the truth; one that does on neither side says nothing.

    Args:
        table: frames to judge.
        reference: frames to judge by.
    """
    step_ps = table.time_step_ps
    if step_ps is None or step_ps != reference.time_step_ps:
        return _none("the time steps differ")
    longest = min(
        int(np.unique(one.runs, return_counts=True)[1].max(initial=0)) for one in (table, reference)
    )
    lags = longest // 2
    if lags < 1:
        return _none("no run has two frames")
    mine, theirs = (relaxation_times(one, lags, step_ps) for one in (table, reference))
    relaxed = np.isfinite(mine) | np.isfinite(theirs)
    one_sided = relaxed & ~(np.isfinite(mine) & np.isfinite(theirs))
    seen_ps = lags * step_ps
    ratios = np.minimum(mine, seen_ps)[relaxed] / np.minimum(theirs, seen_ps)[relaxed]
    counts = {
        "relaxation_torsions": len(ratios),
        "relaxation_one_sided": int(one_sided.sum()),
        "relaxation_not_measured": int((~relaxed).sum()),
    }
    if not len(ratios):
        return {**_none("no torsion relaxes on either side"), **counts}
    return {
        "relaxation_ratio": float(np.median(ratios)),
        "relaxation_log_error": float(np.abs(np.log(ratios)).mean()),
        **counts,
    }


def relaxation_times(
    table: FrameTable, lags: int, step_ps: float
) -> Float[np.ndarray, " torsions"]:
    """Return when the autocorrelation of each torsion falls to 1/e, ps; infinite where it does not.

    Args:
        table: the frames.
        lags: frames up to which that is looked for.
        step_ps: time between frames.
    """
    names = [name for name in ("backbone", "side_chain") if name in table.features]
    angles = np.concatenate([table.features[name].values for name in names], axis=1)
    blocks = np.zeros(len(angles), dtype=np.int64)
    curves = torsion_lagged_sums(angles, table.runs, blocks, lags).autocorrelation(np.ones(1))
    times = [decorrelation_time(curve, step_ps).value for curve in curves.T]
    return np.array([np.inf if time is None else time for time in times])


def _none(reason: str) -> dict[str, Any]:
    return {"relaxation_ratio": None, "relaxation_log_error": None, "relaxation_reason": reason}
