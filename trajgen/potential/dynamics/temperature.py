"""Checks of temperature and time step that tell a user before and after a run what is not right."""

import logging
import math

import torch
from torch import Tensor

from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.potential import Potential
from trajgen.units import BOLTZMANN_KJ_PER_MOL_K

logger = logging.getLogger(__name__)

#: A kinetic temperature that is off by a larger share means that the time step is too large. With
#: BAOAB a harmonic motion of frequency ω reads low by (ωh)²/4 (Leimkuhler and Matthews 2013) while
#: its positions are still exact; the default step reads low by some 2 %, the largest safe one by 6.
TEMPERATURE_TOLERANCE = 0.08

#: A time step beyond this share of the largest stable one is too large: angles and the network add
#: to the stiffness of the bonds. At this share the bonds of a chignolin potential were still right
#: to 0.001 Å, and no chain of 256 was lost in 150,000 steps; at 0.79 some were.
SAFE_SHARE_OF_STABLE_STEP = 0.65


class KineticTemperature:
    """The kinetic temperature of each replica, averaged over saved frames.

    Attributes:
        sums: sum of kinetic energies of each replica, kJ/mol.
        counts: number of frames in each sum.
    """

    def __init__(self, replicas: int, degrees_of_freedom: int, device: torch.device) -> None:
        """Begin without a frame; a chain of n beads has 3 n degrees of freedom."""
        self.degrees_of_freedom = degrees_of_freedom
        self.sums = torch.zeros(replicas, dtype=torch.float64, device=device)
        self.counts = torch.zeros(replicas, dtype=torch.int64, device=device)

    def add(self, kinetic_energies: Tensor, alive: Tensor) -> None:
        """Add a frame of the replicas that are whole; one that broke counts no more at all.

        The frames before it broke are those of a chain that was flying apart.
        """
        counted = alive & kinetic_energies.isfinite()
        self.sums = torch.where(counted, self.sums + kinetic_energies, 0.0)
        self.counts = torch.where(counted, self.counts + 1, 0)

    def measured_K(self, rungs: int) -> list[float | None]:
        """Return the mean temperature of each rung, 2 K/(n_f k), None where no frame was added."""
        sums = self.sums.reshape(-1, rungs).sum(dim=0).tolist()
        counts = self.counts.reshape(-1, rungs).sum(dim=0).tolist()
        unit = 0.5 * self.degrees_of_freedom * BOLTZMANN_KJ_PER_MOL_K
        return [total / (n * unit) if n else None for total, n in zip(sums, counts, strict=True)]

    def relative_error(self, frame_ps: float, friction_per_ps: float, rungs: int) -> float:
        """Return the expected statistical error of the base rung's temperature, as a share of it.

        The variance of a kinetic energy is that of n_f/2 squares of normal numbers; frames that
        are closer than the friction time count in part.
        """
        counts = self.counts[::rungs]
        chains = max(int((counts > 0).sum()), 1)
        frames = float(counts.sum()) / chains
        independent = max(frames * min(1.0, friction_per_ps * frame_ps), 1.0)
        return math.sqrt(2 / (self.degrees_of_freedom * chains * independent))


def safe_time_step_ps(potential: Potential, mass_amu: float) -> float:
    """Return the largest time step of Langevin dynamics that ``warn_before`` takes for safe."""
    settings = SimulationSettings(mass_amu=mass_amu)
    return SAFE_SHARE_OF_STABLE_STEP * settings.largest_stable_step_ps(_stiffest_bond(potential))


def _stiffest_bond(potential: Potential) -> float:
    stiffnesses = potential.priors.bond.stiffness
    return float(stiffnesses.max()) if stiffnesses.numel() else 0.0


def warn_before(potential: Potential, settings: SimulationSettings) -> None:
    """Warn of a temperature that is not that of the data, and of a time step near instability."""
    asked_K, data_K = settings.temperature_K, potential.temperature_K
    if asked_K is not None and not math.isclose(asked_K, data_K, rel_tol=1e-3):
        logger.warning(
            "the simulation is at %g K, but the potential is a free energy at %g K, the temperature"
            " of its data, and holds there alone",
            asked_K,
            data_K,
        )
    largest_ps = settings.largest_stable_step_ps(_stiffest_bond(potential))
    safe_ps = SAFE_SHARE_OF_STABLE_STEP * largest_ps
    # A safe step may have been chosen before the stiffness was rounded to single precision.
    if settings.time_step_ps > safe_ps * (1 + 1e-6):
        logger.warning(
            "time_step_ps is %g, but the stiffest bond allows %.3g at most; choose %.2g or less",
            settings.time_step_ps,
            largest_ps,
            safe_ps,
        )


def warn_after(wanted_K: float, measured_K: float | None, relative_error: float) -> None:
    """Warn where the kinetic temperature is off by more than the tolerance and four errors."""
    if measured_K is None:
        return
    off = abs(measured_K / wanted_K - 1)
    # Written so that a temperature that is not finite warns too.
    if not off <= TEMPERATURE_TOLERANCE + 4 * relative_error:
        logger.warning(
            "the kinetic temperature is %.4g K where %g K is wanted, off by more than %.0f %%: the "
            "time step is too large, or the chains were far from equilibrium; choose a smaller "
            "time_step_ps or more steps",
            measured_K,
            wanted_K,
            100 * TEMPERATURE_TOLERANCE,
        )
