"""Which of several paths between two conformations is the most likely: the order they come in."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from trajgen.data.records import Rollouts
from trajgen.geometry.validity import check_chain
from trajgen.seeding import derive_seed, torch_generator
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.conditioning import MIN_PATH_FRAMES, interpolate_mask
from trajgen.surrogate.surrogate import Surrogate, WindowTimes


@dataclass(frozen=True)
class PathScore:
    """What speaks for a path.

    Attributes:
        valid_share: share of its frames without a broken bond or a clash of alpha carbons.
        log_likelihood: mean over windows of ln p of the frames between the ends of each, given
            these, under the model; None where the path is not whole.
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
    resolution = surrogate.molecule.resolution
    alpha = resolution.alpha_carbons(sites.to(surrogate.device))
    bonds = torch.tensor(surrogate.beads.bonds, dtype=torch.long).reshape(-1, 2)
    valid = check_chain(alpha, bonds=bonds).valid.double().mean()
    stride = surrogate.settings.window_frames - 1
    values = [
        _window_log_likelihood(surrogate, window, lag_ps, settings, derive_seed(seed, "probe"))
        for begin in range(0, len(sites) - 1, stride)
        if len(window := sites[begin : begin + stride + 1]) >= MIN_PATH_FRAMES
    ]
    return PathScore(float(valid), float(np.mean(values)))


def _window_log_likelihood(
    surrogate: Surrogate,
    window_nm: torch.Tensor,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
) -> float:
    frames, residues = len(window_nm), surrogate.beads.n_beads
    device, temperature_K = surrogate.device, settings.chosen_temperature_K(surrogate)
    known = interpolate_mask(frames, residues)[None].to(device)
    shape = (1, frames, residues, surrogate.channels)
    signs = 2.0 * torch.randint(2, shape, generator=torch_generator(seed)) - 1.0
    times = WindowTimes.even(1, frames, lag_ps, temperature_K, device)
    window = window_nm[None].to(device)
    found = surrogate.log_likelihood(window, known, times, signs.to(device), settings)
    return float(found)
