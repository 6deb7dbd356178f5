"""Drawing weighted chains anew, so that all of them count again.

A systematic draw keeps a chain of relative weight w ⌊w⌋ or ⌈w⌉ times (Kitagawa, J. Comput. Graph.
Stat. 5, 1 (1996)). Which of the two is chance, and the weight of a basin changes by it, but less
where its chains stand together in the order of the draw (Gerber, Chopin and Whiteley, Ann. Stat.
47, 2236 (2019)). So they stand in the order of the coordinate along which the data spread most.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajgen.geometry.internal import all_pairs, distances

#: Beads that the coordinate is made of, evenly along the chain.
_MOST_BEADS = 32


def effective_number(weights: Float[Tensor, " chains"]) -> float:
    """Return (Σ w)² / Σ w², the number of equal weights with the same variance of a mean (Kish)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def systematic_draw(
    weights: Float[Tensor, " chains"], order: Int[Tensor, " chains"], offset: float
) -> Int[Tensor, " chains"]:
    """Return the chains that are kept, each as often as its weight says.

    Args:
        weights: relative weights, of mean 1.
        order: the order in which the chains stand.
        offset: where the draw begins, uniform on [0, 1).
    """
    count = len(weights)
    ladder = torch.arange(count, dtype=weights.dtype, device=weights.device) + offset
    places = torch.searchsorted(weights[order].cumsum(0), ladder, right=True)
    return order[places.clamp_max(count - 1)]


@dataclass(frozen=True)
class WidestSpread:
    """The first principal component of the distances of beads.

    Attributes:
        pairs: the pairs whose distances are taken.
        direction: what each distance counts.
    """

    pairs: Int[Tensor, "pairs 2"]
    direction: Float[Tensor, " pairs"]

    @classmethod
    def of(cls, positions_nm: Float[Tensor, "frames beads 3"]) -> "WidestSpread":
        """Find it for a sample of the data."""
        beads = positions_nm.shape[1]
        chosen = torch.linspace(0, beads - 1, min(beads, _MOST_BEADS)).round().long()
        pairs = chosen[all_pairs(len(chosen))]
        apart = distances(positions_nm, pairs).double()
        _, _, directions = torch.linalg.svd(apart - apart.mean(dim=0), full_matrices=False)
        return cls(pairs, directions[0])

    def order(self, positions_nm: Float[Tensor, "chains beads 3"]) -> Int[Tensor, " chains"]:
        """Return the chains in the order of the coordinate."""
        direction = self.direction.to(positions_nm.device)
        apart = distances(positions_nm, self.pairs.to(positions_nm.device)).double()
        return (apart @ direction).argsort(stable=True)
