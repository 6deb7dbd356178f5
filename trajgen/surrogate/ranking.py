"""Which of several paths between two conformations is the most likely: the order they come in."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from trajgen.data.records import Rollouts
from trajgen.geometry.validity import check_chain
from trajgen.seeding import derive_seed, torch_generator
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.encoded_windows import WindowTimes
from trajgen.surrogate.filling_plan import filling_plan
from trajgen.surrogate.surrogate import Surrogate

#: Windows that are judged at once: their gradients take much more memory than their generation.
WINDOWS_AT_ONCE = 4


@dataclass(frozen=True)
class PathScore:
    """What speaks for a path.

    Attributes:
        valid_share: share of its frames without a broken bond or a clash of alpha carbons, and
            without atoms that overlap where the path has atoms.
        log_likelihood: ln p of the frames between the ends, given these, under the model: the sum
            over the levels in which paths are filled in. None where the path is not whole.
    """

    valid_share: float
    log_likelihood: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))


def ranked(
    surrogate: Surrogate, paths: Rollouts, lag_ps: float, settings: RolloutSettings, seed: int
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
    """
    scores = []
    for positions_nm, alive in zip(paths.positions_nm, paths.alive, strict=True):
        if alive.all():
            scores.append(score_path(surrogate, positions_nm, lag_ps, settings, seed))
        else:
            scores.append(PathScore(0.0, None))
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
    return PathScore(float(valid), _log_likelihood(surrogate, sites, lag_ps, settings, seed))


def _log_likelihood(
    surrogate: Surrogate,
    path_nm: Float[Tensor, "frames sites 3"],
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
) -> float:
    """Return ln p of a path: of the frames that cross first, and of those between them."""
    ends = np.zeros(len(path_nm), dtype=bool)
    ends[[0, -1]] = True
    residues, device = surrogate.beads.n_beads, surrogate.device
    temperature_K = settings.chosen_temperature_K(surrogate)
    total = 0.0
    plan = filling_plan(surrogate, ends, lag_ps, settings, seed, WINDOWS_AT_ONCE)
    for number, part in enumerate(plan):
        windows, frames = part.frames.shape
        shape = (windows, frames, residues, surrogate.channels)
        generator = torch_generator(derive_seed(seed, "probe", index=number))
        signs = 2.0 * torch.randint(2, shape, generator=generator) - 1.0
        ones = torch.ones(windows, device=device)
        offsets_ps = lag_ps * (part.frames - part.frames[:, :1]).float()
        times = WindowTimes(
            offsets_ps.to(device), part.stride * lag_ps * ones, temperature_K * ones
        )
        known = part.known[:, None].expand(windows, -1, residues)
        found = surrogate.log_likelihood(
            path_nm[part.frames].to(device), known.to(device), times, signs.to(device), settings
        )
        total += float(found.double().sum())
    return total
