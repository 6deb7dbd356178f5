"""Trajectories from a surrogate: forward simulation by chained blocks, and paths between frames."""

import logging

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float32
from pydantic import Field
from torch import Tensor

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.geometry.validity import check_chain
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed, torch_generator
from trajgen.surrogate.conditioning import MIN_PATH_FRAMES, forward_mask, interpolate_mask
from trajgen.surrogate.sampler import SamplerSettings
from trajgen.surrogate.surrogate import Surrogate
from trajgen.surrogate.tokens import TOKEN_CHANNELS

logger = logging.getLogger(__name__)


class RolloutSettings(SamplerSettings):
    """How trajectories are generated.

    Attributes:
        batch: windows that are generated at once; results do not depend on it.
    """

    batch: int = Field(default=64, ge=1)


def forward(
    surrogate: Surrogate,
    starts_nm: Float32[np.ndarray, "replicas beads 3"],
    frames: int,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
) -> Rollouts:
    """Simulate forward from each start.

    A window is generated after the start, its last frame is the key frame of the next window, and
    so on. A replica's noise depends on the seed, its index and the block alone. A replica with a
    frame that is not finite, or with a bond above 1 nm, is frozen there: its later frames are NaN
    and marked in ``alive``.

    Args:
        surrogate: the model.
        starts_nm: a conformation for each replica.
        frames: frames of the result; frame 0 is the start itself, bit for bit.
        lag_ps: time between frames; must be the model's.
        settings: how the windows are sampled.
        seed: base of the noise.
        progress: told of each generated block of each batch.

    Raises:
        InputError: starts that are not finite or of another molecule, a lag that the model was
            not trained for, fewer than two frames.
    """
    _require_lag(surrogate, lag_ps)
    if frames < 2:
        raise InputError(f"frames is {frames}; wanted are at least 2, the start and one more")
    starts = _checked(surrogate, starts_nm, "starts")
    replicas, beads = starts.shape[:2]
    stride = surrogate.settings.window_frames - 1
    blocks = -(-(frames - 1) // stride)
    known = forward_mask(stride + 1, beads).to(surrogate.device)
    positions = torch.full((replicas, 1 + blocks * stride, beads, 3), torch.nan)
    positions[:, 0] = starts
    alive = torch.zeros(replicas, 1 + blocks * stride, dtype=torch.bool)
    alive[:, 0] = True
    batches = torch.arange(replicas).split(settings.batch)
    with progress.task("roll out", total=blocks * len(batches)) as task:
        for rows in batches:
            for block in range(blocks):
                begin = block * stride
                going = rows[alive[rows, begin]]
                if len(going):
                    seeds = [derive_seed(seed, "forward", block, int(row)) for row in going]
                    window = repeat(positions[going, begin], "w b x -> w f b x", f=stride + 1)
                    new = _generate(surrogate, window, known, seeds, settings)[:, 1:]
                    intact = _intact(surrogate, new)
                    index = torch.arange(begin + 1, begin + 1 + stride)
                    alive[going[:, None], index] = intact
                    positions[going[:, None], index] = torch.where(
                        intact[..., None, None], new, torch.nan
                    )
                task.advance()
    lost = int((~alive[:, frames - 1]).sum())
    if lost:
        logger.warning("%d of %d replicas fell apart and were frozen", lost, replicas)
    return Rollouts(
        surrogate.topology,
        positions[:, :frames].numpy(),
        alive[:, :frames].numpy(),
        surrogate.lag_ps,
    )


def interpolate(
    surrogate: Surrogate,
    start_nm: Float32[np.ndarray, "beads 3"],
    end_nm: Float32[np.ndarray, "beads 3"],
    frames: int,
    paths: int,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
) -> Rollouts:
    """Generate paths between two conformations, each from noise of its own.

    Args:
        surrogate: the model.
        start_nm: first frame; it comes back bit for bit.
        end_nm: last frame; it comes back superposed on the start.
        frames: frames of a path, both ends included; at most the model's window.
        paths: number of paths.
        lag_ps: time between frames; must be the model's.
        settings: how the windows are sampled.
        seed: base of the noise.
        progress: told of each batch.

    Raises:
        InputError: ends that are not finite or of another molecule, a lag that the model was not
            trained for, a number of frames that does not fit one window, no path.
    """
    _require_lag(surrogate, lag_ps)
    longest = surrogate.settings.window_frames
    if not MIN_PATH_FRAMES <= frames <= longest:
        raise InputError(
            f"frames is {frames}; this surrogate generates paths of {MIN_PATH_FRAMES} to "
            f"{longest} frames, both ends included: the length of the windows it was trained on"
        )
    if paths < 1:
        raise InputError(f"paths is {paths}; wanted is at least 1")
    ends = _checked(surrogate, np.stack([start_nm, end_nm]), "start and end")
    known = interpolate_mask(frames, ends.shape[1]).to(surrogate.device)
    window = repeat(ends[0], "b x -> f b x", f=frames).clone()
    window[-1] = ends[1]
    parts, alive = [], []
    batches = torch.arange(paths).split(settings.batch)
    with progress.task("interpolate", total=len(batches)) as task:
        for rows in batches:
            seeds = [derive_seed(seed, "interpolate", 0, int(row)) for row in rows]
            given = repeat(window, "f b x -> w f b x", w=len(rows))
            new = _generate(surrogate, given, known, seeds, settings)
            # A path with a broken frame leads nowhere: all of it is lost but the start.
            intact = _intact(surrogate, new)[:, -1:].repeat(1, frames)
            intact[:, 0] = True
            parts.append(torch.where(intact[..., None, None], new, torch.nan))
            alive.append(intact)
            task.advance()
    return Rollouts(
        surrogate.topology,
        torch.cat(parts).numpy(),
        torch.cat(alive).numpy(),
        surrogate.lag_ps,
    )


def _generate(
    surrogate: Surrogate,
    window_nm: Tensor,
    known: Tensor,
    seeds: list[int],
    settings: SamplerSettings,
) -> Tensor:
    """Complete windows with the noise of their seeds; the noise is drawn on the CPU always."""
    shape = (*known.shape, TOKEN_CHANNELS)
    noise = torch.stack([torch.randn(shape, generator=torch_generator(s)) for s in seeds])
    device = surrogate.device
    completed = surrogate.complete(
        window_nm.to(device), known.expand(len(seeds), *known.shape), noise.to(device), settings
    )
    return completed.cpu()


def _intact(surrogate: Surrogate, positions_nm: Tensor) -> Bool[Tensor, "windows frames"]:
    """Say for each frame whether it and all before it are finite and hold together."""
    bonds = torch.tensor(surrogate.topology.bonds, dtype=torch.long).reshape(-1, 2)
    report = check_chain(rearrange(positions_nm, "w f b x -> (w f) b x"), bonds=bonds)
    intact = report.not_exploded.view(positions_nm.shape[:2])
    return intact.int().cumprod(dim=1).bool()


def _checked(surrogate: Surrogate, positions_nm: np.ndarray, what: str) -> Tensor:
    beads = surrogate.topology.n_beads
    if positions_nm.ndim != 3 or positions_nm.shape[1:] != (beads, 3) or not len(positions_nm):
        raise InputError(
            f"{what} have shape {positions_nm.shape}; wanted is (n, {beads}, 3), with n of at "
            f"least 1, for {surrogate.topology.sequence}"
        )
    if not np.isfinite(positions_nm).all():
        raise InputError(f"{what} have a NaN or infinity; give whole conformations")
    return torch.from_numpy(np.ascontiguousarray(positions_nm))


def _require_lag(surrogate: Surrogate, lag_ps: float) -> None:
    if abs(lag_ps - surrogate.lag_ps) > 1e-6 * surrogate.lag_ps:
        raise InputError(
            f"lag_ps is {lag_ps:g}, but the surrogate was trained at {surrogate.lag_ps:g} ps; "
            f"ask for {surrogate.lag_ps:g}, or train one at {lag_ps:g}"
        )
