"""Scaling of translations by an elastic network, so that stiff and soft motions count alike.

Beads that a bond joins move together. If noise, data and errors are measured bead by bead, a
network must learn to a few percent that neighbours agree before a single chain is intact. Here
the displacements of a frame from the reference conformation are measured in units of the square
root of the covariance that springs between first and second neighbours give (the anisotropic
network model; Atilgan et al., Biophys. J. 80, 505 (2001), equations 2 to 6), from the centre to
which the strained springs of the reference pull. It is a linear one-to-one change of variables:
standard normal numbers are displacements that keep a chain whole, and an error of a given size
stretches a bond much less than it moves a loop.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajgen.geometry.internal import distances
from trajgen.surrogate.tokens import TRANSLATION, Reference

#: No spring is infinitely stiff: frames that never move would make it so.
SMALLEST_SPREAD_NM = 1e-3


@dataclass(frozen=True)
class Springs:
    """What is measured of the stiffness of a molecule over the length of a window.

    Attributes:
        pairs: pairs of beads that springs join: bonded, and two bonds apart.
        rest_nm: mean distance of each pair.
        returned: share of its deviation from rest that a pair loses within a window.
        spread_nm: root mean square change of each pair's distance besides.
        free_nm: root mean square displacement of a bead along an axis.
    """

    pairs: Int[Tensor, "pairs 2"]
    rest_nm: Float[Tensor, " pairs"]
    returned: Float[Tensor, " pairs"]
    spread_nm: Float[Tensor, " pairs"]
    free_nm: Float[Tensor, ""]


@dataclass(frozen=True)
class Whitening:
    """The change of variables of each window.

    Attributes:
        reference: what tokens are relative to.
        centre_nm: the most likely frame: the reference, its strained springs relaxed.
        root: square root of the covariance of displacements from it, nm.
        inverse_root: inverse of ``root``, 1/nm.
    """

    reference: Reference
    centre_nm: Float[Tensor, "batch beads 3"]
    root: Float[Tensor, "batch coordinates coordinates"]
    inverse_root: Float[Tensor, "batch coordinates coordinates"]

    def whiten(
        self, tokens: Float[Tensor, "batch frames beads channels"]
    ) -> Float[Tensor, "batch frames beads channels"]:
        """Replace translations (nm) by whitened displacements; all else stays."""
        positions = self.reference.frames[:, None].apply(tokens[..., TRANSLATION])
        whitened = _mixed(self.inverse_root, positions - self.centre_nm[:, None])
        axes = self.reference.frames.rotations[:, None]
        turned = (axes.mT @ whitened[..., None]).squeeze(-1)
        return torch.cat([turned, tokens[..., TRANSLATION.stop :]], dim=-1)

    def colour(
        self, whitened: Float[Tensor, "batch frames beads channels"]
    ) -> Float[Tensor, "batch frames beads channels"]:
        """Undo ``whiten``."""
        axes = self.reference.frames.rotations[:, None]
        turned = (axes @ whitened[..., TRANSLATION, None]).squeeze(-1)
        positions = self.centre_nm[:, None] + _mixed(self.root, turned)
        translation = self.reference.frames[:, None].invert().apply(positions)
        return torch.cat([translation, whitened[..., TRANSLATION.stop :]], dim=-1)


def whitening(
    reference: Reference, springs: Springs, mobile: Bool[Tensor, "batch beads"]
) -> Whitening:
    """Build the change of variables from the reference conformation of each window.

    Args:
        reference: what tokens are relative to.
        springs: how stiff the molecule is.
        mobile: residues that are asked for in some frame; the others are held, so that nothing
            mixes them with the ones asked for.
    """
    positions, beads = reference.positions_nm, mobile.shape[1]
    free = mobile.repeat_interleave(3, dim=1).to(positions.dtype)
    along = stretch_directions(positions, springs.pairs) / springs.spread_nm[:, None]
    along = along * free[:, None, :]
    stiffness = along.mT @ along + torch.eye(3 * beads, device=free.device) / springs.free_nm**2
    values, vectors = torch.linalg.eigh(stiffness)
    scale = values.sqrt()[:, None, :]
    root = (vectors / scale) @ vectors.mT
    strain = distances(positions, springs.pairs) - springs.rest_nm
    pull = -(springs.returned * strain / springs.spread_nm)[:, None, :] @ along
    relaxed = positions + (pull @ root @ root).view_as(positions)
    return Whitening(reference, relaxed, root, (vectors * scale) @ vectors.mT)


def measure_springs(
    bonds: Int[Tensor, "bonds 2"],
    aligned_nm: Float[Tensor, "batch frames beads 3"],
    reference: Reference,
    asked: Bool[Tensor, "batch frames"],
) -> Springs:
    """Measure the springs on windows that are superposed on their reference.

    Bonds share one spread and one returned share, and second neighbours another; the share is the
    slope of the regression of a pair's change on its strain in the reference.
    """
    moves = rearrange(aligned_nm - reference.positions_nm[:, None], "w f b x -> w f (b x)")
    parts = []
    for pairs in (bonds, second_neighbours(bonds, aligned_nm.shape[2])):
        rest = distances(aligned_nm[asked], pairs).mean(dim=0)
        change = moves @ stretch_directions(reference.positions_nm, pairs).mT
        strain = (distances(reference.positions_nm, pairs) - rest)[:, None].expand_as(change)
        change, strain = change[asked], strain[asked]
        slope = (change * strain).sum() / strain.square().sum().clamp(min=SMALLEST_SPREAD_NM**2)
        returned = (-slope).clamp(0.0, 1.0)
        spread = _root_mean_square(change + returned * strain)
        parts.append((pairs, rest, returned.expand_as(rest), spread.expand_as(rest)))
    all_pairs, rest_nm, shares, spreads = (torch.cat(part) for part in zip(*parts, strict=True))
    return Springs(all_pairs, rest_nm, shares, spreads, _root_mean_square(moves[asked]))


def second_neighbours(bonds: Int[Tensor, "bonds 2"], beads: int) -> Int[Tensor, "second 2"]:
    """Return the pairs of beads that are two bonds apart."""
    bonded = torch.zeros(beads, beads)
    bonded[bonds[:, 0], bonds[:, 1]] = bonded[bonds[:, 1], bonds[:, 0]] = 1.0
    return ((bonded @ bonded > 0) & (bonded == 0)).triu(diagonal=1).nonzero()


def stretch_directions(
    positions_nm: Float[Tensor, "batch beads 3"], pairs: Int[Tensor, "pairs 2"]
) -> Float[Tensor, "batch pairs coordinates"]:
    """Return the derivative of each pair's distance with respect to all coordinates."""
    i, j = pairs.unbind(-1)
    batch, beads, _ = positions_nm.shape
    unit = torch.nn.functional.normalize(positions_nm[:, j] - positions_nm[:, i], dim=-1)
    directions = positions_nm.new_zeros(batch, len(pairs), beads, 3)
    row = torch.arange(len(pairs), device=positions_nm.device)
    directions[:, row, j] = unit
    directions[:, row, i] = -unit
    return directions.flatten(-2)


def _mixed(matrix: Tensor, moves: Tensor) -> Tensor:
    flat = rearrange(moves, "w f b x -> w f (b x)")
    return (flat @ matrix).view_as(moves)  # the matrix is symmetric


def _root_mean_square(values: Tensor) -> Tensor:
    if not values.numel():
        return values.new_tensor(1.0)
    return values.square().mean().sqrt().clamp(min=SMALLEST_SPREAD_NM)
