"""Atoms that overlap are turned apart, by as little as it takes.

Torsions that are each nearly right can put two atoms in one place. Where that happens the torsions
t move to the minimum of

    Σ (d_ij - c_ij)² / σ_d² over pairs nearer than c_ij  +  Σ (t - t₀)² (1 / σ_t² + m_t / σ_x²)

with the smallest distance c_ij that two atoms may have, and m_t = Σ |∂r/∂t|² over the atoms on the
side of the bond that moves less: a side chain turns rather than half of the molecule. Steps are
those of Gauss and Newton with the derivative ∂r/∂t = u × (r - o) of atoms beyond the bond of t, its
direction u and its end o. Bond lengths and angles stay as they are; peptide planes too.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trajgen.data.closest_contacts import RADII_NM, closest_contacts
from trajgen.data.topology import AtomTopology
from trajgen.surrogate.heavy_atoms import TORSIONS, HeavyAtoms

#: How much farther apart than they must be atoms are put, nm: n times this in step n, since atoms
#: that have passed each other come out only where there is more room.
MARGIN_NM = 0.003
#: How much distances, torsions and atoms weigh against each other, nm, radian and nm.
DISTANCE_ERROR_NM, TORSION_ERROR, ATOM_ERROR_NM = 0.002, 0.3, 0.1
#: The longest step of a torsion, radian: derivatives hold nearby.
LONGEST_STEP = 0.4
#: Steps; what still overlaps then stays as it is.
STEPS = 20
#: Numbers of the tensor of derivatives that is held at once.
_NUMBERS_AT_ONCE = 8_000_000

#: Torsions, radian, of the frames with these numbers to all heavy atoms, nm.
Build = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Overlaps:
    """What keeps the atoms of a molecule apart.

    Attributes:
        closest_nm: smallest distance of each pair; zero where there is none to keep.
        residues: the residue of each torsion that may turn.
        torsions: and which of its torsions it is.
        near: the atom where the bond that it turns begins.
        far: and where it ends.
        moved: the atoms beyond the bond, which it moves.
        site_residues: the residue of each atom.
    """

    closest_nm: Float[Tensor, "atoms atoms"]
    residues: Int[Tensor, " turns"]
    torsions: Int[Tensor, " turns"]
    near: Int[Tensor, " turns"]
    far: Int[Tensor, " turns"]
    moved: Bool[Tensor, "turns atoms"]
    site_residues: Int[Tensor, " atoms"]

    @classmethod
    def of(cls, atoms: HeavyAtoms, site_residues: Int[Tensor, " atoms"]) -> "Overlaps":
        """Find what may turn in a molecule, and what it moves."""
        found = [
            (residue, torsion, near, far, beyond)
            for residue in range(atoms.n_residues)
            for torsion, name in enumerate(TORSIONS)
            if name != "omega" and bool(atoms.has_torsion[residue, torsion])
            for _, near, far, _ in [atoms.torsion_atoms[residue, torsion].tolist()]
            if (beyond := _beyond(atoms.topology, near, far)) is not None
        ]
        residues, torsions, near, far = (
            torch.tensor([turn[column] for turn in found], dtype=torch.int64) for column in range(4)
        )
        moved = torch.zeros(len(found), atoms.topology.n_atoms, dtype=torch.bool)
        for row, turn in zip(moved, found, strict=True):
            row[list(turn[4])] = True
        return cls(_closest(atoms.topology), residues, torsions, near, far, moved, site_residues)

    def to(self, device: torch.device) -> "Overlaps":
        """Return it on a device."""
        return Overlaps(*(getattr(self, field.name).to(device) for field in fields(self)))

    def present(self, positions_nm: Float[Tensor, "frames atoms 3"]) -> Bool[Tensor, " frames"]:
        """Say in which frames atoms are too near each other."""
        at_once = max(1, _NUMBERS_AT_ONCE // self.closest_nm.numel())
        found = [
            (_apart_nm(some) < self.closest_nm).flatten(1).any(dim=1)
            for some in positions_nm.split(at_once)
        ]
        return torch.cat(found)

    def relieved(
        self,
        positions_nm: Float[Tensor, "frames atoms 3"],
        torsions: Float[Tensor, "frames residues 7"],
        held: Bool[Tensor, "frames residues"],
        build: Build,
    ) -> Float[Tensor, "frames atoms 3"]:
        """Return the frames, those with overlaps with other torsions.

        Args:
            positions_nm: all heavy atoms.
            torsions: what they were built from, radian.
            held: residues that are known: none of them is turned, nor against another of them.
            build: how they were.
        """
        left = (self.present(positions_nm) & ~held.all(dim=1)).nonzero().flatten()
        if not len(self.torsions) or not len(left):
            return positions_nm
        at_once = max(1, _NUMBERS_AT_ONCE // (3 * self.moved.numel()))
        result = positions_nm.clone()
        for rows in left.split(at_once):
            result[rows] = self._apart(
                positions_nm[rows], torsions[rows], held[rows], partial(_of_some, build, rows)
            )
        return result

    def _apart(self, positions_nm: Tensor, torsions: Tensor, held: Tensor, build: Build) -> Tensor:
        asked = torsions[:, self.residues, self.torsions]
        free = self._free(held)
        turned, placed = asked.clone(), positions_nm.clone()
        left = torch.arange(len(placed), device=placed.device)
        for number in range(STEPS):
            margin_nm = (number + 1) * MARGIN_NM
            step = self._step(placed[left], turned[left] - asked[left], free[left], margin_nm)
            turned[left] += step.to(turned).clamp(-LONGEST_STEP, LONGEST_STEP)
            new = torsions[left]
            new[:, self.residues, self.torsions] = turned[left]
            placed[left] = build(new, left)
            left = left[self.present(placed[left])]
            if not len(left):
                break
        return placed

    def _free(self, held: Bool[Tensor, "frames residues"]) -> Bool[Tensor, "frames turns"]:
        """Say which torsions may turn: those with known residues on one side of them at most."""
        known = held[:, self.site_residues].float()
        moved = self.moved.float()
        beyond, before = known @ moved.T, known @ (1 - moved).T
        return ((beyond == 0) | (before == 0)) & ~held[:, self.residues]

    def _step(
        self, placed_nm: Tensor, away: Tensor, free: Tensor, margin_nm: float
    ) -> Float[Tensor, "frames turns"]:
        """Return the step of the torsions that are ``away`` from what was asked."""
        slopes = self._slopes(placed_nm)
        reach = slopes.square().sum(dim=-1)
        side = torch.minimum((reach * self.moved).sum(-1), (reach * ~self.moved).sum(-1))
        stiff = TORSION_ERROR**-2 + side / ATOM_ERROR_NM**2
        slopes = slopes * self.moved[..., None]
        missing = (self.closest_nm + margin_nm - _apart_nm(placed_nm)) * (self.closest_nm > 0)
        frame, one, other = torch.triu(missing).clamp_min(0).nonzero().unbind(-1)
        direction = placed_nm[frame, one] - placed_nm[frame, other]
        direction = torch.nn.functional.normalize(direction, dim=-1)[:, None]
        rows = ((slopes[frame, :, one] - slopes[frame, :, other]) * direction).sum(dim=-1)
        # The pairs of each frame as rows of one matrix, as many as the frame with most of them has.
        counts = torch.bincount(frame, minlength=len(stiff))
        place = torch.arange(len(frame), device=frame.device) - (counts.cumsum(0) - counts)[frame]
        matrix = rows.new_zeros(len(stiff), int(counts.max()), stiff.shape[1])
        matrix[frame, place] = rows * free[frame] / DISTANCE_ERROR_NM
        gaps = rows.new_zeros(matrix.shape[:2])
        gaps[frame, place] = missing[frame, one, other] / DISTANCE_ERROR_NM
        normal = torch.diag_embed(stiff) + matrix.mT @ matrix
        pull = (matrix.mT @ gaps[..., None])[..., 0] - stiff * away * free
        return torch.linalg.solve(normal.double(), pull.double())

    def _slopes(
        self, placed_nm: Float[Tensor, "frames atoms 3"]
    ) -> Float[Tensor, "frames turns atoms 3"]:
        """Return the velocity of each atom if it turned about each bond, nm/radian."""
        axes = placed_nm[:, self.far] - placed_nm[:, self.near]
        axes = torch.nn.functional.normalize(axes, dim=-1)[:, :, None]
        arms = placed_nm[:, None] - placed_nm[:, self.far][:, :, None]
        return torch.linalg.cross(axes.expand_as(arms), arms, dim=-1)


def _apart_nm(positions_nm: Float[Tensor, "frames atoms 3"]) -> Float[Tensor, "frames atoms atoms"]:
    # By products of matrices, the default for many atoms, they would be wrong by 1e-4 nm.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(positions_nm, positions_nm, compute_mode=mode)


def _of_some(build: Build, rows: Tensor, torsions: Tensor, own: Tensor) -> Tensor:
    return build(torsions, rows[own])


def _beyond(topology: AtomTopology, near: int, far: int) -> set[int] | None:
    """Return the atoms beyond a bond; None where the bond is in a ring, which turns nothing."""
    bonded: dict[int, set[int]] = {}
    for one, other in topology.bonds:
        bonded.setdefault(one, set()).add(other)
        bonded.setdefault(other, set()).add(one)
    reached, front = {far}, [far]
    while front:
        atom = front.pop()
        new = bonded[atom] - reached - ({near} if atom == far else set())
        if near in new:
            return None
        reached |= new
        front += new
    return reached - {far}


def _closest(topology: AtomTopology) -> Float[Tensor, "atoms atoms"]:
    """Return the smallest distances, nm; zero for elements without a radius."""
    known = np.flatnonzero([element.upper() in RADII_NM for element in topology.elements])
    closest = torch.zeros(topology.n_atoms, topology.n_atoms)
    closest[known[:, None], known] = torch.from_numpy(closest_contacts(topology, known)).float()
    return closest
