"""Langevin dynamics of many chains in one tensor, by BAOAB.

One step is half a kick (B), half a drift (A), the exact Ornstein-Uhlenbeck update of the velocities
(O), half a drift, half a kick (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34; J. Chem.
Phys. 138, 174102 (2013)): one force a step, and the positions of a harmonic potential are
sampled exactly at any stable time step. Without friction it is the velocity Verlet method.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from pydantic import Field
from torch import Tensor

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.geometry.internal import distances
from trajgen.geometry.validity import ChainLimits
from trajgen.potential.potential import Potential
from trajgen.progress import SILENT, Progress
from trajgen.seeding import derive_seed, numpy_generator
from trajgen.settings import Settings
from trajgen.units import thermal_energy

logger = logging.getLogger(__name__)

#: Forces, kJ/mol/nm, of positions, nm.
Forces = Callable[[Tensor], Tensor]

#: Steps whose noise is drawn at once; it bounds the memory and changes no number.
NOISE_BLOCK = 50


class SimulationSettings(Settings):
    """Choices of a simulation.

    Attributes:
        steps: time steps of each chain.
        save_every: steps between saved frames; the start is not saved.
        time_step_ps: time step. The stiffest motion of a chain of 12 amu beads with thermal C-alpha
            bonds, 2 sqrt(k/m) = 155 per ps, is stable below 0.013 ps; the default is a third of it.
        friction_per_ps: friction; 0 is dynamics at constant energy.
        temperature_K: temperature, None for that of the potential's data.
        mass_amu: mass of every bead. It sets the time scale alone: the distribution does not depend
            on masses. 12 amu, used by all published C-alpha models, makes the beads light and fast.
    """

    steps: int = Field(default=10_000, ge=1)
    save_every: int = Field(default=100, ge=1)
    time_step_ps: float = Field(default=0.004, gt=0)
    friction_per_ps: float = Field(default=1.0, ge=0)
    temperature_K: float | None = Field(default=None, gt=0)
    mass_amu: float = Field(default=12.0, gt=0)


@dataclass(frozen=True)
class Baoab:
    """The integrator: one step from (x, v, f) and noise to (x, v, f).

    Attributes:
        time_step_ps: time step.
        friction_per_ps: friction.
        kT: thermal energy, kJ/mol.
        mass_amu: mass of every bead.
    """

    time_step_ps: float
    friction_per_ps: float
    kT: float
    mass_amu: float

    def step(
        self, positions_nm: Tensor, velocities: Tensor, forces: Tensor, noise: Tensor, field: Forces
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return positions (nm), velocities (nm/ps) and forces (kJ/mol/nm) one step later.

        All tensors have the shape (chains, beads, 3); ``noise`` is standard normal.
        """
        kick = 0.5 * self.time_step_ps / self.mass_amu
        drift = 0.5 * self.time_step_ps
        keep = math.exp(-self.friction_per_ps * self.time_step_ps)
        spread = math.sqrt((1 - keep**2) * self.kT / self.mass_amu)
        velocities = velocities + kick * forces
        positions_nm = positions_nm + drift * velocities
        velocities = keep * velocities + spread * noise
        positions_nm = positions_nm + drift * velocities
        forces = field(positions_nm)
        return positions_nm, velocities + kick * forces, forces


def simulate(
    potential: Potential,
    starts_nm: Float32[np.ndarray, "chains beads 3"],
    settings: SimulationSettings,
    seed: int,
    progress: Progress = SILENT,
) -> Rollouts:
    """Simulate chains, all at once, each with noise of its own that no other chain touches.

    A chain that explodes (a coordinate that is not finite, or a bond beyond the limit of
    ``ChainLimits``) is lost: its later frames are NaN and not alive. The others go on unchanged.
    Saved chains are centred, since a potential does not feel where a chain is, and coordinates that
    diffuse away would lose digits.

    Args:
        potential: the potential; it says the device.
        starts_nm: one start for each chain.
        settings: choices of the simulation.
        seed: base of all random numbers; chain c draws from ``(seed, "langevin", 0, c)``.
        progress: told the steps.

    Raises:
        InputError: the starts are not of the potential's molecule, not finite, or exploded already;
            or there are fewer steps than one saved frame takes.
    """
    _check(potential, starts_nm, settings)
    kT = thermal_energy(settings.temperature_K or potential.temperature_K)
    integrator = Baoab(settings.time_step_ps, settings.friction_per_ps, kT, settings.mass_amu)
    noise = _Noise(seed, starts_nm.shape, potential.device)
    bonds = torch.tensor(potential.topology.bonds, dtype=torch.int64).reshape(-1, 2)
    bonds = bonds.to(potential.device)

    def field(positions_nm: Tensor) -> Tensor:
        return potential.energy_and_forces(positions_nm)[1]

    x = torch.tensor(starts_nm, device=potential.device)
    v = noise.draw(1)[0] * math.sqrt(kT / settings.mass_amu)
    f = field(x)
    alive = intact(x, bonds)
    n_frames = settings.steps // settings.save_every
    saved = torch.full((n_frames, *x.shape), math.nan)
    saved_alive = torch.zeros((n_frames, len(x)), dtype=torch.bool)
    with progress.task("simulate", n_frames * settings.save_every) as task:
        for frame in range(n_frames):
            for kicks in noise.blocks(settings.save_every):
                for kick in kicks:
                    x, v, f = integrator.step(x, v, f, kick, field)
                    alive = alive & intact(x, bonds)
            x = x - x.mean(dim=1, keepdim=True)
            saved[frame] = torch.where(alive[:, None, None], x, math.nan)
            saved_alive[frame] = alive
            lost = len(x) - int(alive.sum())
            task.advance(settings.save_every, f"{lost} of {len(x)} chains lost" if lost else "")
            if lost == len(x):
                break
    lost = len(x) - int(alive.sum())
    if lost:
        logger.warning("%d of %d chains exploded; their later frames are left out", lost, len(x))
    return Rollouts(
        topology=potential.topology,
        positions_nm=saved.transpose(0, 1).contiguous().numpy(),
        alive=saved_alive.T.contiguous().numpy(),
        time_step_ps=settings.time_step_ps * settings.save_every,
    )


def intact(positions_nm: Float[Tensor, "chains beads 3"], bonds: Tensor) -> Bool[Tensor, " chains"]:
    """Say which chains are finite and have no bond beyond the limit of explosion."""
    # A comparison with NaN is false, so a chain with one is not intact; beads without a bond are
    # covered by the sum.
    whole = (distances(positions_nm, bonds) <= ChainLimits().exploded_bond_nm).all(dim=1)
    return whole & positions_nm.sum(dim=(1, 2)).isfinite()


class _Noise:
    """Standard normal numbers, a stream for each chain, the same for any split into blocks."""

    def __init__(self, seed: int, shape: tuple[int, ...], device: torch.device) -> None:
        self.streams = [
            numpy_generator(derive_seed(seed, "langevin", 0, chain)) for chain in range(shape[0])
        ]
        self.shape, self.device = shape[1:], device

    def draw(self, steps: int) -> Float[Tensor, "steps chains beads 3"]:
        shape = (steps, *self.shape)
        drawn = [stream.standard_normal(shape, dtype=np.float32) for stream in self.streams]
        return torch.from_numpy(np.stack(drawn, axis=1)).to(self.device)

    def blocks(self, steps: int) -> Iterator[Tensor]:
        for begin in range(0, steps, NOISE_BLOCK):
            yield self.draw(min(NOISE_BLOCK, steps - begin))


def _check(potential: Potential, starts_nm: np.ndarray, settings: SimulationSettings) -> None:
    n = potential.topology.n_beads
    if starts_nm.ndim != 3 or starts_nm.shape[1:] != (n, 3) or not len(starts_nm):
        raise InputError(
            f"starts_nm has shape {starts_nm.shape}; wanted is (chains, {n}, 3) with a chain or "
            f"more, for a potential of {potential.topology.sequence}"
        )
    if settings.steps < settings.save_every:
        raise InputError(
            f"steps is {settings.steps} and save_every {settings.save_every}: no frame would be "
            "saved; choose more steps or a smaller save_every"
        )
    bonds = torch.tensor(potential.topology.bonds, dtype=torch.int64).reshape(-1, 2)
    bad = np.flatnonzero(~intact(torch.tensor(starts_nm), bonds).numpy())
    if len(bad):
        raise InputError(
            f"start {bad[0]} ({len(bad)} of {len(starts_nm)}) has a NaN or a bond beyond "
            f"{ChainLimits().exploded_bond_nm} nm; give whole chains in nm"
        )
