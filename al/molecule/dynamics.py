"""Minimisation and Langevin dynamics in OpenMM that repeat bit for bit on the CPU."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import openmm
from jaxtyping import Float, Float32
from openmm import unit

from trajgen.errors import InputError, WorkError
from trajgen.seeding import seed_31

logger = logging.getLogger(__name__)

Device = Literal["cpu", "cuda"]

#: Context parameter that scales the restraints of ``restrain``: 1 is full, 0 is off.
RESTRAINT_SCALE = "restraint_scale"
#: A bond longer than this means that the dynamics has come apart.
_BROKEN_BOND_NM = 0.3
#: A line about a minimisation appears at most this often.
_LINE_INTERVAL_S = 10.0


@dataclass(frozen=True)
class DynamicsSettings:
    """How a context moves.

    Attributes:
        temperature_K: temperature.
        friction_per_ps: friction of the thermostat.
        time_step_ps: time step.
        device: ``cpu`` (one thread, deterministic) or ``cuda``.
    """

    temperature_K: float
    friction_per_ps: float
    time_step_ps: float
    device: Device = "cpu"


@dataclass(frozen=True)
class Recorded:
    """Saved frames of a stretch of dynamics.

    Attributes:
        positions_nm: coordinates, the centre of each frame at the origin.
        forces: forces without those of constraints, kJ/mol/nm.
    """

    positions_nm: Float32[np.ndarray, "frames atoms 3"]
    forces: Float32[np.ndarray, "frames atoms 3"]


def deterministic_platform(device: Device = "cpu") -> tuple[openmm.Platform, dict[str, str]]:
    """Return the OpenMM platform for a device, and properties with which it repeats its results.

    Raises:
        InputError: the device has no platform here.
    """
    properties = {
        "cpu": ("CPU", {"Threads": "1", "DeterministicForces": "true"}),
        "cuda": ("CUDA", {"Precision": "mixed", "DeterministicForces": "true"}),
    }
    if device not in properties:
        raise InputError(f"device '{device}' is not known; use one of {', '.join(properties)}")
    name, values = properties[device]
    try:
        return openmm.Platform.getPlatformByName(name), values
    except openmm.OpenMMException as error:
        raise InputError(
            f"device '{device}' needs the OpenMM platform {name}, which this installation lacks; "
            "pip install -e '.[cuda]' in the clone adds CUDA, where there is a driver of the GPU; "
            "or use device cpu"
        ) from error


def new_context(system: openmm.System, settings: DynamicsSettings, seed: int) -> openmm.Context:
    """Make a context with the LangevinMiddle integrator (Zhang et al., J. Phys. Chem. A, 2019).

    Args:
        system: the system; it must not be changed afterwards.
        settings: temperature, friction, step and device.
        seed: seed of the thermostat, from ``derive_seed``.
    """
    integrator = openmm.LangevinMiddleIntegrator(
        settings.temperature_K, settings.friction_per_ps, settings.time_step_ps
    )
    integrator.setRandomNumberSeed(seed_31(seed))
    platform, properties = deterministic_platform(settings.device)
    return openmm.Context(system, integrator, platform, properties)


def restrain(
    system: openmm.System,
    atoms: Sequence[int],
    targets_nm: Float[np.ndarray, "restrained 3"],
    strength_kJ_per_mol_nm2: float,
) -> None:
    """Add harmonic restraints k/2 |r - target|² to a system (a copy of one's own).

    The context parameter ``RESTRAINT_SCALE`` scales them.
    """
    force = openmm.CustomExternalForce(f"{RESTRAINT_SCALE}*0.5*k*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    force.addGlobalParameter(RESTRAINT_SCALE, 1.0)
    force.addGlobalParameter("k", strength_kJ_per_mol_nm2)
    for name in ("x0", "y0", "z0"):
        force.addPerParticleParameter(name)
    for atom, target in zip(atoms, targets_nm, strict=True):
        force.addParticle(int(atom), [float(x) for x in target])
    system.addForce(force)


class MinimisationLines(openmm.MinimizationReporter):
    """Logs now and then how far a minimisation has come; it changes nothing."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self._label = label
        self._iterations = 0  # of its own: OpenMM counts anew whenever it tightens the constraints
        self._last = time.monotonic()

    def report(self, iteration: int, x: object, grad: object, args: Any) -> bool:
        """Log the energy where the last line is old enough; never ask to stop."""
        self._iterations += 1
        now = time.monotonic()
        if now - self._last >= _LINE_INTERVAL_S:
            self._last = now
            energy = args["system energy"]
            logger.info("%s: step %d, %.1f kJ/mol", self._label, self._iterations, energy)
        return False


def minimise(
    context: openmm.Context, iterations: int = 0, lines: MinimisationLines | None = None
) -> float:
    """Minimise in place; return the potential energy (kJ/mol).

    Args:
        context: its positions are the start.
        iterations: at most so many steps; 0 means until it has converged.
        lines: logs the way there.

    Raises:
        WorkError: the energy is not finite.
    """
    try:
        openmm.LocalEnergyMinimizer.minimize(context, maxIterations=iterations, reporter=lines)
    except openmm.OpenMMException as error:
        raise WorkError(f"minimisation failed: {error}") from error
    energy = potential_energy(context)
    if not np.isfinite(energy):
        raise WorkError(f"minimisation ended at an energy of {energy} kJ/mol; atoms overlap")
    return energy


def set_positions(context: openmm.Context, positions_nm: Float[np.ndarray, "atoms 3"]) -> None:
    """Put the atoms somewhere and bring constrained bonds to their length."""
    context.setPositions(np.asarray(positions_nm, dtype=np.float64))
    context.applyConstraints(1e-6)


def draw_velocities(context: openmm.Context, temperature_K: float, seed: int) -> None:
    """Draw velocities from the Maxwell-Boltzmann distribution."""
    context.setVelocitiesToTemperature(temperature_K, seed_31(seed))


def run_steps(context: openmm.Context, steps: int) -> None:
    """Advance the dynamics.

    Raises:
        WorkError: a coordinate became NaN.
    """
    try:
        context.getIntegrator().step(steps)
    except openmm.OpenMMException as error:
        time_ps = context.getState().getTime().value_in_unit(unit.picosecond)
        raise WorkError(f"all-atom dynamics failed at {time_ps:g} ps: {error}") from error


def record(
    context: openmm.Context,
    frames: int,
    steps_per_frame: int,
    bonds: Sequence[tuple[int, int]],
) -> Recorded:
    """Advance the dynamics and save positions and forces every ``steps_per_frame`` steps.

    Args:
        context: restraints must be off, or their forces are in the saved ones.
        frames: frames to save.
        steps_per_frame: steps between them; the first is saved after so many steps.
        bonds: bonds that are watched.

    Raises:
        WorkError: a coordinate became NaN, or a bond broke.
    """
    atoms = context.getSystem().getNumParticles()
    positions = np.empty((frames, atoms, 3), dtype=np.float32)
    forces = np.empty((frames, atoms, 3), dtype=np.float32)
    pairs = np.array(bonds).reshape(-1, 2)
    for frame in range(frames):
        run_steps(context, steps_per_frame)
        state = context.getState(getPositions=True, getForces=True)
        place = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        _check_bonds(place, pairs, state.getTime().value_in_unit(unit.picosecond))
        # A free molecule drifts away; near the origin float32 keeps its full precision.
        positions[frame] = place - place.mean(axis=0)
        forces[frame] = state.getForces(asNumpy=True).value_in_unit(
            unit.kilojoule_per_mole / unit.nanometer
        )
    return Recorded(positions, forces)


def current_positions(context: openmm.Context) -> Float[np.ndarray, "atoms 3"]:
    """Return the coordinates (nm)."""
    state = context.getState(getPositions=True)
    return state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)


def potential_energy(context: openmm.Context) -> float:
    """Return the potential energy (kJ/mol)."""
    state = context.getState(getEnergy=True)
    return float(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))


def steps_in(duration_ps: float, time_step_ps: float, name: str) -> int:
    """Return the number of steps in a time.

    Raises:
        InputError: the time is no multiple of the step; ``name`` says which time it is.
    """
    steps = round(duration_ps / time_step_ps)
    if abs(steps * time_step_ps - duration_ps) > 1e-6 * max(duration_ps, time_step_ps):
        raise InputError(
            f"{name} is {duration_ps:g}, no multiple of {time_step_ps:g} ps; choose a multiple"
        )
    return steps


def _check_bonds(place: np.ndarray, pairs: np.ndarray, time_ps: float) -> None:
    lengths = np.linalg.norm(place[pairs[:, 0]] - place[pairs[:, 1]], axis=1)
    if not (lengths < _BROKEN_BOND_NM).all():  # a NaN fails as well
        raise WorkError(
            f"all-atom dynamics came apart at {time_ps:g} ps: a bond of {lengths.max():.3g} nm"
        )
