"""Ensemble matching: coordinates as a second source of truth beside forces.

Forces say how the energy changes near the frames that were seen, and their noise hides how deep one
basin lies below another. The frames of an equilibrium sample say just that. Among all potentials
the one whose ensemble is nearest to the sample, by the relative entropy S = ⟨ln(p_data/p_model)⟩,
has its minimum where

    ∂S/∂θ = (⟨∂U/∂θ⟩_data - ⟨∂U/∂θ⟩_model) / kT

is zero (Shell, J. Chem. Phys. 129, 144108 (2008); for networks Thaler, Stupp and Zavadlav, J. Chem.
Phys. 157, 244103 (2022)). The second mean is taken over chains that are simulated with the current
potential and go on from one update to the next (Tieleman, ICML 2008). They begin as frames of the
data.

Chains that cross a barrier seldom are slow to notice that an update has changed the depths of the
basins beside it. So they carry statistical weights: an update from U to U' multiplies that of a
chain at x by exp(-(U'(x) - U(x)) / kT), and the weighted mean stays that of the current potential
even where no chain moves (Carbone, Hua, Coste and Vanden-Eijnden, NeurIPS 2023; the equality is
Jarzynski's). Where few chains carry most of the weight, they are drawn anew by their weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from trajgen.errors import InputError, WorkError
from trajgen.potential.chain_weights import WidestSpread, effective_number, systematic_draw
from trajgen.potential.dynamics.containment import LONGEST_BOND_NM, longest_bonds
from trajgen.potential.dynamics.integrators import Baoab
from trajgen.potential.dynamics.starts import bond_index
from trajgen.potential.ensemble_settings import EnsembleSettings
from trajgen.potential.fast.fast_potential import FastPotential
from trajgen.potential.potential import Potential
from trajgen.seeding import derive_seed, numpy_generator
from trajgen.units import thermal_energy

#: Energies, kJ/mol, and forces, kJ/mol/nm, of positions, nm.
EnergyAndForces = Callable[[Tensor], tuple[Tensor, Tensor]]

#: Chains this many times hotter than they should be are not simulated but torn: what they teach the
#: network makes them hotter still.
HOT = 3.0
#: Chains are drawn anew by their weights when fewer than this share of them would count.
EFFECTIVE_SHARE = 0.5
#: Frames of the data that say in which order they stand then.
ORDERING_FRAMES = 1_000


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

    def weights(self) -> Float64[np.ndarray, " frames"]:
        """Return the weights; their sum is 1."""
        return np.diff(self.cumulative, prepend=0.0)

    def draw(self, count: int, seed: int) -> Float32[Tensor, "count beads 3"]:
        """Draw frames by weight, with replacement: one from each of ``count`` equal strata.

        The weights of basins that lie together in the data come out nearly as they are.
        """
        uniform = (np.arange(count) + numpy_generator(seed).random(count)) / count
        last = len(self.cumulative) - 1
        chosen = np.minimum(np.searchsorted(self.cumulative, uniform, side="right"), last)
        return self.positions_nm[torch.from_numpy(chosen)]


class CurrentEnergy:
    """Energies and forces of a potential whose weights change: by the fast path on the CPU."""

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self._fast = FastPotential.build(potential) if potential.device.type == "cpu" else None

    def refreshed(self) -> EnergyAndForces:
        """Return energies, kJ/mol, and forces, kJ/mol/nm, of the weights as they are now."""
        if self._fast is None:
            return self._potential.energy_and_forces
        self._fast.update(self._potential)
        return self._fast.energy_and_forces


class SimulatedChains:
    """Chains that follow the potential while it is trained.

    Noise and draws follow from (seed, update) alone, so the chains of a resumed training go on as
    those of one that was never interrupted.

    Attributes:
        kT: thermal energy, kJ/mol.
        time_step_ps: time step.
        positions_nm: where the chains are.
        velocities: their velocities, nm/ps.
        log_weights: logarithms of their statistical weights.
        energies: their energies with the weights of the network that they last moved by, kJ/mol.
        restarted: chains so far that exploded and were set back to a frame of the data.
        redrawn: how often so far the chains were drawn anew by their weights.
    """

    _CARRIED = ("positions_nm", "velocities", "log_weights", "energies")

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
        self.time_step_ps = settings.chosen_time_step_ps(potential)
        self._thermal = (self.kT / settings.mass_amu) ** 0.5
        self._bonds = bond_index(potential).to(device)
        self._current = CurrentEnergy(potential.to(device))
        self._integrator = Baoab(
            self.time_step_ps, settings.friction_per_ps, self.kT, settings.mass_amu
        )
        starts = frames.draw(settings.chains, derive_seed(seed, "ensemble-starts"))
        noise = self._noise("ensemble-velocities", 0, 1)[0]
        self.positions_nm = starts.to(device)
        self.velocities = self._thermal * noise.to(device)
        self.log_weights = torch.zeros(settings.chains, dtype=torch.float64, device=device)
        self.energies = self._current.refreshed()(self.positions_nm)[0]
        sample = frames.draw(ORDERING_FRAMES, derive_seed(seed, "ensemble-order"))
        self._spread = WidestSpread.of(sample)
        self.restarted = self.redrawn = 0

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
        current = self._current.refreshed()
        x, v = self.positions_nm[share], self.velocities[share]
        energies, f = current(x)
        changed = (energies - self.energies[share]).double() / self.kT
        log_weights = self.log_weights[share] - changed
        noise = self._noise("ensemble-noise", update, self.settings.steps)[:, share]
        for kick in noise.to(x.device):
            x, v = self._integrator.move(x, v, f, kick)
            energies, f = current(x)
            v = self._integrator.kick(v, f)
        self.positions_nm = gather((x - x.mean(dim=1, keepdim=True)).contiguous())
        self.velocities = gather(v.contiguous())
        self.energies, self.log_weights = gather(energies), gather(log_weights)
        self._restart_exploded(update, current)
        self._require_cool(update)
        weights = self.relative_weights()
        if effective_number(weights) < EFFECTIVE_SHARE * len(weights):
            self.draw_anew(update)

    def relative_weights(self) -> Float64[Tensor, " chains"]:
        """Return the statistical weights of the chains; their mean is 1."""
        return torch.softmax(self.log_weights, dim=0) * len(self.log_weights)

    def _restart_exploded(self, update: int, current: EnergyAndForces) -> None:
        """Set chains that are not finite or too long back to frames of the data."""
        longest_nm = longest_bonds(self.positions_nm, self._bonds)
        # A comparison with NaN is false.
        lost = ~((longest_nm <= LONGEST_BOND_NM) & self.velocities.sum(dim=(1, 2)).isfinite())
        count = int(lost.sum())
        if not count:
            return
        device = self.positions_nm.device
        drawn = self.frames.draw(count, derive_seed(self.seed, "ensemble-restart", 0, update))
        noise = self._noise("ensemble-velocities", update + 1, 1)[0]
        self.positions_nm[lost] = drawn.to(device)
        self.velocities[lost] = self._thermal * noise.to(device)[lost]
        self.energies[lost] = current(self.positions_nm[lost])[0]
        kept = self.log_weights[~lost]
        self.log_weights[lost] = kept.logsumexp(0) - math.log(len(kept)) if len(kept) else 0.0
        self.restarted += count

    def _require_cool(self, update: int) -> None:
        kinetic = 0.5 * self.settings.mass_amu * self.velocities.double().square().sum(dim=(1, 2))
        # The median: one chain that is about to be restarted is no reason to give up.
        ratio = float(kinetic.median()) / (1.5 * self.positions_nm.shape[1] * self.kT)
        if not ratio <= HOT:
            raise WorkError(
                f"the chains of update {update} of the ensemble matching are {ratio:.3g} times as "
                f"hot as they should be; set ensemble.time_step_ps below {self.time_step_ps:.2g}, "
                "or lower training.learning_rate"
            )

    def draw_anew(self, update: int) -> None:
        """Draw the chains anew by their weights, which are equal then."""
        weights = self.relative_weights()
        offset = numpy_generator(derive_seed(self.seed, "ensemble-redraw", 0, update)).random()
        kept = systematic_draw(weights, self._spread.order(self.positions_nm), offset)
        self.positions_nm, self.velocities = self.positions_nm[kept], self.velocities[kept]
        self.energies = self.energies[kept]
        self.log_weights = torch.zeros_like(self.log_weights)
        self.redrawn += 1

    def reference(self, update: int) -> Float32[Tensor, "frames beads 3"]:
        """Return the frames of the data that an update compares the chains with."""
        seed = derive_seed(self.seed, "ensemble-frames", 0, update)
        return self.frames.draw(self.settings.frames, seed)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that a resumed training needs."""
        return {f"chains.{name}": getattr(self, name) for name in self._CARRIED}

    def numbers(self) -> dict[str, int]:
        """Return all counts that a resumed training needs."""
        return {"chains_restarted": self.restarted, "chains_redrawn": self.redrawn}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        """Go on from where ``tensors`` and ``numbers`` were taken."""
        for name in self._CARRIED:
            setattr(self, name, tensors[f"chains.{name}"].to(self.positions_nm.device))
        self.restarted, self.redrawn = numbers["chains_restarted"], numbers["chains_redrawn"]

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
    of_data: Float[Tensor, "members frames"],
    of_chains: Float[Tensor, "members chains"],
    chain_weights: Float[Tensor, " chains"],
    kT: float,
) -> Float[Tensor, " members"]:
    """Return (⟨U⟩_data - ⟨U⟩_chains) / kT of each member; weights of chains have the mean 1.

    Its gradient with respect to the weights of the network is that of the relative entropy, for a
    member as if it were the whole potential; its value is not the relative entropy, and wanders
    about zero once the ensembles agree.
    """
    return (of_data.mean(dim=1) - (of_chains * chain_weights).mean(dim=1)) / kT
