"""Internal coordinates: distances, angles and dihedral angles, with finite gradients everywhere."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def consecutive(n: int, k: int) -> Int[Tensor, "tuples {k}"]:
    """Return all runs of ``k`` consecutive beads of a chain of ``n`` (bonds: 2, dihedrals: 4).

    There are n - k + 1 of them; none where the chain is shorter than ``k``.
    """
    return torch.arange(max(n - k + 1, 0))[:, None] + torch.arange(k)


def all_pairs(n: int, min_separation: int = 1) -> Int[Tensor, "pairs 2"]:
    """Return all pairs i < j of ``n`` beads with j - i of at least ``min_separation``.

    Raises:
        ValueError: ``min_separation`` is below one.
    """
    if min_separation < 1:
        raise ValueError(f"min_separation is {min_separation}; give 1 or more")
    return torch.triu_indices(n, n, offset=min_separation).mT.contiguous()


def distances(
    positions: Float[Tensor, "*batch beads 3"], pairs: Int[Tensor, "pairs 2"]
) -> Float[Tensor, "*batch pairs"]:
    """Return the distances between pairs of beads, nm; the gradient of a zero distance is zero."""
    i, j = pairs.unbind(-1)
    return _length(positions[..., j, :] - positions[..., i, :])


def angles(
    positions: Float[Tensor, "*batch beads 3"], triples: Int[Tensor, "triples 3"]
) -> Float[Tensor, "*batch triples"]:
    """Return the angles at the middle bead of each triple, radian in [0, π].

    atan2(|u × v|, u · v) is accurate at 0 and π, where the arc cosine loses half of the digits and
    its gradient diverges (Kahan, "How futile are mindless assessments of roundoff", section 12).
    On a line, where the angle has no gradient, and for coincident beads the gradient is zero.
    """
    i, j, k = triples.unbind(-1)
    u = positions[..., i, :] - positions[..., j, :]
    v = positions[..., k, :] - positions[..., j, :]
    return _atan2(_length(torch.linalg.cross(u, v, dim=-1)), (u * v).sum(dim=-1))


def dihedrals(
    positions: Float[Tensor, "*batch beads 3"], quadruples: Int[Tensor, "quadruples 4"]
) -> Float[Tensor, "*batch quadruples"]:
    """Return the dihedral angles of quadruples of beads, radian in [-π, π], IUPAC sign.

    Seen along the middle bond, clockwise from the first to the last bead is positive; trans is π
    (Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996), in its atan2 form). Where three
    consecutive beads lie on a line the angle is undefined: value and gradient are then zero.
    """
    i, j, k, m = quadruples.unbind(-1)
    first = positions[..., j, :] - positions[..., i, :]
    middle = positions[..., k, :] - positions[..., j, :]
    last = positions[..., m, :] - positions[..., k, :]
    normal_1 = torch.linalg.cross(first, middle, dim=-1)
    normal_2 = torch.linalg.cross(middle, last, dim=-1)
    sine = _length(middle) * (first * normal_2).sum(dim=-1)
    return _atan2(sine, (normal_1 * normal_2).sum(dim=-1))


def _length(v: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    # The root of zero is taken of a constant instead, so that first and second gradients are zero.
    square = (v * v).sum(dim=-1)
    vanishes = square == 0
    return torch.where(vanishes, 0.0, torch.sqrt(torch.where(vanishes, 1.0, square)))


def _atan2(y: Float[Tensor, "*batch"], x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    # atan2(0, 0) is zero, but its gradient is 0/0.
    undefined = x * x + y * y <= torch.finfo(x.dtype).tiny
    return torch.atan2(torch.where(undefined, 0.0, y), torch.where(undefined, 1.0, x))
