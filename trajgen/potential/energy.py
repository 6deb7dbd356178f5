"""The one place that differentiates an energy."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

#: An energy: positions in nm to kJ/mol, one value a frame.
Energy = Callable[[Tensor], Tensor]


def energy_and_forces(
    energy: Energy, positions_nm: Float[Tensor, "*frames beads 3"], create_graph: bool = False
) -> tuple[Float[Tensor, "*frames"], Float[Tensor, "*frames beads 3"]]:
    """Return the energy, kJ/mol, and the forces -∂E/∂x, kJ/mol/nm.

    Args:
        energy: maps positions to one energy a frame; frames do not depend on each other.
        positions_nm: coordinates.
        create_graph: keep a graph behind the forces, so that they can be differentiated too.
    """
    with torch.enable_grad():
        moving = positions_nm.detach().requires_grad_()
        energies = energy(moving)
        (gradient,) = torch.autograd.grad(energies.sum(), moving, create_graph=create_graph)
    return (energies if create_graph else energies.detach()), -gradient
