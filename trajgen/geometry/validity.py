"""Validity of C-alpha chains and of alpha carbons: bonds, clashes, explosion and chirality."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajgen.geometry.internal import consecutive, distances

#: Distances held at once, frames x beads x beads, which bounds the memory of the clash check.
_DISTANCES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class ChainLimits:
    """Limits of a physically possible C-alpha chain, nm.

    Consecutive C-alpha atoms are 0.38 nm apart across a trans peptide bond and 0.295 nm across a
    cis one, which follows from standard bond lengths and angles; in all-atom MD of chignolin at
    350 K trans bonds reach 0.357 to 0.413 nm. Second neighbours are held apart by the N-CA-C angle
    and the excluded volume (for their distribution see Kleywegt, J. Mol. Biol. 273, 371 (1997)):
    the smallest of 104,000 such distances in the same MD is 0.447 nm. The smallest distance of all
    further neighbours, there and in unfolded and folded frames of ten fast-folding proteins, is
    0.352 nm. The defaults leave room on the far side of these numbers.

    Attributes:
        min_bond_nm: shortest bond.
        max_bond_nm: longest bond.
        min_second_neighbour_nm: shortest distance of beads two bonds apart.
        min_nonbonded_nm: shortest distance of beads three bonds apart or more.
        exploded_bond_nm: a longer bond means that the chain has come apart.
        max_radius_of_gyration_nm: a larger one means the same; by default that of a straight rod
            of all beads at ``exploded_bond_nm``, which bounds beads without bonds as well.
    """

    min_bond_nm: float = 0.28
    max_bond_nm: float = 0.45
    min_second_neighbour_nm: float = 0.42
    min_nonbonded_nm: float = 0.30
    exploded_bond_nm: float = 1.0
    max_radius_of_gyration_nm: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_bond_nm < self.max_bond_nm <= self.exploded_bond_nm:
            raise ValueError(
                f"bond limits min_bond_nm {self.min_bond_nm}, max_bond_nm {self.max_bond_nm}, "
                f"exploded_bond_nm {self.exploded_bond_nm} must rise in this order from 0 or more"
            )


@dataclass(frozen=True, eq=False)
class ChainReport:
    """What holds for each frame; a frame that is not finite passes none of the checks.

    Attributes:
        finite: all coordinates are finite.
        bonds_ok: all bonds lie within the limits.
        no_clash: all second neighbours and non-bonded beads are far enough apart.
        not_exploded: no bond and no radius of gyration beyond the limits of explosion.
    """

    finite: Bool[Tensor, " frames"]
    bonds_ok: Bool[Tensor, " frames"]
    no_clash: Bool[Tensor, " frames"]
    not_exploded: Bool[Tensor, " frames"]

    @property
    def valid(self) -> Bool[Tensor, " frames"]:
        """All checks hold."""
        return self.finite & self.bonds_ok & self.no_clash & self.not_exploded


@torch.no_grad()
def check_chain(
    positions: Float[Tensor, "frames beads 3"],
    limits: ChainLimits | None = None,
    bonds: Int[Tensor, "bonds 2"] | None = None,
) -> ChainReport:
    """Check C-alpha chains against limits, frame by frame; NaN is flagged, not raised.

    Args:
        positions: C-alpha positions, nm.
        limits: the limits; the defaults where none are given.
        bonds: pairs of bonded beads; all consecutive beads where none are given.

    Raises:
        ValueError: a bond names a bead that is not there.
    """
    limits = limits or ChainLimits()
    n = positions.shape[1]
    bonds = _checked_bonds(positions, bonds)
    finite = positions.isfinite().all(dim=-1).all(dim=-1)
    lengths = distances(positions, bonds)
    bonds_ok = (lengths >= limits.min_bond_nm) & (lengths <= limits.max_bond_nm)
    return ChainReport(
        finite=finite,
        bonds_ok=finite & bonds_ok.all(dim=-1),
        no_clash=finite & _no_clash(positions, _smallest_distances(n, bonds, limits)),
        not_exploded=holds_together(positions, limits, bonds),
    )


@torch.no_grad()
def holds_together(
    positions: Float[Tensor, "frames beads 3"],
    limits: ChainLimits | None = None,
    bonds: Int[Tensor, "bonds 2"] | None = None,
) -> Bool[Tensor, " frames"]:
    """Say of each frame whether it is finite and not exploded.

    It is ``check_chain(…).not_exploded`` without its other checks, of which clashes take all pairs
    of beads. Arguments and errors are the same.
    """
    limits = limits or ChainLimits()
    n = positions.shape[1]
    lengths = distances(positions, _checked_bonds(positions, bonds))
    largest = limits.max_radius_of_gyration_nm
    if largest is None:
        largest = limits.exploded_bond_nm * math.sqrt((n**2 - 1) / 12)
    compact = _radius_of_gyration(positions) <= largest
    finite = positions.isfinite().all(dim=-1).all(dim=-1)
    return finite & compact & (lengths <= limits.exploded_bond_nm).all(dim=-1)


def chirality_signs(
    n: Float[Tensor, "*batch 3"],
    ca: Float[Tensor, "*batch 3"],
    c: Float[Tensor, "*batch 3"],
    cb: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch"]:
    """Return the sign of the signed volume at alpha carbons: +1 for L-amino acids, -1 for D.

    The volume is (N - CA) × (C - CA) · (CB - CA); zero where the four atoms lie in a plane.

    Args:
        n: amide nitrogens, nm.
        ca: alpha carbons, nm.
        c: carbonyl carbons, nm.
        cb: beta carbons, nm.
    """
    normal = torch.linalg.cross(n - ca, c - ca, dim=-1)
    return (normal * (cb - ca)).sum(dim=-1).sign()


def _checked_bonds(
    positions: Float[Tensor, "frames beads 3"], bonds: Int[Tensor, "bonds 2"] | None
) -> Int[Tensor, "bonds 2"]:
    """Return the bonds where the positions are; all consecutive beads where none are given."""
    n = positions.shape[1]
    bonds = (consecutive(n, 2) if bonds is None else bonds).to(positions.device)
    if bonds.numel() and not (int(bonds.min()) >= 0 and int(bonds.max()) < n):
        raise ValueError(f"bonds names beads outside 0 to {n - 1}; positions has {n} beads")
    return bonds


def _radius_of_gyration(positions: Float[Tensor, "frames beads 3"]) -> Float[Tensor, " frames"]:
    centred = positions - positions.mean(dim=-2, keepdim=True)
    return centred.square().sum(dim=-1).mean(dim=-1).sqrt()


def _smallest_distances(
    n: int, bonds: Int[Tensor, "bonds 2"], limits: ChainLimits
) -> Float[Tensor, "{n} {n}"]:
    """Return the smallest allowed distance of every pair; none for bonds and a bead with itself."""
    bonded = torch.zeros(n, n, dtype=torch.float32, device=bonds.device)
    bonded[bonds[:, 0], bonds[:, 1]] = bonded[bonds[:, 1], bonds[:, 0]] = 1.0
    smallest = torch.full_like(bonded, limits.min_nonbonded_nm)
    smallest[bonded @ bonded > 0] = limits.min_second_neighbour_nm
    smallest[bonded > 0] = -1.0
    return smallest.fill_diagonal_(-1.0)


def _no_clash(
    positions: Float[Tensor, "frames beads 3"], smallest: Float[Tensor, "beads beads"]
) -> Bool[Tensor, " frames"]:
    n = positions.shape[1]
    passed = []
    for part in positions.split(max(1, _DISTANCES_AT_ONCE // max(n * n, 1))):
        apart = torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist")
        passed.append((apart >= smallest).flatten(1).all(dim=1))
    return torch.cat(passed)
