"""Forward simulation: windows that begin with the last frames of the window before."""

import logging

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed
from trajgen.surrogate.canvas import Canvas
from trajgen.surrogate.chaining import ChainedWindow, chained_windows, frames_done
from trajgen.surrogate.completing import (
    RolloutSettings,
    checked_frames,
    complete_windows,
    intact_frames,
    require_lag,
    require_task,
)
from trajgen.surrogate.conditioning import forward_mask
from trajgen.surrogate.surrogate import Surrogate
from trajgen.work_folder import WorkFolder

logger = logging.getLogger(__name__)


def forward(
    surrogate: Surrogate,
    starts_nm: Float32[np.ndarray, "replicas sites 3"]
    | Float32[np.ndarray, "replicas known sites 3"],
    frames: int,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
    work: WorkFolder | None = None,
) -> Rollouts:
    """Simulate forward from each start, a conformation or several consecutive frames.

    A window is generated after the start, its last frames begin the next window, and so on; of a
    start of several frames the last ``settings.context`` begin the first window. A
    replica's noise depends on the seed, its index and the window alone. A replica with a frame that
    is not finite, or with a bond above 1 nm, is frozen there: its later frames are NaN and marked
    in ``alive``.

    Args:
        surrogate: the model.
        starts_nm: a conformation for each replica, or consecutive frames, ``lag_ps`` apart.
        frames: frames of the result; the first are the start itself, bit for bit.
        lag_ps: time between frames.
        settings: how the windows are sampled.
        seed: base of the noise.
        progress: told of each generated window of all replicas.
        work: where the frames lie until all are there; None for memory.

    Raises:
        InputError: starts that are not finite or of another molecule, a lag or a temperature that
            the model was not trained for, no frame after the start.
    """
    require_task(surrogate, "forward")
    require_lag(surrogate, lag_ps)
    settings.require_possible(surrogate)
    settings = settings.for_task(surrogate, "forward")
    starts = _histories(surrogate, starts_nm)
    replicas, known, sites = starts.shape[:3]
    if frames <= known:
        raise InputError(
            f"frames is {frames}; wanted are at least {known + 1}, the start and one more"
        )
    length = surrogate.settings.window_frames
    canvas = Canvas(replicas, frames, sites, work)
    positions = canvas.positions_nm
    positions[:, :known] = starts
    windows = chained_windows(known, frames, length, settings.context)
    done_before = frames_done(windows, canvas.done, frames)
    with progress.task("roll out", total=frames - known, done=done_before - known) as task:
        for window in canvas.to_do(windows):
            block = _continued(surrogate, positions, window, lag_ps, settings, seed)
            positions[:, window.done : window.end] = block[:, : window.end - window.done]
            task.advance(window.end - window.done)
    alive = canvas.finite()
    lost = int((~alive[:, -1]).sum())
    if lost:
        logger.warning("%d of %d replicas fell apart and were frozen", lost, replicas)
    return Rollouts(surrogate.topology, positions.numpy(), alive.numpy(), lag_ps)


def _continued(
    surrogate: Surrogate,
    positions_nm: Float[Tensor, "replicas frames sites 3"],
    window: ChainedWindow,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
) -> Float[Tensor, "replicas new sites 3"]:
    """Return the frames that a window adds to each replica, NaN from where one came apart."""
    first, done = window.first, window.done
    going = torch.nonzero(positions_nm[:, done - 1].isfinite().flatten(1).all(dim=1)).flatten()
    residues, length = surrogate.beads.n_beads, surrogate.settings.window_frames
    replicas, _, sites = positions_nm.shape[:3]
    shared = done - first
    block = torch.full((replicas, length - shared, sites, 3), torch.nan)
    if len(going):
        given = torch.zeros(len(going), length, sites, 3)
        given[:, :shared] = positions_nm[going, first:done]
        seeds = [derive_seed(seed, "forward", window.number, int(row)) for row in going]
        mask, places = forward_mask(length, residues, shared), torch.arange(length)
        new = complete_windows(surrogate, given, mask, places, lag_ps, seeds, settings)
        intact = intact_frames(surrogate, new)[:, shared:].int().cumprod(dim=1).bool()
        block[going] = torch.where(intact[..., None, None], new[:, shared:], torch.nan)
    return block


def _histories(
    surrogate: Surrogate, starts_nm: np.ndarray
) -> Float[Tensor, "replicas known sites 3"]:
    """Return the known frames of each replica, one where a start is a conformation."""
    if starts_nm.ndim != 4:
        return checked_frames(surrogate, starts_nm, "starts")[:, None]
    known = starts_nm.shape[1]
    if known < 1:
        raise InputError("starts have no frame; wanted is one or more for each replica")
    every = checked_frames(surrogate, starts_nm.reshape(-1, *starts_nm.shape[2:]), "starts")
    return every.unflatten(0, (-1, known))
