"""The one place that differentiates an energy."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: An energy: positions in nm to kJ/mol, one value a frame.
Energy = Callable[[Tensor], Tensor]


class ForceField(nn.Module):
    """An energy module as a module of forces, for what wraps and trains modules."""

    def __init__(self, energy: nn.Module) -> None:
        super().__init__()
        self.energy = energy

    def forward(
        self, positions_nm: Float[Tensor, "frames beads 3"]
    ) -> Float[Tensor, "frames beads 3"]:
        """Return forces, kJ/mol/nm; in training mode with a graph behind them."""
        return energy_and_forces(self.energy, positions_nm, create_graph=self.training)[1]


def energy_and_forces(
    energy: Energy, positions_nm: Float[Tensor, "frames beads 3"], create_graph: bool = False
) -> tuple[Float[Tensor, " frames"], Float[Tensor, "frames beads 3"]]:
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
