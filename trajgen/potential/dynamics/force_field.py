"""Where dynamics takes its energies and forces from."""

from collections.abc import Callable

import torch
from torch import Tensor

from trajgen.potential.fast.fast_potential import FastPotential
from trajgen.potential.potential import Potential

#: Energies, kJ/mol, and forces, kJ/mol/nm, of positions, nm: one row each for one row.
EnergiesAndForces = Callable[[Tensor], tuple[Tensor, Tensor]]


def force_field(potential: Potential) -> EnergiesAndForces:
    """Return the function that evaluates a potential in every step of a simulation.

    In single precision on the CPU that is the fast path, of the weights as they are now; anywhere
    else the potential itself. Each row of its result depends on the same row of its argument alone,
    and is never asked for a chain that is broken.
    """
    if potential.device.type == "cpu" and potential.priors.bond.stiffness.dtype == torch.float32:
        return FastPotential.build(potential).energy_and_forces
    return potential.energy_and_forces
