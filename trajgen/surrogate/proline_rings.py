"""The rings of proline, closed by their pucker.

With bond lengths and angles fixed, CD stands at the right distance from N only where chi1 and chi2
fulfil one equation, and what a network says of them does so by chance. Their ratio, which is the
phase of the pucker, is kept; both are multiplied by the number that closes the ring, which is its
amplitude. That is how the ring moves: the phase runs, the amplitude hardly changes (Altona and
Sundaralingam, J. Am. Chem. Soc. 94, 8205 (1972)).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trajgen.geometry.frames import torsion_frames

#: The largest chi1 or chi2 that a ring is given, radian; it is a third less in nature.
LARGEST_CHI = math.radians(60)
#: Steps of the secant method, which gains half as many digits again in each, and the error of the
#: distance below which none is taken.
STEPS, ERROR_NM = 12, 1e-9


@dataclass(frozen=True)
class ProlineRings:
    """Which rings a molecule has.

    Attributes:
        residues: the residue of each ring.
        chi1: the number of chi1 among the torsions of a residue; chi2 is the next.
        atoms: N, CA, CB, CG and CD of each.
    """

    residues: Int[Tensor, " rings"]
    chi1: int
    atoms: Int[Tensor, "rings 5"]

    def to(self, device: torch.device) -> "ProlineRings":
        """Return them on a device."""
        return ProlineRings(self.residues.to(device), self.chi1, self.atoms.to(device))

    def lengths_nm(
        self, positions_nm: Float[Tensor, "*frames atoms 3"]
    ) -> Float[Tensor, "*frames rings"]:
        """Return the distance of CD and N in each ring, nm."""
        ends = positions_nm[..., self.atoms[:, 4], :] - positions_nm[..., self.atoms[:, 0], :]
        return ends.norm(dim=-1)

    def closed(
        self,
        torsions: Float[Tensor, "*frames residues torsions"],
        backbone_nm: Float[Tensor, "*frames residues 3 3"],
        local_nm: Float[Tensor, "atoms 3"],
        lengths_nm: Float[Tensor, " rings"],
    ) -> Float[Tensor, "*frames residues torsions"]:
        """Return the torsions, chi1 and chi2 of rings as large as it takes to close these.

        A ring that no size closes, since its other angles leave no room for a pucker, is left as
        near to closed as it gets. The gradient knows nothing of the change of size.

        Args:
            torsions: what is asked, radian.
            backbone_nm: N, CA and C of each residue.
            local_nm: each atom in the frame of its group at a torsion of zero.
            lengths_nm: the distance of CD and N that is wanted in each ring.
        """
        if not len(self.residues):
            return torsions
        chis = slice(self.chi1, self.chi1 + 2)
        asked = torsions[..., self.residues, chis]
        size = self._size(asked, backbone_nm[..., self.residues, :, :], local_nm, lengths_nm)
        result = torsions.clone()
        result[..., self.residues, chis] = asked * size[..., None]
        return result

    @torch.no_grad()
    def _size(
        self, asked: Tensor, backbone_nm: Tensor, local_nm: Tensor, lengths_nm: Tensor
    ) -> Float[Tensor, "*frames rings"]:
        """Return what both torsions are multiplied by."""
        n, ca, c = (backbone_nm - backbone_nm[..., :1, :]).double().unbind(-2)
        cb_local, cg_local, cd_local = local_nm[self.atoms[:, 2:]].double().unbind(-2)
        chi1, chi2 = asked.double().unbind(-1)
        cb = torsion_frames(n, ca, c, torch.zeros_like(chi1)).apply(cb_local)

        def missing(square: Tensor) -> Tensor:
            """Return how much longer the bond of CD and N should be, by the square of the size."""
            size = square.sqrt()
            cg = torsion_frames(n, ca, cb, size * chi1).apply(cg_local)
            cd = torsion_frames(ca, cb, cg, size * chi2).apply(cd_local)
            return lengths_nm - (cd - n).norm(dim=-1)

        # The distance grows all but evenly with the square of the size.
        most = (LARGEST_CHI / asked.double().abs().amax(dim=-1).clamp_min(1e-6)).square()
        before = torch.zeros_like(most)
        now = torch.minimum(torch.ones_like(most), most)
        missed_before, missed = missing(before), missing(now)
        for _ in range(STEPS):
            step = missed * (now - before) / (missed_before - missed)
            going_on = (missed.abs() > ERROR_NM) & torch.isfinite(step)
            following = torch.where(going_on, now + step, now).clamp_min(0).minimum(most)
            before, missed_before = torch.where(going_on, now, before), missed
            now, missed = following, missing(following)
        return now.sqrt().to(asked)
