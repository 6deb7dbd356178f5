"""A short simulation with the priors alone, before any training.

The network knows nothing where there are no data; there the priors alone keep the chain together.
Priors fitted to too few frames may be too weak or too stiff for that, and a network trained on top
of them explodes later, after hours. Sixty-four short chains tell it in seconds, and
none of them may break.
"""

from typing import Any

import numpy as np
import torch
from pydantic import Field

from trajgen.data.records import BeadFrames
from trajgen.data.starts import draw_starts
from trajgen.errors import WorkError
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.potential import Potential
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed
from trajgen.settings import Settings

#: Frames of each chain that are looked at, or more where they do not divide the steps.
SAVED_FRAMES = 20


class PriorCheckSettings(Settings):
    """Choices of the simulation with the priors alone.

    Attributes:
        chains: chains, each from a frame of the data.
        steps: Langevin steps of each.
    """

    chains: int = Field(default=64, ge=1)
    steps: int = Field(default=2_000, ge=1)


def check_priors(
    fitted: Potential,
    frames: BeadFrames,
    settings: PriorCheckSettings,
    dynamics: SimulationSettings,
    seed: int,
    device: torch.device,
    progress: Progress = SILENT,
    default_step_ps: float | None = None,
) -> dict[str, Any]:
    """Simulate with the priors alone; return what was done and what came of it.

    Args:
        fitted: a potential with fitted priors; its network is left out.
        frames: the starts are drawn from them, by weight.
        settings: choices of the simulation.
        dynamics: time step, the longest that the potential is going to be run with, and mass.
        seed: base of all random numbers.
        device: where to simulate.
        progress: told the steps.
        default_step_ps: the time step that would be taken where ``ensemble.time_step_ps`` were left
            out; None where it was.

    Returns:
        ``chains``, ``steps``, ``time_step_ps`` and ``largest_bond_nm`` of the saved frames, None
        where there is no bond.

    Raises:
        WorkError: a chain explodes.
    """
    alone = Potential(fitted.settings.model_copy(update={"committee": 0}))
    alone.priors.load_state_dict(fitted.priors.state_dict())
    alone = alone.to(device, torch.float32).eval()
    rarest = max(settings.steps // SAVED_FRAMES, 1)
    save_every = next(n for n in range(rarest, 0, -1) if settings.steps % n == 0)
    dynamics = dynamics.model_copy(update={"steps": settings.steps, "save_every": save_every})
    starts = draw_starts(frames, settings.chains, derive_seed(seed, "prior-check"))
    rollouts = simulate(alone, starts, dynamics, derive_seed(seed, "prior-check", 1), progress)
    lost = int((~rollouts.alive[:, -1]).sum())
    if lost:
        step_ps = dynamics.time_step_ps
        shorter = ""
        if default_step_ps is not None and step_ps > default_step_ps:
            shorter = (
                f"leave out ensemble.time_step_ps={step_ps:g}, which is longer than the "
                f"{default_step_ps:.3g} that would be taken; or "
            )
        raise WorkError(
            f"{lost} of {settings.chains} chains exploded within {settings.steps} steps of "
            f"{step_ps:.3g} cg_ps with the priors alone, and no network mends that: {shorter}give "
            "more frames, look at the priors of the molecule, or set prior_check=null to train all "
            "the same"
        )
    return {
        "chains": settings.chains,
        "steps": settings.steps,
        "time_step_ps": dynamics.time_step_ps,
        "largest_bond_nm": _largest_bond(rollouts.to_frames()),
    }


def _largest_bond(frames: BeadFrames) -> float | None:
    bonds = np.array(frames.topology.bonds, dtype=np.int64).reshape(-1, 2)
    apart = frames.positions_nm[:, bonds[:, 0]] - frames.positions_nm[:, bonds[:, 1]]
    lengths = np.linalg.norm(apart, axis=-1)
    return float(lengths.max()) if lengths.size else None
