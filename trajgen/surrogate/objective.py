"""What a training step is asked: windows, tasks, flow times and noise, and the loss of each."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trajgen.surrogate.conditioning import TaskSettings, draw_tasks
from trajgen.surrogate.interpolant import path_point
from trajgen.surrogate.surrogate import Molecule, SurrogateSettings, encode_windows
from trajgen.surrogate.tokens import TOKEN_CHANNELS
from trajgen.surrogate.training_windows import WindowSet


@dataclass(frozen=True)
class Batch:
    """One batch, a row a window; every number in it is drawn, so it has no other state.

    Attributes:
        windows: index of each window in its set.
        known: cells that are given.
        present: frames that exist in the task.
        t: flow times.
        noise: the start of each path, in normalised tokens.
        context_noise_nm: displacement of given beads, nm.
    """

    windows: Int64[Tensor, " batch"]
    known: Bool[Tensor, "batch frames beads"]
    present: Bool[Tensor, "batch frames"]
    t: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch frames beads channels"]
    context_noise_nm: Float[Tensor, "batch frames beads 3"]

    def take(self, rows: slice) -> "Batch":
        """Return some rows: the share of one process, say."""
        return Batch(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw_batch(
    windows: WindowSet,
    rows: Int64[Tensor, " batch"],
    tasks: TaskSettings,
    context_noise_nm: float,
    generator: torch.Generator,
) -> Batch:
    """Draw tasks, times and noise for the windows ``rows``.

    Flow times are stratified: one in each of ``batch`` equal parts of [0, 1], in random order,
    which leaves their distribution uniform and makes the loss less noisy. The size of the
    displacement of known beads is uniform up to ``context_noise_nm`` for each window, so that a
    model learns to go on from frames that are not quite right, such as its own.
    """
    batch, (frames, beads) = len(rows), (windows.frames.shape[1], windows.positions_nm.shape[1])
    drawn = draw_tasks(windows.present[rows], beads, tasks, generator)
    strata = torch.randperm(batch, generator=generator)
    t = (strata + torch.rand(batch, generator=generator)) / batch
    noise = torch.randn(batch, frames, beads, TOKEN_CHANNELS, generator=generator)
    size = context_noise_nm * torch.rand(batch, 1, 1, 1, generator=generator)
    displacement = size * torch.randn(batch, frames, beads, 3, generator=generator)
    return Batch(rows, drawn.known, drawn.present, t, noise, displacement)


def window_losses(
    network: torch.nn.Module,
    windows: WindowSet,
    batch: Batch,
    molecule: Molecule,
    settings: SurrogateSettings,
) -> Float[Tensor, " batch"]:
    """Return the mean squared error of the velocity over the unknown cells of each window.

    Args:
        network: a ``TrajectoryTransformer``, wrapped or not.
        windows: the set that ``batch.windows`` counts in.
        batch: what was drawn.
        molecule: what is known of the molecule, on the device of the network.
        settings: path and lag.
    """
    device = molecule.template_nm.device
    positions = windows.take(batch.windows).positions().to(device)
    known, present, t, noise = (
        value.to(device) for value in (batch.known, batch.present, batch.t, batch.noise)
    )
    shown = positions + batch.context_noise_nm.to(device) * known[..., None]
    encoded = encode_windows(shown, known, present, molecule, settings.lag_ps)
    x_t, target = path_point(settings.path, noise, encoded.tokens, t)
    x_t = torch.where(known[..., None], encoded.tokens, x_t)
    error = (network(x_t, t, encoded.inputs) - target).square().mean(dim=-1)
    asked = present[:, :, None] & ~known
    return torch.where(asked, error, 0.0).sum(dim=(1, 2)) / asked.sum(dim=(1, 2))
