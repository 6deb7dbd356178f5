"""The tasks: masks over (frame, residue) that say which cells of a window are known.

One network answers every question that such a mask can ask. In training each window gets a task
of its own; known cells are shown clean and are left out of the loss.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from pydantic import Field, model_validator
from torch import Tensor

from trajgen.data.windows import Shifts
from trajgen.errors import InputError
from trajgen.settings import Settings

#: A path between two frames has at least one frame inside.
MIN_PATH_FRAMES = 3
#: Frames that are known in a row at an end, at most: what windows that follow each other share.
MOST_CONTEXT = 3

#: Share of windows in which a gap before known frames is shorter than a lag.
SHORTER_GAPS = 0.5
#: Share of windows in which the known frames beyond a gap lie further away than a lag; half of them
#: as far as the gap is long, as in a row of known frames, the others at most so many lags.
FAR_CONTEXT, FARTHEST_CONTEXT = 0.5, 15

#: Names of the tasks, in the order of their weights.
TASKS = ("forward", "interpolate", "upsample", "inpaint", "ensemble", "design")
#: Those whose first frame is known always: what they ask does not depend on how often windows
#: begin in a state. The others learn populations, and from equilibrium alone.
KNOWN_START = ("forward", "interpolate", "upsample")


class TaskSettings(Settings):
    """How often each task is trained, as relative weights.

    Attributes:
        forward: up to three first frames are known, the following ones are asked.
        interpolate: first and last frames are known; the window is cut to a random length, so
            that paths of every length up to the window's are learnt.
        upsample: a gap in a row of known frames: mostly the frames beyond its ends are known too,
            one lag away or several.
        inpaint: some residues are known over all frames, and the rest is asked, of which up to
            three first frames are known in half of the windows; of any length.
        ensemble: a frame alone, of which nothing is known.
        design: as inpaint without a first frame, and what the other residues are is asked too; it
            means something only where several molecules are trained on.
    """

    forward: float = Field(default=1.0, ge=0)
    interpolate: float = Field(default=0.5, ge=0)
    upsample: float = Field(default=0.5, ge=0)
    inpaint: float = Field(default=0.5, ge=0)
    ensemble: float = Field(default=0.25, ge=0)
    design: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _some_weight(self) -> "TaskSettings":
        if sum(self.weights()) <= 0:
            raise ValueError("every task has weight 0; at least one must be above")
        return self

    def with_known_start(self) -> "TaskSettings":
        """Return them without the tasks that ask for the first frame too.

        Raises:
            InputError: none is left.
        """
        left = self.model_dump(include=set(KNOWN_START))
        if not any(left.values()):
            raise InputError(
                "tasks.* ask only for what must be learnt from equilibrium trajectories, of which "
                f"the data have none; train {', '.join(KNOWN_START)} instead, or add such data"
            )
        return TaskSettings(**left, **dict.fromkeys(set(TASKS) - set(KNOWN_START), 0.0))

    def wanted(self) -> tuple[str, ...]:
        """Return the names of the tasks that are trained."""
        return tuple(name for name in TASKS if getattr(self, name) > 0)

    def weights(self) -> tuple[float, ...]:
        """Return the weights in the order of ``TASKS``."""
        return tuple(getattr(self, name) for name in TASKS)


@dataclass(frozen=True)
class Tasks:
    """The task of each window of a batch.

    Attributes:
        known: cells that are given.
        present: frames that exist; the others are padding.
        hidden: residues whose type is asked.
    """

    known: Bool[Tensor, "batch frames beads"]
    present: Bool[Tensor, "batch frames"]
    hidden: Bool[Tensor, "batch beads"]


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


def interpolate_mask(
    frames: int, beads: int, known_first: int = 1, known_last: int = 1
) -> Bool[Tensor, "frames beads"]:
    """Return the mask of interpolation: the first and the last frames are known.

    Raises:
        InputError: no frame lies between them.
    """
    if frames < MIN_PATH_FRAMES:
        raise InputError(
            f"a path of {frames} frames has none between its ends; ask for at least "
            f"{MIN_PATH_FRAMES}"
        )
    if known_first < 1 or known_last < 1 or known_first + known_last >= frames:
        raise InputError(
            f"of {frames} frames the first {known_first} and the last {known_last} are known; "
            "wanted is at least one each, and one frame between them"
        )
    known = torch.zeros(frames, beads, dtype=torch.bool)
    known[:known_first] = known[-known_last:] = True
    return known


def inpaint_mask(
    frames: int, residues: Bool[Tensor, " beads"], known_first: int
) -> Bool[Tensor, "frames beads"]:
    """Return the mask of inpainting: ``residues`` are known in all frames.

    Args:
        frames: frames of the window.
        residues: which residues are known.
        known_first: first frames of which the rest is known too; may be 0.
    """
    known = residues.expand(frames, -1).clone()
    known[:known_first] = True
    return known


def require_known_residues(residues: Bool[Tensor, " residues"], least: int) -> None:
    """Raise InputError where fewer residues are known than say how a frame lies, or all are."""
    if int(residues.sum()) < least or bool(residues.all()):
        raise InputError(
            f"{int(residues.sum())} of {len(residues)} residues are known; wanted are at least "
            f"{least}, by which frames can be superposed, and one that is not"
        )


def choose_tasks(
    batch: int, settings: TaskSettings, generator: torch.Generator
) -> Int64[Tensor, " batch"]:
    """Draw the task of each window, as its place in ``TASKS``."""
    bounds = torch.tensor(settings.weights()).cumsum(0)
    draws = torch.rand(batch, generator=generator)
    return torch.searchsorted(bounds, draws * bounds[-1], right=True)


def begins_in_equilibrium(chosen: Int64[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """Say of each task whether its windows must begin as often in a state as equilibrium has it."""
    return ~torch.isin(chosen, torch.tensor([TASKS.index(name) for name in KNOWN_START]))


def draw_masks(
    chosen: Int64[Tensor, " batch"],
    present: Bool[Tensor, "batch frames"],
    beads: int,
    least_known: int,
    generator: torch.Generator,
) -> Tasks:
    """Draw which cells of each window its task shows.

    Args:
        chosen: the task of each window.
        present: frames that exist, contiguous from the first, at least three in each window.
        beads: number of beads.
        least_known: the fewest residues that are known where not all are.
        generator: the source of randomness; it draws the same amount for every batch of a size.
    """
    batch, frames = present.shape
    draws = torch.rand(batch, 5, generator=generator)
    shown = torch.rand(batch, beads, generator=generator)
    known = torch.zeros(batch, frames, beads, dtype=torch.bool)
    lengths = present.sum(dim=1)
    for window, (number, length) in enumerate(zip(chosen.tolist(), lengths.tolist(), strict=True)):
        task, own = TASKS[number], draws[window].tolist()
        mask = _drawn_mask(task, length, own, shown[window], least_known)
        known[window, : len(mask)] = mask
        lengths[window] = len(mask)
    hidden = (chosen == TASKS.index("design"))[:, None] & ~known.any(dim=1)
    return Tasks(known, torch.arange(frames) < lengths[:, None], hidden)


def uneven_times(
    tasks: Tasks, strides: Int64[Tensor, " batch"], generator: torch.Generator
) -> Shifts:
    """Draw by how many frames cells lie elsewhere than one lag after the cell before.

    A stretch of time between known frames is seldom a multiple of the lag at which it is filled:
    what is left over stands before the known frames at its end, and, where a stretch before it was
    filled likewise, between the known frames at its begin. Where the stretches beside it are still
    to be filled, the next known frames are far away.

    Args:
        tasks: the tasks of the windows.
        strides: the lag of each window, in frames.
        generator: the source of randomness.
    """
    whole = tasks.known.all(dim=2)
    batch, frames = whole.shape
    length = tasks.present.sum(dim=1)
    begin = (whole & tasks.present).int().cumprod(dim=1).sum(dim=1)
    # The first of the known frames at the end.
    end = frames - (whole | ~tasks.present).flip(1).int().cumprod(dim=1).sum(dim=1)
    between = ((begin > 0) & (begin < end) & (end < length))[:, None]
    draws = torch.rand(5, 2, batch, generator=generator)
    left_over = strides - (draws[0] * strides).ceil().long().clamp(min=1)
    before, after = torch.where(draws[1] < SHORTER_GAPS, left_over, 0)
    # The gap is as long as the next ones beside it, or any other length.
    gap = (end - begin + 1) * strides - before
    any_length = strides + (draws[2] * FARTHEST_CONTEXT * strides).long()
    farther = torch.where(draws[3] < 0.5, gap, any_length) - strides
    far = draws[4] < FAR_CONTEXT
    back, on = torch.where(far, farther.clamp(min=0), 0)
    after = torch.where(far[0], 0, after)
    cell = torch.arange(frames)
    at_begin, at_end = cell < begin[:, None] - 1, cell >= end[:, None]
    earlier = at_end * before[:, None] - at_begin * after[:, None]
    beyond_end = (cell > end[:, None]) & tasks.present
    outward = beyond_end * on[:, None] - at_begin * back[:, None]
    return Shifts((earlier * between).numpy(), (outward * between).numpy())


def _drawn_mask(
    task: str, length: int, draws: list[float], shown: Tensor, least_known: int
) -> Bool[Tensor, "frames beads"]:
    """Return the mask of a task in a window of up to ``length`` frames."""
    beads = len(shown)
    if task == "ensemble":
        return torch.zeros(1, beads, dtype=torch.bool)
    if task == "forward":
        return forward_mask(length, beads, 1 + _below(min(MOST_CONTEXT, length - 1), draws[0]))
    if task in ("inpaint", "design") and beads > least_known:
        count = least_known + _below(beads - least_known, draws[0])
        residues = torch.zeros(beads, dtype=torch.bool)
        if draws[1] < 0.5:  # a stretch of the chain, or residues anywhere
            begin = _below(beads - count + 1, draws[2])
            residues[begin : begin + count] = True
        else:
            residues[shown.argsort()[:count]] = True
        if draws[4] < 0.5:  # half of the windows are whole
            length = MIN_PATH_FRAMES + _below(length - MIN_PATH_FRAMES + 1, 2 * draws[4])
        first = 0
        if task == "inpaint" and draws[3] < 0.5:
            first = 1 + _below(min(MOST_CONTEXT, length - 1), 2 * draws[3])
        return inpaint_mask(length, residues, first)
    row = task == "upsample"  # frames beyond the ends are known, where the window has room
    shortest = min(length, MIN_PATH_FRAMES + 2) if row else MIN_PATH_FRAMES
    length = shortest + _below(length - shortest + 1, draws[0])
    most = min(MOST_CONTEXT, (length - 1) // 2)
    first, last = (
        min(most, _of_row(draw) if row else 1 + _below(most, draw)) for draw in draws[1:3]
    )
    return interpolate_mask(length, beads, first, min(last, length - 1 - first))


def _of_row(draw: float) -> int:
    """Return how many frames are known in a row: at the begin and the end of all there are none."""
    return 1 if draw < 0.1 else 2 if draw < 0.8 else MOST_CONTEXT


def _below(count: int, draw: float) -> int:
    """Return a number in [0, count) of a draw in [0, 1)."""
    return min(int(draw * count), count - 1)
