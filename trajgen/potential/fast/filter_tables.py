"""Filters of the distances as tables: cubic Hermite pieces on an even grid.

At fixed weights each filter of the network is a function of one distance, zero outside the cutoffs.
Values and slopes on the knots make it a function with a continuous slope, and the forces are the
exact gradient of the tabulated energy. Its error falls with the fourth power of the spacing, that
of its slope with the third.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from trajgen.potential.schnet import CGSchNet, Interaction, cosine_cutoff

#: Knots for each radial function: more functions are narrower, and need a finer grid.
_KNOTS_PER_FUNCTION = 28


def tabulate_filters(network: CGSchNet) -> Float[Tensor, "blocks knots 2 width"]:
    """Return the filters and their slopes times the spacing on the knots, in float32.

    The window of the cutoffs is part of them. They are computed in float64.
    """
    lower_nm, upper_nm = network.lower_nm, network.upper_nm
    n_knots = _KNOTS_PER_FUNCTION * len(network.basis.centres)
    knots = torch.linspace(lower_nm, upper_nm, n_knots, dtype=torch.float64)
    basis = copy.deepcopy(network.basis).to("cpu", torch.float64)
    layers = [
        [copy.deepcopy(layer).to("cpu", torch.float64) for layer in (b.filter_in, b.filter_out)]
        for b in network.blocks
        if isinstance(b, Interaction)
    ]

    def filters(distance_nm: Tensor) -> Tensor:
        functions = basis(distance_nm)
        window = cosine_cutoff(distance_nm, lower_nm, upper_nm)[:, None]
        return torch.stack([last(torch.tanh(first(functions))) * window for first, last in layers])

    with torch.no_grad():
        values, slopes = torch.func.jvp(filters, (knots,), (torch.ones_like(knots),))[:2]
    return torch.stack([values, slopes * (knots[1] - knots[0])], dim=2).float()
