"""Where phi and psi of a residue may lie, in coarse regions."""

import numpy as np
from jaxtyping import Bool, Float

from trajgen.data.topology import AtomTopology
from trajgen.data.torsions import Torsion, next_residues
from trajgen.residues import standard_name

#: Boxes of lowest and highest phi, lowest and highest psi, degrees; a highest value above 180 goes
#: on at −180. The four classes are those of Lovell et al. (2003, Proteins 50:437), but the boxes
#: are not their contours: they are drawn generously around them by hand, so that a residue outside
#: of all boxes is an outlier there as well (with few exceptions), while one inside need not be
#: allowed there. The map of glycine is symmetric under inversion.
BOXES = {
    "general": (
        (-180, -40, 40, 205),
        (-170, -35, -90, 40),
        (35, 85, -25, 110),
        (35, 75, -180, -120),
    ),
    "glycine": (
        (40, 180, 110, 250),
        (40, 145, -90, 110),
        (-180, -40, 110, 250),
        (-145, -40, -110, 90),
    ),
    "proline": ((-115, -35, -75, 205),),
    "pre-proline": ((-180, -40, 40, 205), (-145, -35, -90, 40), (35, 80, 15, 100)),
}


def residue_class(topology: AtomTopology, residue: int, next_residue: int | None) -> str:
    """Return the class of a residue: a key of ``BOXES``."""
    own = standard_name(topology.residues[residue])
    if own in ("GLY", "PRO"):
        return {"GLY": "glycine", "PRO": "proline"}[own]
    if next_residue is not None and standard_name(topology.residues[next_residue]) == "PRO":
        return "pre-proline"
    return "general"


def is_allowed(
    phi: Float[np.ndarray, "*shape"], psi: Float[np.ndarray, "*shape"], of_class: str
) -> Bool[np.ndarray, "*shape"]:
    """Say whether phi and psi, rad, lie in a box of a class."""
    phi, psi = np.degrees(phi), np.degrees(psi)
    allowed = np.zeros(phi.shape, dtype=bool)
    for low_phi, high_phi, low_psi, high_psi in BOXES[of_class]:
        inside = (phi - low_phi) % 360 <= high_phi - low_phi
        allowed |= inside & ((psi - low_psi) % 360 <= high_psi - low_psi)
    return allowed


def outliers(
    topology: AtomTopology,
    torsions: tuple[Torsion, ...],
    angles: Float[np.ndarray, "frames terms"],
) -> Bool[np.ndarray, "frames residues"]:
    """Say of each residue that has phi and psi whether it lies outside of the boxes of its class.

    Args:
        topology: the atoms.
        torsions: phi and psi, as ``find_backbone`` gives them.
        angles: their values, rad.
    """
    column = {(torsion.name, torsion.residues[0]): i for i, torsion in enumerate(torsions)}
    following = next_residues(topology)
    both = [r for r in range(len(topology.residues)) if {("phi", r), ("psi", r)} <= column.keys()]
    outside = np.zeros((len(angles), len(both)), dtype=bool)
    for i, residue in enumerate(both):
        phi, psi = (angles[:, column[name, residue]] for name in ("phi", "psi"))
        of_class = residue_class(topology, residue, following.get(residue))
        outside[:, i] = ~is_allowed(phi, psi, of_class)
    return outside
