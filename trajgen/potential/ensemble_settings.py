"""Choices of ensemble matching."""

from pydantic import Field

from trajgen.potential.dynamics.time_step import safe_time_step_ps
from trajgen.potential.potential import Potential
from trajgen.settings import Settings

#: The time step where none is chosen and the bonds allow it.
TIME_STEP_PS = 0.008


class ReadoutSettings(Settings):
    """Choices of the last step of ensemble matching.

    Attributes:
        steps: time steps of each chain, of which the first eighth is left out. The error of a
            population is about that of as many independent frames as the chains have time for
            slowest motions.
        shrinkage: λ, for components of unit variance.
    """

    steps: int = Field(default=200_000, ge=1)
    shrinkage: float = Field(default=0.01, gt=0)


class EnsembleSettings(Settings):
    """Choices of ensemble matching.

    Attributes:
        weight: weight of the relative entropy, in kT, beside the loss of the forces, which is 1 for
            the priors alone.
        chains: chains that are simulated beside the training.
        frames: frames of the data in an update, drawn by their weights.
        steps: time steps of each chain from one update to the next.
        time_step_ps: their time step; None for 0.008, or less where a bond of the priors is so
            stiff that this is not safe.
        friction_per_ps: their friction; little of it crosses barriers soonest.
        mass_amu: mass of every bead.
        readout: the end of the matching, when all else has been trained; None to leave it out.
    """

    weight: float = Field(default=1.0, gt=0)
    chains: int = Field(default=256, ge=2)
    frames: int = Field(default=256, ge=2)
    steps: int = Field(default=64, ge=1)
    time_step_ps: float | None = Field(default=None, gt=0)
    friction_per_ps: float = Field(default=0.3, gt=0)
    mass_amu: float = Field(default=12.0, gt=0)
    readout: ReadoutSettings | None = ReadoutSettings()

    def chosen_time_step_ps(self, potential: Potential) -> float:
        """Return the time step, also where it was left to the priors of the potential."""
        if self.time_step_ps is not None:
            return self.time_step_ps
        return min(TIME_STEP_PS, safe_time_step_ps(potential, self.mass_amu))
