"""The one place that differentiates an energy."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

#: An energy: positions in nm to kJ/mol, one value a frame.
Energy = Callable[[Tensor], Tensor]

#: Frames at once where nothing is trained, and pairs of beads in them, which bounds the memory: a
#: pair whose forces are taken holds some 2 kB in a network of the default size.
EVALUATION_BATCH, EVALUATED_PAIRS = 1024, 1_000_000


def evaluation_batch(beads: int, members: int = 1) -> int:
    """Return how many frames of so many beads are evaluated at once, by each of some networks."""
    return max(1, min(EVALUATION_BATCH, 2 * EVALUATED_PAIRS // (members * beads**2)))


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
