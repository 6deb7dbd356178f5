"""The choices of a simulation."""

import math
from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from trajgen.errors import InputError
from trajgen.settings import Settings

#: Friction where none is chosen. Langevin dynamics is fastest with little of it; overdamped
#: dynamics is its limit of a friction beyond the fastest vibration, 155 per ps (see
#: ``SimulationSettings``), and with 200 per ps its steps are a quarter of the largest stable one.
FRICTION_PER_PS = {"langevin": 1.0, "overdamped": 200.0}


class TemperingSettings(Settings):
    """Choices of parallel tempering: the temperatures above that of the simulation, and exchanges.

    Attributes:
        replicas: temperatures in a ladder, that of the simulation included; with ``highest_K`` they
            rise by one factor.
        highest_K: highest temperature.
        temperatures_K: the temperatures above that of the simulation one by one, instead of the two
            before.
        exchange_every: steps between attempts to exchange neighbours.
    """

    replicas: int | None = Field(default=None, ge=2)
    highest_K: float | None = Field(default=None, gt=0)
    temperatures_K: tuple[float, ...] | None = Field(default=None, min_length=1)
    exchange_every: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _one_way(self) -> "TemperingSettings":
        spaced = self.replicas is not None and self.highest_K is not None
        half = (self.replicas is None) != (self.highest_K is None)
        if half or spaced == (self.temperatures_K is not None):
            raise ValueError(
                "a ladder is given by replicas and highest_K, or by temperatures_K; give one of "
                "the two"
            )
        return self

    def ladder(self, base_K: float) -> tuple[float, ...]:
        """Return all temperatures of a ladder, the lowest first, K.

        The factor between neighbours is constant, which makes their acceptance equal where the heat
        capacity is constant (Kofke, J. Chem. Phys. 117, 6911 (2002)).

        Raises:
            InputError: they do not rise from ``base_K``.
        """
        if self.temperatures_K is not None:
            ladder = (base_K, *self.temperatures_K)
        else:
            count, highest_K = self.replicas or 2, self.highest_K or base_K
            factor = (highest_K / base_K) ** (1 / (count - 1))
            ladder = tuple(base_K * factor**rung for rung in range(count))
        if not all(low < high for low, high in pairwise(ladder)):
            raise InputError(
                f"tempering has the temperatures {', '.join(f'{t:g}' for t in ladder)} K; wanted "
                f"are such that rise from that of the simulation, {base_K:g} K"
            )
        return ladder


class SimulationSettings(Settings):
    """Choices of a simulation; its clock, cg_ps, is not that of real chains.

    Attributes:
        steps: time steps of each chain; those after the last saved frame are left out.
        save_every: steps between saved frames; the start is not saved.
        integrator: ``langevin`` (BAOAB) or ``overdamped`` (Brownian) dynamics; both sample the same
            ensemble.
        time_step_ps: time step, cg_ps. The stiffest motion of a chain of 12 amu beads with thermal
            C-alpha bonds, 2 sqrt(k/m) = 155 per ps, is stable below 0.013 ps; the default is a
            third of it.
        friction_per_ps: friction, per cg_ps; None for 1 of Langevin dynamics and 200 of overdamped
            dynamics. 0 is dynamics at constant energy.
        temperature_K: temperature, None for that of the potential's data.
        mass_amu: mass of every bead. It sets the time scale alone: the distribution does not depend
            on masses. 12 amu, used by all published C-alpha models, makes the beads light and fast.
        tempering: parallel tempering, None for none.
        recorded: on a GPU, record a step once and launch it as a whole (a CUDA graph).
    """

    steps: int = Field(default=10_000, ge=1)
    save_every: int = Field(default=100, ge=1)
    integrator: Literal["langevin", "overdamped"] = "langevin"
    time_step_ps: float = Field(default=0.004, gt=0)
    friction_per_ps: float | None = Field(default=None, ge=0)
    temperature_K: float | None = Field(default=None, gt=0)
    mass_amu: float = Field(default=12.0, gt=0)
    tempering: TemperingSettings | None = None
    recorded: bool = False

    @model_validator(mode="after")
    def _has_friction(self) -> "SimulationSettings":
        if self.integrator == "overdamped" and self.friction_per_ps == 0:
            raise ValueError("overdamped dynamics needs a friction_per_ps above 0")
        return self

    @property
    def chosen_friction_per_ps(self) -> float:
        """The friction, also where it was left to the integrator."""
        chosen = self.friction_per_ps
        return FRICTION_PER_PS[self.integrator] if chosen is None else chosen

    @property
    def n_frames(self) -> int:
        """The number of saved frames of each chain."""
        return self.steps // self.save_every

    def ladder(self, base_K: float) -> tuple[float, ...]:
        """Return the temperatures that each chain is simulated at, the lowest first, K."""
        return (base_K,) if self.tempering is None else self.tempering.ladder(base_K)

    def largest_stable_step_ps(self, stiffness: float) -> float:
        """Return the largest time step at which a chain of equal bonds stays stable, cg_ps.

        The fastest motion of a chain of equal masses and springs k is ω = 2 sqrt(k/m). Velocity
        Verlet, and BAOAB with it, is stable for h < 2/ω, Euler steps of Brownian dynamics for
        h < 2γ/ω² (Leimkuhler and Matthews, Molecular Dynamics, Springer 2015).

        Args:
            stiffness: of the stiffest bond, kJ/mol/nm².
        """
        if stiffness <= 0:
            return math.inf
        fastest = 2 * math.sqrt(stiffness / self.mass_amu)
        if self.integrator == "overdamped":
            return 2 * self.chosen_friction_per_ps / fastest**2
        return 2 / fastest
