"""Atoms that a reconstruction leaves out, placed by the local geometry of a reference structure.

PULCHRA builds no hydrogens, no caps and no terminal oxygen. Each is put where it sits in a known
structure of the same molecule, relative to the atoms around it. So names, order, protonation and
handedness are those of the molecule, and nothing is drawn at random.
"""

import warnings
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from trajgen.data.topology import AtomTopology
from trajgen.errors import InputError


def complete(
    known: Mapping[int, np.ndarray],
    reference_nm: Float[np.ndarray, "atoms 3"],
    topology: AtomTopology,
) -> Float[np.ndarray, "atoms 3"]:
    """Return the positions of all atoms (nm) from those of some.

    An unknown atom bonded to a known one keeps its bond to that anchor and follows the anchor's
    surroundings: the rotation that lays the known atoms within two bonds of the anchor best onto
    their counterparts in the reference. Atoms further out follow in the next turn.

    Args:
        known: positions by atom index.
        reference_nm: a whole structure of the molecule, in any place.
        topology: the atoms.

    Raises:
        InputError: an atom is bonded to no known atom, not even through others.
    """
    neighbours: list[list[int]] = [[] for _ in range(topology.n_atoms)]
    for i, j in topology.bonds:
        neighbours[i].append(j)
        neighbours[j].append(i)
    reference = np.asarray(reference_nm, dtype=np.float64)
    placed = {atom: np.asarray(position, dtype=np.float64) for atom, position in known.items()}
    while len(placed) < topology.n_atoms:
        layer = {}
        for atom in range(topology.n_atoms):
            anchors = [n for n in neighbours[atom] if n in placed]
            if atom not in placed and anchors:
                layer[atom] = _place(atom, anchors[0], placed, reference, neighbours)
        if not layer:
            atom = next(a for a in range(topology.n_atoms) if a not in placed)
            residue = topology.atom_residues[atom]
            raise InputError(
                f"atom {topology.names[atom]} of {topology.residues[residue]}"
                f"{topology.residue_numbers[residue]} is bonded to no rebuilt atom; "
                "use backmapping method 'nearest'"
            )
        placed.update(layer)
    return np.array([placed[atom] for atom in range(topology.n_atoms)])


def _place(
    atom: int,
    anchor: int,
    placed: dict[int, np.ndarray],
    reference: np.ndarray,
    neighbours: list[list[int]],
) -> np.ndarray:
    first = [n for n in neighbours[anchor] if n in placed]
    second = [m for n in first for m in neighbours[n] if m in placed and m != anchor]
    around = first + second
    if not around:
        return np.asarray(placed[anchor] + reference[atom] - reference[anchor])
    with warnings.catch_warnings():
        # Fewer than three atoms around leave a rotation open, which any choice settles.
        warnings.simplefilter("ignore", UserWarning)
        rotation, _ = Rotation.align_vectors(
            [placed[n] - placed[anchor] for n in around],
            [reference[n] - reference[anchor] for n in around],
            # The bonded atoms decide; those beyond them settle the torsion.
            weights=[1.0] * len(first) + [0.1] * len(second),
        )
    return np.asarray(placed[anchor] + rotation.apply(reference[atom] - reference[anchor]))
