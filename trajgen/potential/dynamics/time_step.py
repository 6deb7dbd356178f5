"""Warnings before and after a run of a temperature or a time step that is not right."""

import logging
import math

from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.potential import Potential

logger = logging.getLogger(__name__)

#: A temperature that is off by a larger share means that the time step is too large. With BAOAB a
#: harmonic motion of frequency ω reads low by (ωh)²/4 in its velocities (Leimkuhler and Matthews
#: 2013) while its positions are still exact; the default step reads low by some 2 %, the largest
#: safe one by 6.
TEMPERATURE_TOLERANCE = 0.08

#: A time step beyond this share of the largest stable one is too large: angles and the network add
#: to the stiffness of the bonds. At this share the bonds of a chignolin potential were still right
#: to 0.001 Å, and no chain of 256 was lost in 150,000 steps; at 0.79 some were.
SAFE_SHARE_OF_STABLE_STEP = 0.65


def safe_time_step_ps(potential: Potential, mass_amu: float) -> float:
    """Return the largest time step of Langevin dynamics that ``warn_before`` takes for safe."""
    settings = SimulationSettings(mass_amu=mass_amu)
    return SAFE_SHARE_OF_STABLE_STEP * settings.largest_stable_step_ps(_stiffest_bond(potential))


def _stiffest_bond(potential: Potential) -> float:
    stiffnesses = potential.priors.bond.stiffness
    return float(stiffnesses.max()) if stiffnesses.numel() else 0.0


def warn_before(potential: Potential, settings: SimulationSettings) -> None:
    """Warn of what a user may not have meant.

    That is a temperature that is not that of the data, steps that are not done, and a time step
    near instability.
    """
    asked_K, data_K = settings.temperature_K, potential.temperature_K
    if asked_K is not None and not math.isclose(asked_K, data_K, rel_tol=1e-3):
        logger.warning(
            "the simulation is at %g K, but the potential is a free energy at %g K, the temperature"
            " of its data, and holds there alone",
            asked_K,
            data_K,
        )
    if beyond := settings.steps % settings.save_every:
        logger.warning(
            "steps is %d and save_every %d: the %d steps after the last saved frame are left out; "
            "choose steps as a multiple of save_every to have them",
            settings.steps,
            settings.save_every,
            beyond,
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


def warn_after(kind: str, wanted_K: float, measured_K: float | None, relative_error: float) -> None:
    """Warn where a temperature is off by more than the tolerance and by more than four errors.

    Args:
        kind: ``kinetic`` or ``configurational``.
        wanted_K: temperature of the simulation.
        measured_K: what was measured; None where nothing was.
        relative_error: statistical error of the measured temperature, as a share of it.
    """
    if measured_K is None:
        return
    off = abs(measured_K / wanted_K - 1)
    # Written so that a temperature that is not finite warns too.
    if not off <= max(TEMPERATURE_TOLERANCE, 4 * relative_error):
        logger.warning(
            "the %s temperature is %.4g K where %g K is wanted, off by more than %.0f %%: the "
            "time step is too large, or the chains were far from equilibrium; choose a smaller "
            "time_step_ps or more steps",
            kind,
            measured_K,
            wanted_K,
            100 * TEMPERATURE_TOLERANCE,
        )
