"""What a training step is asked: windows, tasks, flow times and noise, and the loss of each."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trajgen.surrogate.conditioning import TaskSettings, draw_tasks
from trajgen.surrogate.interpolant import path_point
from trajgen.surrogate.resolutions import Resolution
from trajgen.surrogate.surrogate import (
    Molecule,
    SurrogateSettings,
    WindowTimes,
    encode_windows,
)
from trajgen.surrogate.tokens import channel_count, channels_in_use
from trajgen.surrogate.training_windows import WindowSource
from trajgen.surrogate.transformer import WindowInputs


@dataclass(frozen=True)
class Batch:
    """One batch, a row a window; every number in it is drawn, so it has no other state.

    Attributes:
        frames: frames of each window, as indices into all frames of the dataset.
        known: cells that are given.
        present: frames that exist in the task.
        times_ps: time of each frame since the first.
        lag_ps: lag of each window.
        temperature_K: temperature of each window.
        t: flow times.
        noise: the start of each path, in normalised tokens.
        context_noise_nm: displacement of given sites, nm.
    """

    frames: Int64[Tensor, "batch frames"]
    known: Bool[Tensor, "batch frames beads"]
    present: Bool[Tensor, "batch frames"]
    times_ps: Float[Tensor, "batch frames"]
    lag_ps: Float[Tensor, " batch"]
    temperature_K: Float[Tensor, " batch"]
    t: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch frames beads channels"]
    context_noise_nm: Float[Tensor, "batch frames sites 3"]

    def take(self, rows: slice) -> "Batch":
        """Return some rows: the share of one process, say."""
        return Batch(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw_batch(
    source: WindowSource,
    resolution: Resolution,
    batch: int,
    frames: int,
    tasks: TaskSettings,
    context_noise_nm: float,
    generator: torch.Generator,
) -> Batch:
    """Draw windows, tasks, times and noise.

    Flow times are stratified: one in each of ``batch`` equal parts of [0, 1], in random order,
    which leaves their distribution uniform and makes the loss less noisy. The size of the
    displacement of known sites is uniform up to ``context_noise_nm`` for each window, so that a
    model learns to go on from frames that are not quite right, such as its own.
    """
    windows = source.draw(batch, frames, generator)
    residues, sites = resolution.beads.n_beads, source.positions_nm.shape[1]
    drawn = draw_tasks(windows.present, residues, tasks, generator)
    strata = torch.randperm(batch, generator=generator)
    t = (strata + torch.rand(batch, generator=generator)) / batch
    channels = channel_count(resolution.has_torsion.shape[1])
    noise = torch.randn(batch, frames, residues, channels, generator=generator)
    size = context_noise_nm * torch.rand(batch, 1, 1, 1, generator=generator)
    displacement = size * torch.randn(batch, frames, sites, 3, generator=generator)
    times = windows.times
    return Batch(
        windows.frames,
        drawn.known,
        drawn.present,
        times.times_ps,
        times.lag_ps,
        times.temperature_K,
        t,
        noise,
        displacement,
    )


def window_losses(
    network: Callable[[Tensor, Tensor, WindowInputs], Tensor],
    source: WindowSource,
    batch: Batch,
    molecule: Molecule,
    settings: SurrogateSettings,
) -> Float[Tensor, " batch"]:
    """Return the mean squared error of the velocity over the unknown cells of each window.

    Channels of torsions that a residue has not do not count.

    Args:
        network: gives the velocity at noisy tokens and flow times: a ``TrajectoryTransformer``.
        source: what the windows were drawn from.
        batch: what was drawn.
        molecule: what is known of the molecule, on the device of the network.
        settings: the path.
    """
    device = molecule.template_nm.device
    positions = source.positions_nm[batch.frames].to(device)
    times = WindowTimes(batch.times_ps, batch.lag_ps, batch.temperature_K).to(device)
    known, present, t, noise = (
        value.to(device) for value in (batch.known, batch.present, batch.t, batch.noise)
    )
    given = known[..., molecule.resolution.site_residues]
    shown = positions + batch.context_noise_nm.to(device) * given[..., None]
    encoded = encode_windows(shown, known, present, times, molecule)
    x_t, target = path_point(settings.path, noise, encoded.tokens, t)
    x_t = torch.where(known[..., None], encoded.tokens, x_t)
    used = channels_in_use(molecule.resolution)
    error = (network(x_t, t, encoded.inputs) - target).square() * used
    error = error.sum(dim=-1) / used.sum(dim=-1)
    asked = present[:, :, None] & ~known
    return torch.where(asked, error, 0.0).sum(dim=(1, 2)) / asked.sum(dim=(1, 2))
