"""How near two atoms may come that no bond holds together."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array

from trajgen.data.topology import AtomTopology

#: Van der Waals radii of heavy atoms, nm (Bondi 1964, J. Phys. Chem. 68:441).
RADII_NM = {"C": 0.170, "N": 0.155, "O": 0.152, "S": 0.180, "SE": 0.190}
#: Overlap of two van der Waals spheres from which on it is a clash, and the same of two N or O,
#: which a hydrogen bond may join, nm. They are those of Word et al. (1999, J. Mol. Biol. 285:1711),
#: as MolProbity has them, but between heavy atoms, since frames need not have hydrogens.
OVERLAP_NM = 0.04
POLAR_OVERLAP_NM = 0.06


def closest_contacts(
    topology: AtomTopology,
    heavy: Int[np.ndarray, " heavy"],
    overlap_nm: float = OVERLAP_NM,
    polar_overlap_nm: float = POLAR_OVERLAP_NM,
) -> Float[np.ndarray, "heavy heavy"]:
    """Return the smallest allowed distance of every pair, zero of atoms up to three bonds apart.

    Args:
        topology: the molecule.
        heavy: atoms of elements in ``RADII_NM``.
        overlap_nm: overlap of two spheres from which on it is a clash.
        polar_overlap_nm: the same of two N or O.
    """
    n = topology.n_atoms
    bonds = np.array(topology.bonds, dtype=np.int64).reshape(-1, 2)
    one = np.ones(len(bonds))
    half = coo_array((one, (bonds[:, 0], bonds[:, 1])), shape=(n, n)).tocsr()
    near = half + half.T + coo_array((np.ones(n), (np.arange(n), np.arange(n))), shape=(n, n))
    bonded = (near @ near @ near).tocsr()[heavy][:, heavy].toarray() > 0
    elements = [topology.elements[i].upper() for i in heavy]
    radii = np.array([RADII_NM[element] for element in elements])
    polar = np.array([element in ("N", "O") for element in elements])
    overlap = np.where(polar[:, None] & polar, polar_overlap_nm, overlap_nm)
    return np.where(bonded, 0.0, radii[:, None] + radii - overlap)
