"""Optimal superposition and root mean square deviation, one to one and many to many.

Only proper rotations count: a structure and its mirror image are different.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajgen.geometry.frames import RigidFrames
from trajgen.geometry.quaternion_rmsd import rmsd_of_centred

#: Structures of each side in one block; small enough on a CPU that a block stays in the cache.
CPU_CHUNK = 128
GPU_CHUNK = 1024


def superpose(
    mobile: Float[Tensor, "*#batch beads 3"],
    target: Float[Tensor, "*#batch beads 3"],
    weights: Float[Tensor, "*#batch beads"] | None = None,
) -> RigidFrames:
    """Return the rotation and translation that bring ``mobile`` closest to ``target``.

    Kabsch, Acta Cryst. A 34, 827 (1978), with the sign of the smallest singular value chosen for a
    proper rotation; worked in float64, returned in the type of ``mobile``. Where the best rotation
    is not unique (points on one line) one of the best is returned. Differentiable where it is
    unique and the singular values of the correlation matrix differ. A structure that is not finite
    has NaN as its answer and leaves the others alone.

    Args:
        mobile: structures to move, nm.
        target: structures to move onto, nm; batch dimensions of both broadcast.
        weights: weight of each bead, zero or more; equal where none are given.

    Raises:
        ValueError: weights are negative, or all weights of a structure are zero.
    """
    moved, fixed = mobile.double(), target.double()
    share = _shares(weights, moved)
    moved_centre = (share * moved).sum(dim=-2, keepdim=True)
    fixed_centre = (share * fixed).sum(dim=-2, keepdim=True)
    correlation = (share * (moved - moved_centre)).mT @ (fixed - fixed_centre)
    finite = correlation.isfinite().all(dim=-1).all(dim=-1)[..., None, None]
    u, _, vh = torch.linalg.svd(torch.where(finite, correlation, 0.0))
    proper = torch.ones_like(correlation[..., 0])
    proper[..., 2] = torch.linalg.det(vh.mT @ u.mT).detach().sign()
    rotations = torch.where(finite, (vh.mT * proper[..., None, :]) @ u.mT, torch.nan)
    origins = fixed_centre[..., 0, :] - (rotations @ moved_centre.mT)[..., 0]
    return RigidFrames(rotations.to(mobile.dtype), origins.to(mobile.dtype))


def superposed(
    mobile: Float[Tensor, "*#batch beads 3"],
    target: Float[Tensor, "*#batch beads 3"],
    weights: Float[Tensor, "*#batch beads"] | None = None,
) -> Float[Tensor, "*result beads 3"]:
    """Return ``mobile`` moved onto ``target`` (arguments and errors as in ``superpose``), nm."""
    return superpose(mobile, target, weights)[..., None].apply(mobile)


def rmsd(
    a: Float[Tensor, "*#batch beads 3"], b: Float[Tensor, "*#batch beads 3"]
) -> Float[Tensor, "*result"]:
    """Return the RMSD of each structure of ``a`` and its partner in ``b`` after superposition, nm.

    Differentiable: at the best superposition the derivative with respect to the rotation vanishes,
    so that the rotation counts as a constant. The gradient at RMSD zero is zero.
    """
    first = a.double() - a.double().mean(dim=-2, keepdim=True)
    second = b.double() - b.double().mean(dim=-2, keepdim=True)
    rotations = superpose(first.detach(), second.detach()).rotations
    square = (first @ rotations.mT - second).square().sum(dim=-1).mean(dim=-1)
    vanishes = square == 0
    root = torch.where(vanishes, 0.0, torch.sqrt(torch.where(vanishes, 1.0, square)))
    return root.to(a.dtype)


@torch.no_grad()
def rmsd_matrix(
    a: Float[Tensor, "n beads 3"], b: Float[Tensor, "m beads 3"], chunk_size: int | None = None
) -> Float[Tensor, "n m"]:
    """Return the RMSD after superposition of every structure of ``a`` and every one of ``b``, nm.

    Proper rotations only. For identical structures the error is about 1e-7 times their size. A
    structure with NaN has NaN in its row or column. No gradients.

    Args:
        a: structures, nm.
        b: structures, nm.
        chunk_size: how many of ``a`` and of ``b`` are compared at once, which bounds the memory;
            by default what suits the device.

    Raises:
        ValueError: ``chunk_size`` is below one.
    """
    result = torch.empty(a.shape[0], b.shape[0], dtype=a.dtype, device=a.device)
    for rows, columns, block in _blocks(a, b, chunk_size):
        result[rows, columns] = block.to(a.dtype)
    return result


@torch.no_grad()
def nearest_rmsd(
    a: Float[Tensor, "n beads 3"], b: Float[Tensor, "m beads 3"], chunk_size: int | None = None
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Return for every structure of ``a`` the smallest RMSD to ``b``, nm, and which one that is.

    Memory does not grow with n x m. A structure with NaN is nobody's nearest; one of ``a`` with
    NaN, or for which ``b`` has no finite structure, gets NaN and index -1. No gradients.

    Args:
        a: structures, nm.
        b: structures to search, nm.
        chunk_size: as in ``rmsd_matrix``.

    Raises:
        ValueError: ``b`` is empty, or ``chunk_size`` is below one.
    """
    if b.shape[0] == 0:
        raise ValueError("b has no structures; the nearest one needs at least one to search")
    smallest = torch.full((a.shape[0],), torch.inf, dtype=torch.float64, device=a.device)
    nearest = torch.full((a.shape[0],), -1, dtype=torch.int64, device=a.device)
    for rows, columns, block in _blocks(a, b, chunk_size):
        values, index = torch.where(block.isnan(), torch.inf, block).min(dim=1)
        closer = values < smallest[rows]
        smallest[rows] = torch.where(closer, values, smallest[rows])
        nearest[rows] = torch.where(closer, index + columns.start, nearest[rows])
    smallest = torch.where(nearest < 0, torch.nan, smallest)
    return smallest.to(a.dtype), nearest


def _blocks(
    a: Float[Tensor, "n beads 3"], b: Float[Tensor, "m beads 3"], chunk_size: int | None
) -> Iterator[tuple[slice, slice, Float[Tensor, "rows columns"]]]:
    if chunk_size is None:
        chunk_size = CPU_CHUNK if a.device.type == "cpu" else GPU_CHUNK
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}; give 1 or more")
    for row in range(0, a.shape[0], chunk_size):
        rows = slice(row, row + chunk_size)
        first = _centred(a[rows])
        for column in range(0, b.shape[0], chunk_size):
            columns = slice(column, column + chunk_size)
            yield rows, columns, rmsd_of_centred(first, _centred(b[columns]))


def _centred(positions: Float[Tensor, "n beads 3"]) -> Float[Tensor, "n beads 3"]:
    wide = positions.double()
    return wide - wide.mean(dim=-2, keepdim=True)


def _shares(
    weights: Float[Tensor, "*other beads"] | None, positions: Float[Tensor, "*batch beads 3"]
) -> Float[Tensor, "*result beads 1"]:
    if weights is None:
        return torch.full_like(positions[..., :1], 1.0 / positions.shape[-2])
    total = weights.double().sum(dim=-1, keepdim=True)
    if not (bool((weights >= 0).all()) and bool((total > 0).all())):
        raise ValueError(
            "weights has a negative or NaN value, or a structure whose weights are all zero; "
            "give zero or more for each bead, and more than zero for at least one"
        )
    return (weights.double() / total)[..., None]
