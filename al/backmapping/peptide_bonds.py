"""Peptide bonds, and which of them have to be trans."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float

from trajgen.data.topology import AtomTopology
from trajgen.geometry.internal import dihedrals
from trajgen.residues import standard_name

#: The atoms of the dihedral angle omega: CA, C, N, CA; of a cap its methyl carbon.
PeptideBond = tuple[int, int, int, int]


def trans_bonds(
    topology: AtomTopology, known_nm: Iterable[Float[np.ndarray, "atoms 3"]]
) -> list[PeptideBond]:
    """Return the peptide bonds that have to be trans.

    Before proline a few percent are cis, elsewhere hardly any (Weiss, Jabs and Hilgenfeld, Nat.
    Struct. Biol. 5, 676 (1998)): all are meant but those, and those that a known structure of the
    molecule has as cis.
    """
    bonds = [
        bond
        for bond in peptide_bonds(topology)
        if standard_name(topology.residues[topology.atom_residues[bond[2]]]) != "PRO"
    ]
    known_cis = {bond for positions_nm in known_nm for bond in cis_among(bonds, positions_nm)}
    return [bond for bond in bonds if bond not in known_cis]


def cis_among(
    bonds: list[PeptideBond], positions_nm: Float[np.ndarray, "atoms 3"]
) -> list[PeptideBond]:
    """Return those of some peptide bonds that are cis: |omega| below 90 degrees."""
    positions = torch.from_numpy(np.asarray(positions_nm, dtype=np.float64))
    omega = dihedrals(positions, torch.tensor(bonds, dtype=torch.int64).reshape(-1, 4))
    return [bonds[i] for i in torch.nonzero(omega.abs() < math.pi / 2).flatten().tolist()]


def peptide_bonds(topology: AtomTopology) -> list[PeptideBond]:
    """Return all peptide bonds, those of caps among them."""
    atoms = {
        (residue, name): atom
        for atom, (residue, name) in enumerate(
            zip(topology.atom_residues, topology.names, strict=True)
        )
    }
    found = []
    for pair in topology.bonds:
        names = {topology.names[atom]: atom for atom in pair}
        residues = {topology.atom_residues[atom] for atom in pair}
        if set(names) != {"C", "N"} or len(residues) != 2:
            continue
        carbon, nitrogen = names["C"], names["N"]
        before = _alpha(atoms, topology.atom_residues[carbon])
        after = _alpha(atoms, topology.atom_residues[nitrogen])
        if before is not None and after is not None:
            found.append((before, carbon, nitrogen, after))
    return sorted(found)


def _alpha(atoms: dict[tuple[int, str], int], residue: int) -> int | None:
    # The methyl carbon of ACE is CH3, that of NME is C in Amber's naming and CH3 in others.
    known = [atoms[residue, name] for name in ("CA", "CH3", "C") if (residue, name) in atoms]
    return known[0] if known else None
