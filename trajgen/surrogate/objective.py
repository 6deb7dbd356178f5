"""What a training step is asked: windows, tasks, flow times and noise, and the loss of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from trajgen.surrogate.conditioning import (
    TASKS,
    TaskSettings,
    begins_in_equilibrium,
    choose_tasks,
    draw_masks,
    uneven_times,
)
from trajgen.surrogate.encoded_windows import Molecule, WindowTimes, encode_windows
from trajgen.surrogate.interpolant import path_point
from trajgen.surrogate.resolutions import Resolution
from trajgen.surrogate.surrogate import SurrogateSettings
from trajgen.surrogate.tokens import channel_count
from trajgen.surrogate.transformer import WindowInputs
from trajgen.surrogate.window_source import Places, WindowSource

#: Weight of the cross-entropy of residue types beside the error of velocities.
DESIGN_WEIGHT = 1.0


@dataclass(frozen=True)
class Batch:
    """One batch, a row a window; every number in it is drawn, so it has no other state.

    Attributes:
        frames: frames of each window, as indices into all frames of the dataset.
        known: cells that are given.
        present: frames that exist in the task.
        hidden: residues whose type is asked.
        times_ps: time of each frame since the first.
        lag_ps: lag of each window.
        temperature_K: temperature of each window.
        t: flow times.
        noise: standard normal numbers, of which the start of each path is made.
        context_noise_nm: displacement of given sites, nm.
    """

    frames: Int64[Tensor, "batch frames"]
    known: Bool[Tensor, "batch frames beads"]
    present: Bool[Tensor, "batch frames"]
    hidden: Bool[Tensor, "batch residues"]
    times_ps: Float[Tensor, "batch frames"]
    lag_ps: Float[Tensor, " batch"]
    temperature_K: Float[Tensor, " batch"]
    t: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch frames beads channels"]
    context_noise_nm: Float[Tensor, "batch frames sites 3"]

    def take(self, rows: slice | Tensor) -> "Batch":
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
    """Draw tasks, windows, times and noise.

    Flow times are stratified: one in each of ``batch`` equal parts of [0, 1], in random order,
    which leaves their distribution uniform and makes the loss less noisy. The size of the
    displacement of known sites is uniform up to ``context_noise_nm`` for each window, so that a
    model learns to go on from frames that are not quite right, such as its own.
    """
    residues, sites = resolution.beads.n_beads, source.positions.n_sites
    possible = tasks if source.ensemble is not None else tasks.with_known_start()
    chosen = choose_tasks(batch, possible, generator)
    alone = chosen == TASKS.index("ensemble")
    places = Places.draw(begins_in_equilibrium(chosen), alone, generator)
    windows = source.windows(frames, places)
    least = resolution.pose_residues
    drawn = draw_masks(chosen, windows.present, residues, least, generator)
    windows = source.windows(frames, places, uneven_times(drawn, windows.strides, generator))
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
        drawn.hidden,
        times.times_ps,
        times.lag_ps,
        times.temperature_K,
        t,
        noise,
        displacement,
    )


@dataclass(frozen=True)
class Question:
    """Noisy windows as the network takes them, and what it should say.

    Attributes:
        x: noisy tokens, known ones clean.
        t: flow times.
        inputs: what the network is told besides.
        target: velocity of the tokens, or their end point.
        asked: cells of which that is asked.
        used: channels that count.
    """

    x: Float[Tensor, "batch frames beads channels"]
    t: Float[Tensor, " batch"]
    inputs: WindowInputs
    target: Float[Tensor, "batch frames beads channels"]
    asked: Bool[Tensor, "batch frames beads"]
    used: Bool[Tensor, "batch beads channels"]


def ask(
    source: WindowSource, batch: Batch, molecule: Molecule, settings: SurrogateSettings
) -> Question:
    """Encode windows of a molecule and put them between noise and data.

    Args:
        source: what the windows were drawn from.
        batch: what was drawn.
        molecule: what is known of the molecule, on the device of the network.
        settings: the path, and what is asked of it.
    """
    device = molecule.template_nm.device
    positions = source.positions.read(batch.frames).to(device)
    times = WindowTimes(batch.times_ps, batch.lag_ps, batch.temperature_K).to(device)
    known, present, hidden, t, noise = (
        value.to(device)
        for value in (batch.known, batch.present, batch.hidden, batch.t, batch.noise)
    )
    given = known[..., molecule.resolution.site_residues]
    shown = positions + batch.context_noise_nm.to(device) * given[..., None]
    encoded = encode_windows(shown, known, present, times, molecule, hidden)
    x, velocity = path_point(settings.path, encoded.noise(noise), encoded.tokens, t)
    target = velocity if settings.target == "velocity" else encoded.tokens
    return Question(
        x=torch.where(known[..., None], encoded.tokens, x) * encoded.used[:, None],
        t=t,
        inputs=encoded.inputs,
        target=target,
        asked=present[:, :, None] & ~known,
        # Of a hidden residue the network does not know which torsions it lacks: those are asked
        # too, and stand at zero.
        used=encoded.used,
    )


def joined(questions: Sequence[Question]) -> Question:
    """Return questions about molecules of as many residues as one."""

    def all_of(parts: Sequence[Any]) -> Any:
        first = parts[0]
        if isinstance(first, Tensor):
            return torch.cat(list(parts))
        names = [field.name for field in fields(first)]
        return type(first)(**{n: all_of([getattr(part, n) for part in parts]) for n in names})

    return questions[0] if len(questions) == 1 else all_of(questions)


def window_losses(
    network: Callable[[Tensor, Tensor, WindowInputs], tuple[Tensor, Tensor]], question: Question
) -> Float[Tensor, " batch"]:
    """Return the mean squared error of the answer over the asked cells of each window.

    Where residue types are asked, their mean cross-entropy is added, times ``DESIGN_WEIGHT``.

    Args:
        network: gives its answer and types at noisy tokens and flow times, as
            ``TrajectoryTransformer`` does.
        question: what it is asked.
    """
    used, asked, inputs = question.used[:, None], question.asked, question.inputs
    answer, types = network(question.x, question.t, inputs)
    error = ((answer - question.target).square() * used).sum(dim=-1) / used.sum(dim=-1)
    losses = torch.where(asked, error, 0.0).sum(dim=(1, 2)) / asked.sum(dim=(1, 2))
    surprise = cross_entropy(types.transpose(1, 2), inputs.residue_types, reduction="none")
    # Also where none is hidden, so that each weight has a gradient on every process.
    surprise = (surprise * inputs.hidden).sum(dim=1) / inputs.hidden.sum(dim=1).clamp(min=1)
    return losses + DESIGN_WEIGHT * surprise
