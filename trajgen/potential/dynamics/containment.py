"""Chains that break are frozen where they were whole, and nothing else is touched by them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajgen.geometry.validity import ChainLimits

#: A chain with a longer bond has come apart, nm.
LONGEST_BOND_NM = ChainLimits().exploded_bond_nm


@dataclass(frozen=True)
class ReplicaLoss:
    """A chain that broke, at one of its temperatures.

    Attributes:
        chain: its index.
        rung: the temperature, 0 for that of the simulation.
        step: the step that broke it, counted from 1.
        reason: ``not finite``, or ``bond beyond 1 nm``.
    """

    chain: int
    rung: int
    step: int
    reason: str


def longest_bonds(
    positions_nm: Float[Tensor, "chains beads 3"], bonds: Int[Tensor, "bonds 2"]
) -> Float[Tensor, " chains"]:
    """Return the longest bond of each chain, nm; not finite where a coordinate is not.

    It is called in every step, and costs a few operations there, without waiting for the device.
    """
    i, j = bonds.unbind(-1)
    # Indexing by tensors would start torch's threads, which then wait actively for their next work
    # for about as long as a step takes, and keep the threads of the fast path from theirs.
    steps = positions_nm.index_select(1, j) - positions_nm.index_select(1, i)
    lengths = torch.linalg.vector_norm(steps, dim=-1)
    # Beads without a bond are covered by the sum: zero times a number that is not finite is NaN.
    beads = 0 * positions_nm.sum(dim=(1, 2))
    return beads if len(bonds) == 0 else lengths.amax(dim=1) + beads


def find_losses(
    alive: Tensor, steps_alive: Tensor, longest_bond_nm: Tensor, rungs: int
) -> list[ReplicaLoss]:
    """Say which chains broke, when and why.

    Args:
        alive: whether each replica is whole; the rungs of a chain follow each other.
        steps_alive: steps that it came through.
        longest_bond_nm: its longest bond in the step that broke it.
        rungs: temperatures of a chain.
    """
    losses = []
    for index in (~alive).nonzero().flatten().tolist():
        finite = bool(longest_bond_nm[index].isfinite())
        reason = f"bond beyond {LONGEST_BOND_NM:g} nm" if finite else "not finite"
        chain, rung = divmod(index, rungs)
        losses.append(ReplicaLoss(chain, rung, int(steps_alive[index]) + 1, reason))
    return losses
