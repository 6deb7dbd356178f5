"""A structure of atoms, and whether it is one that a peptide can have."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from openmm import app
from scipy.spatial import cKDTree

from trajgen.data.topology import AtomTopology
from trajgen.errors import InputError
from trajgen.residues import standard_name

#: Heavy atoms more than three bonds apart are never this near in a sound structure: the shortest
#: contacts are hydrogen bonds of about 0.25 nm.
SMALLEST_CONTACT_NM = 0.2
#: Contacts are looked for within this distance.
_SEARCH_NM = 0.4


@dataclass(frozen=True)
class Structure:
    """Atoms and where they are.

    Attributes:
        topology: the atoms and bonds, as OpenMM knows them.
        positions_nm: coordinates.
    """

    topology: app.Topology
    positions_nm: Float64[np.ndarray, "atoms 3"]


def atom_topology(topology: app.Topology) -> AtomTopology:
    """Return the atoms, residues and bonds of an OpenMM topology as plain values."""
    residues = list(topology.residues())
    atoms = list(topology.atoms())
    return AtomTopology(
        names=tuple(atom.name for atom in atoms),
        elements=tuple(atom.element.symbol for atom in atoms),
        atom_residues=tuple(atom.residue.index for atom in atoms),
        residues=tuple(residue.name for residue in residues),
        residue_numbers=tuple(int(residue.id) for residue in residues),
        chains=tuple(residue.chain.index for residue in residues),
        bonds=tuple(
            sorted((min(a.index, b.index), max(a.index, b.index)) for a, b in topology.bonds())
        ),
    )


def check_overlap(
    atoms: AtomTopology, positions_nm: Float64[np.ndarray, "atoms 3"], least_nm: float, where: str
) -> None:
    """Refuse a structure with heavy atoms nearer than ``least_nm``; ``where`` names it.

    Raises:
        InputError: two heavy atoms more than three bonds apart are nearer.
    """
    first, second, distance = closest_contact(atoms, positions_nm)
    if distance < least_nm:
        raise InputError(
            f"{where}: atoms {_label(atoms, first)} and {_label(atoms, second)} are "
            f"{distance:.3f} nm apart; choose other backbone dihedral angles, or repair the "
            "structure"
        )


def check_structure(
    atoms: AtomTopology, positions_nm: Float64[np.ndarray, "atoms 3"], where: str
) -> None:
    """Refuse a structure with overlapping atoms or with D-amino acids.

    Args:
        atoms: the atoms.
        positions_nm: coordinates.
        where: names the structure in the error.

    Raises:
        InputError: the structure is none that dynamics can start from.
    """
    check_overlap(atoms, positions_nm, SMALLEST_CONTACT_NM, f"{where}, minimised")
    mirrored = mirrored_residues(atoms, positions_nm)
    if mirrored:
        names = ", ".join(f"{atoms.residues[r]}{atoms.residue_numbers[r]}" for r in mirrored)
        raise InputError(f"{where}: {names} has the D configuration; only L-amino acids are known")


def closest_contact(
    atoms: AtomTopology, positions_nm: Float64[np.ndarray, "atoms 3"]
) -> tuple[int, int, float]:
    """Return the nearest two heavy atoms more than three bonds apart, and their distance (nm).

    Where no two are within 0.4 nm, the distance is infinite and the atoms mean nothing.
    """
    heavy = np.array([i for i, element in enumerate(atoms.elements) if element != "H"])
    pairs = heavy[cKDTree(positions_nm[heavy]).query_pairs(_SEARCH_NM, output_type="ndarray")]
    first, second, least = 0, 0, float("inf")
    distances = np.linalg.norm(positions_nm[pairs[:, 0]] - positions_nm[pairs[:, 1]], axis=1)
    near = _within_three_bonds(atoms)
    for (i, j), distance in zip(pairs.tolist(), distances.tolist(), strict=True):
        if distance < least and j not in near[i]:
            first, second, least = i, j, distance
    return first, second, least


def _within_three_bonds(atoms: AtomTopology) -> list[set[int]]:
    bonded: list[set[int]] = [{i} for i in range(atoms.n_atoms)]
    for i, j in atoms.bonds:
        bonded[i].add(j)
        bonded[j].add(i)
    second = [set().union(*(bonded[j] for j in near)) for near in bonded]
    return [set().union(*(bonded[j] for j in near)) for near in second]


def mirrored_residues(
    atoms: AtomTopology, positions_nm: Float64[np.ndarray, "atoms 3"]
) -> list[int]:
    """Return the residues whose alpha carbon has the D configuration.

    An L-amino acid has (N - CA) × (C - CA) · (CB - CA) > 0 (the CORN rule).
    """
    place = {
        (residue, name): atom
        for atom, (residue, name) in enumerate(zip(atoms.atom_residues, atoms.names, strict=True))
    }
    mirrored = []
    for residue, name in enumerate(atoms.residues):
        found = [place.get((residue, atom)) for atom in ("CA", "N", "C", "CB")]
        if standard_name(name) == "GLY" or None in found:
            continue
        alpha, n, c, beta = positions_nm[np.array(found)]
        if np.dot(np.cross(n - alpha, c - alpha), beta - alpha) < 0:
            mirrored.append(residue)
    return mirrored


def _label(atoms: AtomTopology, atom: int) -> str:
    residue = atoms.atom_residues[atom]
    return f"{atoms.residues[residue]}{atoms.residue_numbers[residue]}-{atoms.names[atom]}"
