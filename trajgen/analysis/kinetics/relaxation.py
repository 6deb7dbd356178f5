"""How fast torsions relax beside those of a reference."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trajgen.analysis.frame_table import FrameTable
from trajgen.analysis.kinetics.autocorrelation import decorrelation_time, torsion_lagged_sums
from trajgen.analysis.kinetics.estimates import Estimate


@dataclass(frozen=True)
class Relaxation:
    """Relaxation times of torsions beside those of a reference, torsion by torsion.

    Attributes:
        ratio: median of the ratios of the times: above 1, motions are too slow.
        log_error: mean of |ln ratio|, in which too fast and too slow do not cancel.
        torsions: torsions that count.
        one_sided: of these, those that relax on one side alone. The time that was looked at counts
            for the other side, so that their ratio is a bound, nearer to 1 than the truth.
        not_measured: torsions that relax on neither side, which say nothing.
    """

    ratio: Estimate
    log_error: Estimate
    torsions: int = 0
    one_sided: int = 0
    not_measured: int = 0


def torsion_relaxation(table: FrameTable, reference: FrameTable) -> Relaxation:
    """Compare the relaxation times of backbone and side-chain torsions with those of a reference.

    Both sides are looked at up to the same time, half of the shorter of their longest runs.

    Args:
        table: frames to judge.
        reference: frames to judge by, of the same molecule.
    """
    step_ps = table.time_step_ps
    if step_ps is None or reference.time_step_ps is None:
        return _none("the frames have no time step")
    if step_ps != reference.time_step_ps:
        return _none("the time steps differ")
    longest = min(
        int(np.unique(one.runs, return_counts=True)[1].max(initial=0)) for one in (table, reference)
    )
    lags = longest // 2
    if lags < 1:
        return _none("no run has two frames")
    mine, theirs = (relaxation_times(one, lags, step_ps) for one in (table, reference))
    relaxed = np.isfinite(mine) | np.isfinite(theirs)
    if not len(relaxed):
        return _none("there are no torsions")
    if not relaxed.any():
        return _none("no torsion relaxes on either side", int((~relaxed).sum()))
    seen_ps = lags * step_ps
    ratios = np.minimum(mine, seen_ps)[relaxed] / np.minimum(theirs, seen_ps)[relaxed]
    one_sided = relaxed & ~(np.isfinite(mine) & np.isfinite(theirs))
    return Relaxation(
        ratio=Estimate(float(np.median(ratios))),
        log_error=Estimate(float(np.abs(np.log(ratios)).mean())),
        torsions=len(ratios),
        one_sided=int(one_sided.sum()),
        not_measured=int((~relaxed).sum()),
    )


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
    if not names:
        return np.zeros(0)
    angles = np.concatenate([table.features[name].values for name in names], axis=1)
    blocks = np.zeros(len(angles), dtype=np.int64)
    curves = torsion_lagged_sums(angles, table.runs, blocks, lags).autocorrelation(np.ones(1))
    times = [decorrelation_time(curve, step_ps).value for curve in curves.T]
    return np.array([np.inf if time is None else time for time in times])


def _none(reason: str, not_measured: int = 0) -> Relaxation:
    missing = Estimate(None, reason)
    return Relaxation(missing, missing, not_measured=not_measured)
