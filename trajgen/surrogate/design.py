"""Design: which residues would move so that others move as they do.

The motion of some residues is known over time, and of the others neither what they are nor where.
Their motion is generated, and the network, which was trained on several molecules, says of each
what it looks like.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from trajgen.errors import InputError
from trajgen.progress import SILENT, Progress
from trajgen.residues import BEAD_TYPES, ONE_LETTER
from trajgen.seeding import derive_seed
from trajgen.surrogate.canvas import StepwiseValues
from trajgen.surrogate.completing import (
    RolloutSettings,
    checked_frames,
    require_lag,
    require_task,
    window_noise,
)
from trajgen.surrogate.conditioning import require_known_residues
from trajgen.surrogate.encoded_windows import WindowTimes
from trajgen.surrogate.surrogate import Surrogate
from trajgen.work_folder import WorkFolder

#: One-letter codes in the order of the columns of chances.
LETTERS = "".join(ONE_LETTER[name] for name in BEAD_TYPES)


@dataclass(frozen=True)
class Designs:
    """Designed residues.

    Attributes:
        residues: which residues were designed.
        chances: chance of each of the twenty amino acids, in the order of ``LETTERS``.
    """

    residues: Bool[np.ndarray, " residues"]
    chances: Float[np.ndarray, "samples designed 20"]

    def sequences(self, template: str) -> list[str]:
        """Return the most likely sequence of each sample, the known residues as in a template."""
        made = []
        for row in self.chances.argmax(axis=-1):
            letters = list(template)
            for place, best in zip(np.flatnonzero(self.residues), row, strict=True):
                letters[place] = LETTERS[best]
            made.append("".join(letters))
        return made


def design(
    surrogate: Surrogate,
    known_nm: Float32[np.ndarray, "frames sites 3"],
    residues: Bool[np.ndarray, " residues"],
    samples: int,
    lag_ps: float,
    settings: RolloutSettings,
    seed: int,
    progress: Progress = SILENT,
    work: WorkFolder | None = None,
) -> Designs:
    """Design the residues that are not known.

    Each sample is of one window of the trajectory, and these are taken in turn.

    Args:
        surrogate: a model that was trained for it (``tasks.design``), on several molecules.
        known_nm: consecutive frames; what stands at the other residues must be finite, and is not
            looked at.
        residues: which residues are known.
        samples: number of designs, each from noise of its own.
        lag_ps: time between the frames.
        settings: how the windows are sampled.
        seed: base of the noise.
        progress: told of each batch of designs.
        work: where the chances lie until all are there; None for memory.

    Raises:
        InputError: fewer residues are known than say how a frame lies, or all are; frames that are
            not finite or of another molecule, a task, a lag or a temperature that the model was not
            trained for, one of a single molecule, no sample, or too few frames.
    """
    require_lag(surrogate, lag_ps)
    settings.require_possible(surrogate)
    given = checked_frames(surrogate, known_nm, "frames")
    require_task(surrogate, "design")
    if surrogate.molecule.alone:
        raise InputError(
            f"the surrogate was trained on {surrogate.beads.sequence} alone, and knows no other "
            "residues to choose from; train one on several molecules with tasks.design above 0"
        )
    least = surrogate.molecule.resolution.pose_residues
    require_known_residues(torch.from_numpy(residues), least)
    length = min(surrogate.settings.window_frames, len(given))
    if samples < 1 or length < 2:
        raise InputError(
            f"samples is {samples} and the trajectory has {len(given)} frames; wanted are at least "
            "1 and 2"
        )
    begins = np.arange(0, len(given) - length + 1, max(length - 1, 1))
    shown = torch.from_numpy(residues)
    known = shown.expand(length, -1)
    stored = StepwiseValues("chances", (samples, int((~shown).sum()), len(LETTERS)), work)
    done_before = min(stored.done * settings.batch, samples)
    with progress.task("design", total=samples, done=done_before) as task:
        for numbers in stored.to_do(torch.arange(samples).split(settings.batch)):
            first = torch.from_numpy(begins[numbers.numpy() % len(begins)])
            windows = given[first[:, None] + torch.arange(length)]
            seeds = [derive_seed(seed, "design", index=int(number)) for number in numbers]
            looks = _looks(surrogate, windows, known, ~shown, lag_ps, seeds, settings)
            stored.values[numbers] = looks.float()
            task.advance(len(numbers))
    return Designs(~residues, stored.values.numpy())


def _looks(
    surrogate: Surrogate,
    windows_nm: torch.Tensor,
    known: torch.Tensor,
    hidden: torch.Tensor,
    lag_ps: float,
    seeds: list[int],
    settings: RolloutSettings,
) -> Float[torch.Tensor, "windows designed 20"]:
    """Return the chances of the amino acids of the hidden residues of windows."""
    device, count = surrogate.device, len(windows_nm)
    given = known[:, surrogate.molecule.resolution.site_residues.cpu()]
    windows_nm = torch.where(given[..., None], windows_nm, 0.0)
    temperature_K = settings.chosen_temperature_K(surrogate)
    logits = surrogate.residue_types(
        windows_nm.to(device),
        known.expand(count, *known.shape).to(device),
        WindowTimes.even(count, len(known), lag_ps, temperature_K, device),
        hidden.expand(count, -1).to(device),
        window_noise(surrogate, known, seeds),
        settings,
    )
    # Type 0 is that of no amino acid.
    chances = torch.softmax(logits[..., 1:].double(), dim=-1)
    return chances[:, hidden].cpu()
