"""Ensemble matching: coordinates as a second source of truth beside forces.

Forces say how the energy changes near the frames that were seen, and their noise hides how deep one
basin lies below another. The frames of an equilibrium sample say just that. Among all potentials
the one whose ensemble is nearest to the sample, by the relative entropy S = ⟨ln(p_data/p_model)⟩,
has its minimum where

    ∂S/∂θ = (⟨∂U/∂θ⟩_data - ⟨∂U/∂θ⟩_model) / kT

is zero (Shell, J. Chem. Phys. 129, 144108 (2008); for networks Thaler, Stupp and Zavadlav, J. Chem.
Phys. 157, 244103 (2022)). The second mean is taken over chains that are simulated with the current
weights and go on from one update to the next, since the weights change little in between (Tieleman,
ICML 2008). They begin as frames of the data: the mean over them is right from the start where the
potential is, and each update takes back what the chains drifted away from the data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from pydantic import Field
from torch import Tensor

from trajgen.errors import InputError
from trajgen.potential.dynamics.containment import LONGEST_BOND_NM, longest_bonds
from trajgen.potential.dynamics.integrators import Baoab
from trajgen.potential.dynamics.starts import bond_index
from trajgen.potential.fast.fast_potential import FastPotential
from trajgen.potential.potential import Potential
from trajgen.seeding import derive_seed, numpy_generator
from trajgen.settings import Settings
from trajgen.units import thermal_energy

#: Forces, kJ/mol/nm, of positions, nm.
Forces = Callable[[Tensor], Tensor]


class EnsembleSettings(Settings):
    """Choices of ensemble matching.

    Attributes:
        weight: weight of the relative entropy, in kT, beside the loss of the forces, which is 1 for
            the priors alone.
        chains: chains that are simulated beside the training.
        frames: frames of the data in an update, drawn by their weights.
        steps: time steps of each chain from one update to the next.
        time_step_ps: their time step.
        friction_per_ps: their friction; little of it crosses barriers soonest.
        mass_amu: mass of every bead.
    """

    weight: float = Field(default=1.0, gt=0)
    chains: int = Field(default=256, ge=2)
    frames: int = Field(default=256, ge=2)
    steps: int = Field(default=64, ge=1)
    time_step_ps: float = Field(default=0.008, gt=0)
    friction_per_ps: float = Field(default=0.3, ge=0)
    mass_amu: float = Field(default=12.0, gt=0)


@dataclass(frozen=True)
class EquilibriumFrames:
    """Frames that stand for the ensemble at the temperature of the data.

    Attributes:
        positions_nm: coordinates.
        cumulative: running sum of their weights, its last entry 1.
    """

    positions_nm: Float32[Tensor, "frames beads 3"]
    cumulative: Float64[np.ndarray, " frames"]

    @classmethod
    def of(
        cls,
        positions_nm: Float32[np.ndarray, "frames beads 3"],
        weights: Float[np.ndarray, " frames"] | None,
    ) -> "EquilibriumFrames":
        """Make them of arrays; equal weights where None is given."""
        each = np.ones(len(positions_nm)) if weights is None else weights.astype(np.float64)
        cumulative = np.cumsum(each)
        return cls(torch.from_numpy(positions_nm), cumulative / cumulative[-1])

    def draw(self, count: int, seed: int) -> Float32[Tensor, "count beads 3"]:
        """Draw frames by weight, with replacement."""
        uniform = numpy_generator(seed).random(count)
        last = len(self.cumulative) - 1
        chosen = np.minimum(np.searchsorted(self.cumulative, uniform, side="right"), last)
        return self.positions_nm[torch.from_numpy(chosen)]


class CurrentForces:
    """Forces of a potential whose weights change: by the fast path on the CPU."""

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._fast = FastPotential.build(potential) if potential.device.type == "cpu" else None

    def refreshed(self) -> Forces:
        """Return the forces, kJ/mol/nm, of the weights as they are now."""
        if self._fast is None:
            return lambda positions_nm: self._potential.energy_and_forces(positions_nm)[1]
        fast = self._fast
        fast.update(self._potential)
        return lambda positions_nm: fast.energy_and_forces(positions_nm)[1]


class SimulatedChains:
    """Chains that follow the potential while it is trained.

    Noise and draws follow from (seed, update) alone, so the chains of a resumed training go on as
    those of one that was never interrupted.

    Attributes:
        kT: thermal energy, kJ/mol.
        positions_nm: where the chains are.
        velocities: their velocities, nm/ps.
        restarted: chains so far that exploded and were set back to a frame of the data.
    """

    def __init__(
        self,
        potential: Potential,
        frames: EquilibriumFrames,
        settings: EnsembleSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        """Place chains at frames of the data, with thermal velocities."""
        self.frames, self.settings, self.seed = frames, settings, seed
        self.kT = thermal_energy(potential.temperature_K)
        self._thermal = (self.kT / settings.mass_amu) ** 0.5
        self._bonds = bond_index(potential).to(device)
        self._forces = CurrentForces(potential.to(device))
        self._integrator = Baoab(
            settings.time_step_ps, settings.friction_per_ps, self.kT, settings.mass_amu
        )
        starts = frames.draw(settings.chains, derive_seed(seed, "ensemble-starts"))
        noise = self._noise("ensemble-velocities", 0, 1)[0]
        self.positions_nm = starts.to(device)
        self.velocities = self._thermal * noise.to(device)
        self.restarted = 0

    @torch.no_grad()
    def advance(
        self, update: int, share: slice, gather: Callable[[Tensor], Tensor] = lambda own: own
    ) -> None:
        """Simulate the chains with the weights that the potential has now.

        Args:
            update: number of the update; it says the noise.
            share: the chains that this process moves.
            gather: puts the chains of all processes together again.
        """
        forces = self._forces.refreshed()
        x, v = self.positions_nm[share], self.velocities[share]
        f = forces(x)
        noise = self._noise("ensemble-noise", update, self.settings.steps)[:, share]
        for kick in noise.to(x.device):
            x, v = self._integrator.move(x, v, f, kick)
            f = forces(x)
            v = self._integrator.kick(v, f)
        self.positions_nm = gather((x - x.mean(dim=1, keepdim=True)).contiguous())
        self.velocities = gather(v.contiguous())
        self._restart_exploded(update)

    def _restart_exploded(self, update: int) -> None:
        """Set chains that are not finite or too long back to frames of the data."""
        longest_nm = longest_bonds(self.positions_nm, self._bonds)
        # A comparison with NaN is false.
        lost = ~((longest_nm <= LONGEST_BOND_NM) & self.velocities.sum(dim=(1, 2)).isfinite())
        count = int(lost.sum())
        if count:
            device = self.positions_nm.device
            drawn = self.frames.draw(count, derive_seed(self.seed, "ensemble-restart", 0, update))
            noise = self._noise("ensemble-velocities", update + 1, 1)[0]
            self.positions_nm[lost] = drawn.to(device)
            self.velocities[lost] = self._thermal * noise.to(device)[lost]
            self.restarted += count

    def reference(self, update: int) -> Float32[Tensor, "frames beads 3"]:
        """Return the frames of the data that an update compares the chains with."""
        seed = derive_seed(self.seed, "ensemble-frames", 0, update)
        return self.frames.draw(self.settings.frames, seed)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that a resumed training needs."""
        return {"chains.positions_nm": self.positions_nm, "chains.velocities": self.velocities}

    def restore(self, tensors: dict[str, Tensor], restarted: int) -> None:
        """Go on from where ``tensors`` were taken."""
        self.restarted = restarted
        device = self.positions_nm.device
        self.positions_nm = tensors["chains.positions_nm"].to(device)
        self.velocities = tensors["chains.velocities"].to(device)

    def _noise(self, purpose: str, update: int, steps: int) -> Float32[Tensor, "steps chains b 3"]:
        shape = (steps, self.settings.chains, *self.frames.positions_nm.shape[1:])
        generator = numpy_generator(derive_seed(self.seed, purpose, 0, update))
        return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


@runtime_checkable
class Processes(Protocol):
    """Which of how many processes this is; ``accelerate.Accelerator`` is one."""

    @property
    def process_index(self) -> int:
        """The number of this process."""

    @property
    def num_processes(self) -> int:
        """How many there are."""


def share_of_process(name: str, count: int, processes: Processes) -> slice:
    """Return the chains, or the frames, of an update that are this process's.

    Raises:
        InputError: they cannot be dealt out evenly, and means over shares would not be the mean.
    """
    number = processes.num_processes
    if count % number:
        raise InputError(
            f"ensemble.{name} is {count}, which {number} processes cannot share evenly; choose a "
            f"multiple of {number}"
        )
    each = count // number
    return slice(processes.process_index * each, (processes.process_index + 1) * each)


def energy_gap(
    of_data: Float[Tensor, "members frames"], of_chains: Float[Tensor, "members chains"], kT: float
) -> Float[Tensor, " members"]:
    """Return (⟨U⟩_data - ⟨U⟩_chains) / kT of each member.

    Its gradient with respect to the weights is that of the relative entropy, for a member as if it
    were the whole potential; its value is not the relative entropy, and wanders about zero once the
    ensembles agree.
    """
    return (of_data.mean(dim=1) - of_chains.mean(dim=1)) / kT
