"""The tasks: masks over (frame, residue) that say which cells of a window are known.

One network answers every question that such a mask can ask. In training each window gets a task
of its own; known cells are shown clean and are left out of the loss.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from pydantic import Field, model_validator
from torch import Tensor

from trajgen.errors import InputError
from trajgen.settings import Settings

#: A path between two frames has at least one frame inside.
MIN_PATH_FRAMES = 3


class TaskSettings(Settings):
    """How often each task is trained, as relative weights.

    Attributes:
        forward: the first frame is known, the following ones are asked.
        interpolate: the first and the last frame are known; the window is cut to a random
            length, so that paths of every length up to the window's are learnt.
    """

    forward: float = Field(default=1.0, ge=0)
    interpolate: float = Field(default=0.5, ge=0)

    @model_validator(mode="after")
    def _some_weight(self) -> "TaskSettings":
        if self.forward + self.interpolate <= 0:
            raise ValueError("every task has weight 0; at least one must be above")
        return self


@dataclass(frozen=True)
class Tasks:
    """The task of each window of a batch.

    Attributes:
        known: cells that are given.
        present: frames that exist; the others are padding.
    """

    known: Bool[Tensor, "batch frames beads"]
    present: Bool[Tensor, "batch frames"]


def forward_mask(frames: int, beads: int, known_first: int = 1) -> Bool[Tensor, "frames beads"]:
    """Return the mask of forward simulation: the first ``known_first`` frames are known.

    Raises:
        InputError: no frame is known, or none is left to generate.
    """
    if not 1 <= known_first < frames:
        raise InputError(
            f"known_first is {known_first} of {frames} frames; wanted is 1 to {frames - 1}"
        )
    known = torch.zeros(frames, beads, dtype=torch.bool)
    known[:known_first] = True
    return known


def interpolate_mask(frames: int, beads: int) -> Bool[Tensor, "frames beads"]:
    """Return the mask of interpolation: the first and the last frame are known.

    Raises:
        InputError: no frame lies between the two.
    """
    if frames < MIN_PATH_FRAMES:
        raise InputError(
            f"a path of {frames} frames has none between its ends; ask for at least "
            f"{MIN_PATH_FRAMES}"
        )
    known = torch.zeros(frames, beads, dtype=torch.bool)
    known[0] = known[-1] = True
    return known


def draw_tasks(
    present: Bool[Tensor, "batch frames"],
    beads: int,
    settings: TaskSettings,
    generator: torch.Generator,
) -> Tasks:
    """Draw a task for each window.

    Args:
        present: frames that exist, contiguous from the first, at least three in each window.
        beads: number of beads.
        settings: the weights of the tasks.
        generator: the source of randomness; it draws the same amount for every batch of a size.
    """
    batch, frames = present.shape
    choice, cut = torch.rand(2, batch, generator=generator)
    is_path = choice * (settings.forward + settings.interpolate) < settings.interpolate
    lengths = present.sum(dim=1)
    span = lengths - MIN_PATH_FRAMES + 1
    cut_lengths = MIN_PATH_FRAMES + torch.clamp((cut * span).long(), max=span - 1)
    lengths = torch.where(is_path, cut_lengths, lengths)
    known = torch.zeros(batch, frames, beads, dtype=torch.bool)
    for window, length in enumerate(lengths.tolist()):
        task = interpolate_mask if is_path[window] else forward_mask
        known[window, :length] = task(length, beads)
    return Tasks(known, torch.arange(frames) < lengths[:, None])
