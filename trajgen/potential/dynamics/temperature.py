"""The temperature that chains have, by their velocities and by their bonds.

Velocities tell first of a time step that is too large, bonds tell also where there are none. Bonds
are what a chain has stiffest.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajgen.potential.dynamics.integrators import Integrator
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.state import State
from trajgen.potential.priors import BondPrior
from trajgen.units import BOLTZMANN_KJ_PER_MOL_K

#: Steps between measurements, all of them in the second half of a simulation. Velocities and bonds
#: remember themselves for some 1 / γ, 250 steps of the default. A measurement takes less time than
#: a step of a single chain.
MEASURED_EVERY = 50


class MeanTemperature:
    """A temperature of each replica, T = Σ A / (k Σ n) of energies A over degrees of freedom n.

    Attributes:
        sums: sum of the energies of each replica, kJ/mol.
        degrees: sum of its degrees of freedom.
        counts: number of measurements in each sum.
    """

    def __init__(self, replicas: int, device: torch.device) -> None:
        """Begin without a measurement."""
        self.sums = torch.zeros(replicas, dtype=torch.float64, device=device)
        self.degrees = torch.zeros_like(self.sums)
        self.counts = torch.zeros(replicas, dtype=torch.int64, device=device)

    def add(
        self,
        energies: Float[Tensor, " replicas"],
        degrees: Float[Tensor, " replicas"] | float,
        alive: Bool[Tensor, " replicas"],
    ) -> None:
        """Add a measurement of the replicas that are whole; one that broke counts no more at all.

        What was measured before it broke is of a chain that was flying apart.
        """
        counted = alive & energies.isfinite()
        self.sums = torch.where(counted, self.sums + energies, 0.0)
        self.degrees = torch.where(counted, self.degrees + degrees, 0.0)
        self.counts = torch.where(counted, self.counts + 1, 0)

    def measured_K(self, rungs: int) -> list[float | None]:
        """Return the mean temperature of each rung, None where nothing was measured."""
        sums = self.sums.reshape(-1, rungs).sum(dim=0).tolist()
        degrees = self.degrees.reshape(-1, rungs).sum(dim=0).tolist()
        counts = self.counts.reshape(-1, rungs).sum(dim=0).tolist()
        return [
            total / (freedom * BOLTZMANN_KJ_PER_MOL_K) if count and freedom else None
            for total, freedom, count in zip(sums, degrees, counts, strict=True)
        ]

    def relative_error(self, interval_ps: float, rate_per_ps: float, rungs: int) -> float:
        """Return the expected statistical error of the base rung's temperature, as a share of it.

        The variance of an energy of n degrees of freedom is that of n/2 squares of normal numbers;
        measurements that are closer than the time 1 / ``rate_per_ps`` count in part.
        """
        counts = self.counts[::rungs]
        measured = float(counts.sum())
        if measured == 0:
            return math.inf
        degrees = float(self.degrees[::rungs].sum())
        share = max(min(1.0, rate_per_ps * interval_ps), int((counts > 0).sum()) / measured)
        return math.sqrt(2 / (max(degrees, 1.0) * share))


def stretching(
    positions_nm: Float[Tensor, "replicas beads 3"],
    forces: Float[Tensor, "replicas beads 3"],
    pairs: Int[Tensor, "pairs 2"],
    lengths_nm: Float[Tensor, " pairs"],
) -> tuple[Float[Tensor, " replicas"], Float[Tensor, " replicas"]]:
    """Return A and n whose means have the ratio kT in the ensemble of the forces.

    For any field B that vanishes where the density does, kT = ⟨B · ∇U⟩ / ⟨∇ · B⟩ (Jepps, Ayton and
    Evans, Phys. Rev. E 62, 4757 (2000); with B = ∇U that is the configurational temperature of
    Rugh, Phys. Rev. Lett. 78, 772 (1997), whose Laplacian a network makes dear). Here B moves both
    beads of a pair apart along u, the unit vector between them, in proportion to how far their
    distance r is from a length r₀, so that with the forces F

        A = Σ ½ (r - r₀) u · (Fᵢ - Fⱼ),   n = Σ (1 + 2 (r - r₀) / r).

    It holds for the whole potential and for any r₀; of a harmonic bond of length r₀ and nothing
    else A is k (r - r₀)².
    """
    i, j = pairs.unbind(-1)
    apart = positions_nm.index_select(1, j) - positions_nm.index_select(1, i)
    pull = forces.index_select(1, i) - forces.index_select(1, j)
    away = 1 - lengths_nm / torch.linalg.vector_norm(apart, dim=-1)
    energies = (0.5 * away[..., None] * apart * pull).sum(dim=(1, 2))
    return energies, (1 + 2 * away).sum(dim=1)


class Thermometer:
    """What is measured of each replica while a simulation runs.

    Attributes:
        kinetic: temperature of the velocities, without a measurement where there are none.
        configurational: temperature of the bonds.
    """

    def __init__(self, bonds: BondPrior, settings: SimulationSettings, replicas: int) -> None:
        """Begin without a measurement; the device is that of the bonds."""
        self._pairs, self._lengths_nm = bonds.pairs, bonds.length_nm.detach()
        self._settings = settings
        self._softest = float(bonds.stiffness.min()) if len(bonds.pairs) else 0.0
        self.kinetic = MeanTemperature(replicas, self._pairs.device)
        self.configurational = MeanTemperature(replicas, self._pairs.device)

    def wants(self, step: int, total_steps: int) -> bool:
        """Return whether to measure after a step, counted from 1; after the last one always."""
        return 2 * step > total_steps and (total_steps - step) % MEASURED_EVERY == 0

    def measure(self, state: State, integrator: Integrator) -> None:
        """Add what the replicas have now."""
        energies = integrator.kinetic_energy(state.carried)
        if energies is not None:
            freedom = 3.0 * state.positions_nm.shape[1]
            self.kinetic.add(2 * energies, freedom, state.alive)
        if len(self._pairs):
            stretched = stretching(state.positions_nm, state.forces, self._pairs, self._lengths_nm)
            self.configurational.add(*stretched, state.alive)

    def relative_errors(self, rungs: int) -> tuple[float, float]:
        """Return the errors of both temperatures of the base rung, as shares of them.

        Energy leaves velocities with the rate γ, and a spring of frequency ω with the smaller one
        of γ and 2ω²/γ, without velocities with 2ω²/γ.
        """
        settings = self._settings
        friction_per_ps = settings.chosen_friction_per_ps
        bonds_per_ps = math.inf
        if friction_per_ps > 0:
            bonds_per_ps = 2 * self._softest / (settings.mass_amu * friction_per_ps)
        if settings.integrator == "langevin":
            bonds_per_ps = min(friction_per_ps, bonds_per_ps)
        interval_ps = MEASURED_EVERY * settings.time_step_ps
        return (
            self.kinetic.relative_error(interval_ps, friction_per_ps, rungs),
            self.configurational.relative_error(interval_ps, bonds_per_ps, rungs),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a resumed run needs."""
        return {
            f"{name}_{part}": getattr(mean, part)
            for name, mean in self._means().items()
            for part in ("sums", "degrees", "counts")
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take what ``tensors`` returned out of a larger dictionary."""
        for name, mean in self._means().items():
            for part in ("sums", "degrees", "counts"):
                setattr(mean, part, tensors.pop(f"{name}_{part}"))

    def _means(self) -> dict[str, MeanTemperature]:
        return {"kinetic": self.kinetic, "configurational": self.configurational}
