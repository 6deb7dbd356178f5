"""Which of several paths between two conformations is the most likely: the order they come in."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from trajgen.data.records import Rollouts
from trajgen.geometry.validity import check_chain
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed, torch_generator
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.encoded_windows import WindowTimes
from trajgen.surrogate.filling_plan import filling_plan
from trajgen.surrogate.surrogate import Surrogate

#: Windows that are judged at once: their gradients take much more memory than their generation.
WINDOWS_AT_ONCE = 4
#: Estimates of each density, which are averaged; what fewer and more are worth was measured, see
#: ``docs/surrogate.md``.
PROBES = 4


@dataclass(frozen=True)
class PathScore:
    """What speaks for a path.

    Attributes:
        valid_share: share of its frames without a broken bond or a clash of alpha carbons, and
            without atoms that overlap where the path has atoms.
        log_likelihood: ln p of the frames between the ends, given these, under the model: the sum
            over the levels in which paths are filled in. None where the path is not whole.
        log_likelihood_error: standard error of that from the random signs of the estimate. Paths
            that are ranked together have the same signs: their differences are known better.
    """

    valid_share: float
    log_likelihood: float | None
    log_likelihood_error: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))


def ranked(
    surrogate: Surrogate,
    paths: Rollouts,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
) -> tuple[Rollouts, tuple[PathScore, ...]]:
    """Return paths in the order of their scores, the best first, and the scores.

    Valid paths come before those with frames that are not, and among paths that are equally valid
    those that are more likely.

    Args:
        surrogate: the model that judges them.
        paths: paths of one length between the same ends.
        lag_ps: time between their frames.
        settings: how windows are solved.
        seed: base of the probes of the density, which are the same for all paths.
        progress: told of each path.
    """
    scores = []
    with progress.task("rank paths", total=len(paths.alive)) as task:
        for positions_nm, alive in zip(paths.positions_nm, paths.alive, strict=True):
            if alive.all():
                scores.append(score_path(surrogate, positions_nm, lag_ps, settings, seed))
            else:
                scores.append(PathScore(0.0, None, None))
            task.advance()
    order = sorted(
        range(len(scores)),
        key=lambda n: (-scores[n].valid_share, -(scores[n].log_likelihood or -np.inf), n),
    )
    best_first = replace(
        paths, positions_nm=paths.positions_nm[order], alive=paths.alive[order], losses=()
    )
    return best_first, tuple(scores[n] for n in order)


def score_path(
    surrogate: Surrogate,
    positions_nm: np.ndarray,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
) -> PathScore:
    """Judge one whole path; arguments as for ``ranked``."""
    sites = torch.from_numpy(positions_nm)
    resolution, here = surrogate.molecule.resolution, sites.to(surrogate.device)
    bonds = torch.tensor(surrogate.beads.bonds, dtype=torch.long).reshape(-1, 2)
    whole = check_chain(resolution.alpha_carbons(here), bonds=bonds).valid
    valid = (whole & ~resolution.overlapping(here)).double().mean()
    found = _log_likelihoods(surrogate, sites, lag_ps, settings, seed)
    error = found.std(ddof=1) / np.sqrt(PROBES)
    return PathScore(float(valid), float(found.mean()), float(error))


def _log_likelihoods(
    surrogate: Surrogate,
    path_nm: Float[Tensor, "frames sites 3"],
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
) -> Float64[np.ndarray, " probes"]:
    """Estimate ln p of a path: of the frames that cross first, and of those between them."""
    ends = np.zeros(len(path_nm), dtype=bool)
    ends[[0, -1]] = True
    residues, device = surrogate.beads.n_beads, surrogate.device
    temperature_K = settings.chosen_temperature_K(surrogate)
    total = np.zeros(PROBES)
    plan = filling_plan(surrogate, ends, lag_ps, settings, seed, WINDOWS_AT_ONCE)
    for number, part in enumerate(plan):
        windows = len(part.frames)
        generator = torch_generator(derive_seed(seed, "probe", index=number))
        ones = torch.ones(windows, device=device)
        offsets_ps = lag_ps * (part.frames - part.frames[:, :1]).float()
        times = WindowTimes(
            offsets_ps.to(device), part.stride * lag_ps * ones, temperature_K * ones
        )
        known = part.known[:, None].expand(windows, -1, residues)
        found = surrogate.log_likelihood(
            path_nm[part.frames].to(device), known.to(device), times, PROBES, generator, settings
        )
        total += found.double().sum(dim=1).cpu().numpy()
    return total
