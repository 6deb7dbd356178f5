"""One step of Langevin and of overdamped dynamics, each with one force evaluation.

A step is ``move``, new forces, ``kick``, so that whoever drives it can look at the new positions
before they are evaluated. What an integrator carries from step to step beside positions and forces
(velocities, or the noise of the last step) is one tensor that it alone understands.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from trajgen.potential.dynamics.settings import SimulationSettings

#: Thermal energy, kJ/mol: one for all chains, or one for each.
ThermalEnergy = float | Float[Tensor, "chains 1 1"]


@runtime_checkable
class Integrator(Protocol):
    """A scheme of one force a step; all tensors have the shape (chains, beads, 3)."""

    def begin(self, noise: Tensor) -> Tensor:
        """Return what is carried into the first step, of standard normal noise."""

    def move(
        self, positions_nm: Tensor, carried: Tensor, forces: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the positions one step later (nm), and what is carried there."""

    def kick(self, carried: Tensor, forces: Tensor) -> Tensor:
        """Return what is carried once the forces (kJ/mol/nm) at the new positions are known."""

    def transfer(self, carried: Tensor, forces: Tensor, old_kT: Tensor) -> Tensor:
        """Return what is carried by chains that came from other temperatures."""

    def kinetic_energy(self, carried: Tensor) -> Tensor | None:
        """Return the kinetic energy of each chain, kJ/mol; None where there are no velocities."""


@dataclass(frozen=True)
class Baoab:
    """Langevin dynamics by BAOAB; it carries velocities, nm/ps.

    One step is half a kick (B), half a drift (A), the exact Ornstein-Uhlenbeck update of the
    velocities (O), half a drift, half a kick (Leimkuhler and Matthews, Appl. Math. Res. Express
    2013, 34; J. Chem. Phys. 138, 174102 (2013)). The positions of a harmonic potential are sampled
    exactly at any stable time step. Without friction it is the velocity Verlet method.

    Attributes:
        time_step_ps: time step.
        friction_per_ps: friction.
        kT: thermal energy, kJ/mol.
        mass_amu: mass of every bead.
    """

    time_step_ps: float
    friction_per_ps: float
    kT: ThermalEnergy
    mass_amu: float

    @cached_property
    def _keep(self) -> float:
        return math.exp(-self.friction_per_ps * self.time_step_ps)

    @cached_property
    def _spread(self) -> float | Tensor:
        return ((1 - self._keep**2) * self.kT / self.mass_amu) ** 0.5

    def begin(self, noise: Tensor) -> Tensor:
        """Return velocities of the Maxwell-Boltzmann distribution, nm/ps."""
        return noise * (self.kT / self.mass_amu) ** 0.5

    def move(
        self, positions_nm: Tensor, carried: Tensor, forces: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the positions one step later, and the velocities before the last half kick."""
        drift = 0.5 * self.time_step_ps
        velocities = carried + drift / self.mass_amu * forces
        middle = positions_nm + drift * velocities
        velocities = self._keep * velocities + self._spread * noise
        return middle + drift * velocities, velocities

    def kick(self, carried: Tensor, forces: Tensor) -> Tensor:
        """Return the velocities after the last half kick."""
        return carried + 0.5 * self.time_step_ps / self.mass_amu * forces

    def transfer(self, carried: Tensor, forces: Tensor, old_kT: Tensor) -> Tensor:
        """Return velocities scaled by the root of the ratio of the temperatures."""
        return carried * (self.kT / old_kT) ** 0.5

    def kinetic_energy(self, carried: Tensor) -> Tensor | None:
        """Return Σ ½ m v² of each chain, kJ/mol."""
        return 0.5 * self.mass_amu * carried.square().sum(dim=(1, 2))


@dataclass(frozen=True)
class LeimkuhlerMatthews:
    """Overdamped dynamics dx = -∇U/(γm) dt + sqrt(2kT/(γm)) dW; it carries the last noise.

    x' = x + h/(γm) F + sqrt(kT h/(2γm)) (R + R'), with the noise R of the step before and R' of
    this one: Euler's method with averaged noise, which is the limit of BAOAB for large friction and
    samples positions to second order in h at the cost of Euler's (Leimkuhler and Matthews, Appl.
    Math. Res. Express 2013, 34; Leimkuhler, Matthews and Tretyakov, Proc. R. Soc. A 470, 20140120
    (2014)), those of a harmonic potential exactly.

    Attributes:
        time_step_ps: time step.
        friction_per_ps: friction.
        kT: thermal energy, kJ/mol.
        mass_amu: mass of every bead.
    """

    time_step_ps: float
    friction_per_ps: float
    kT: ThermalEnergy
    mass_amu: float

    @cached_property
    def _mobility(self) -> float:
        return self.time_step_ps / (self.friction_per_ps * self.mass_amu)

    @cached_property
    def _spread(self) -> float | Tensor:
        return (0.5 * self.kT * self._mobility) ** 0.5

    def begin(self, noise: Tensor) -> Tensor:
        """Return the noise before the first step."""
        return noise

    def move(
        self, positions_nm: Tensor, carried: Tensor, forces: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the positions one step later, and the noise of this step."""
        return positions_nm + self._mobility * forces + self._spread * (carried + noise), noise

    def kick(self, carried: Tensor, forces: Tensor) -> Tensor:
        """Return the noise of this step; forces add nothing to it."""
        return carried

    def transfer(self, carried: Tensor, forces: Tensor, old_kT: Tensor) -> Tensor:
        """Return the noise, moved to its mean at the new temperature.

        Positions hold the last noise R with the weight σ = sqrt(kT h/(2γm)), so that to the order
        of the scheme the mean of R at a given x is -σF/kT: one value at each temperature. For a
        harmonic potential all else of its distribution does not depend on the temperature.
        """
        return carried + (0.5 * self._mobility) ** 0.5 * forces * (old_kT**-0.5 - self.kT**-0.5)

    def kinetic_energy(self, carried: Tensor) -> Tensor | None:
        """Return None: overdamped dynamics has no velocities."""
        return None


def make_integrator(settings: SimulationSettings, kT: ThermalEnergy) -> Integrator:
    """Return the integrator that the settings name."""
    scheme = Baoab if settings.integrator == "langevin" else LeimkuhlerMatthews
    return scheme(settings.time_step_ps, settings.chosen_friction_per_ps, kT, settings.mass_amu)
