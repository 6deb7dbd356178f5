"""Simulations whose frames stay in memory."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from trajgen.data.records import Rollouts
from trajgen.potential.dynamics.frames import joined
from trajgen.potential.dynamics.outcome import log_outcome, rollouts_of
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulation import Simulation
from trajgen.potential.potential import Potential
from trajgen.progress import SILENT, Progress


def simulate(
    potential: Potential,
    starts_nm: Float32[np.ndarray, "chains beads 3"],
    settings: SimulationSettings,
    seed: int,
    progress: Progress = SILENT,
    numbers: Sequence[int] | None = None,
) -> Rollouts:
    """Simulate chains, all at once, each with noise of its own that no other chain touches.

    A chain that breaks (a coordinate that is not finite, or a bond beyond the limit of
    ``ChainLimits``) is frozen where it was whole: its later frames are NaN and not alive, its step,
    reason and last frames are in ``losses``. The others go on unchanged, bit for bit. Saved chains
    are centred, since a potential does not feel where a chain is, and coordinates that diffuse away
    would lose digits. With tempering the rollouts are those of the lowest temperature.

    Args:
        potential: the potential; it says the device and the precision.
        starts_nm: one start for each chain.
        settings: choices of the simulation.
        seed: base of all random numbers.
        progress: told the steps.
        numbers: the number of each chain, which its random numbers follow from beside the seed; a
            chain of the same start and number takes the same path in any company, but for rounding
            (``docs/dynamics.md``). By default its index.

    Raises:
        InputError: the starts are not of the potential's molecule, not finite, or broken already;
            or there are fewer steps than one saved frame takes.
    """
    simulation = Simulation(potential, starts_nm, settings, seed, numbers)
    with progress.task("simulate", simulation.total_steps) as task:
        frames = [frame.numpy() for frame in simulation.run(task) if frame is not None]
    log_outcome(simulation)
    return rollouts_of(simulation, joined(frames, starts_nm, settings.n_frames))
