"""Generated chains put onto the bond lengths that were generated beside them.

The distance of consecutive C-alpha atoms is all but rigid (a spread of 0.006 nm), and a network
that is a little wrong about large motions is much too wrong about it. So it says the length of
each bond besides, and beads are moved until they have it, by the iteration of SHAKE (Ryckaert,
Ciccotti and Berendsen, J. Comput. Phys. 23, 327 (1977)). Chains that have it stay.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trajgen.geometry.validity import ChainLimits

#: A chain with a longer bond has come apart; it is left so, to be seen and counted.
MENDABLE_NM = ChainLimits().exploded_bond_nm

#: Sweeps over all bonds. A fixed number, so that a window does not depend on its batch.
SWEEPS = 60


def bond_range(
    positions_nm: Float[Tensor, "frames beads 3"], bonds: Int64[Tensor, "bonds 2"]
) -> Float[Tensor, "2 bonds"]:
    """Return the smallest and the largest length of each bond, nm."""
    lengths = (positions_nm[:, bonds[:, 1]] - positions_nm[:, bonds[:, 0]]).norm(dim=-1)
    return torch.stack([lengths.amin(dim=0), lengths.amax(dim=0)])


def project_bonds(
    positions_nm: Float[Tensor, "*batch beads 3"],
    bonds: Int64[Tensor, "bonds 2"],
    lengths_nm: Float[Tensor, "*batch bonds"],
    mobile: Bool[Tensor, "*batch beads"],
) -> Float[Tensor, "*batch beads 3"]:
    """Move mobile beads until all bonds have their lengths, as nearly as the sweeps reach.

    Args:
        positions_nm: chains.
        bonds: pairs of beads.
        lengths_nm: length that each bond is to have.
        mobile: beads that may move; a bond between two that may not is left alone.
    """
    positions = positions_nm.clone()
    longest = (positions[..., bonds[:, 1], :] - positions[..., bonds[:, 0], :]).norm(dim=-1)
    mendable = longest.amax(dim=-1, keepdim=True) < MENDABLE_NM  # NaN is not
    share = (mobile & mendable).to(positions.dtype)
    # Bonds of one colour share no bead along a chain, so each is set without disturbing another.
    colours = [torch.nonzero(bonds[:, 0] % 2 == parity).flatten() for parity in (0, 1)]
    for _ in range(SWEEPS):
        for colour in colours:
            i, j = bonds[colour, 0], bonds[colour, 1]
            step = positions[..., j, :] - positions[..., i, :]
            length = step.norm(dim=-1).clamp(min=1e-6)
            both = (share[..., i] + share[..., j]).clamp(min=1.0)
            excess = length - lengths_nm[..., colour]
            move = (excess / length / both)[..., None] * step
            positions[..., i, :] += share[..., i, None] * move
            positions[..., j, :] -= share[..., j, None] * move
    return positions
