"""Torsions of all-atom frames, found by atom names: backbone, peptide bond and side chain.

Angles have the IUPAC sign (IUPAC-IUB 1970, J. Mol. Biol. 52:1), trans is π. A residue and the next
one are those that a bond joins from C to N within one chain, so that no torsion spans a break.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from trajgen.analysis.features import Feature
from trajgen.data.records import AtomFrames
from trajgen.data.topology import AtomTopology
from trajgen.geometry.internal import dihedrals
from trajgen.residues import standard_name

#: Angles that are computed at once, frames times torsions; bounds the memory, changes no value.
ANGLES_AT_ONCE = 500_000

#: The run of atoms from the backbone to the end of a side chain; four in a row are one chi angle.
#: A place with several names takes the one that is there (ILE in CHARMM's naming, MSE).
SIDE_CHAINS = {
    "ARG": "N CA CB CG CD NE CZ NH1",
    "ASN": "N CA CB CG OD1",
    "ASP": "N CA CB CG OD1",
    "CYS": "N CA CB SG",
    "GLN": "N CA CB CG CD OE1",
    "GLU": "N CA CB CG CD OE1",
    "HIS": "N CA CB CG ND1",
    "ILE": "N CA CB CG1 CD1/CD",
    "LEU": "N CA CB CG CD1",
    "LYS": "N CA CB CG CD CE NZ",
    "MET": "N CA CB CG SD/SE CE",
    "PHE": "N CA CB CG CD1",
    "PRO": "N CA CB CG CD",
    "SER": "N CA CB OG",
    "THR": "N CA CB OG1",
    "TRP": "N CA CB CG CD1",
    "TYR": "N CA CB CG CD1",
    "VAL": "N CA CB CG1",
}

#: The atom of a residue that ends omega: the methyl carbon is CH3 in ACE, and C or CH3 in NME.
_OMEGA_ENDS = {"ACE": ("CH3",), "NME": ("CH3", "C")}


@dataclass(frozen=True)
class Torsion:
    """One torsion of a molecule.

    Attributes:
        name: ``phi``, ``psi``, ``omega``, or ``chi1`` to ``chi5``.
        residues: index of the residue it belongs to; of omega those before and after the bond.
        atoms: indices of its four atoms.
    """

    name: str
    residues: tuple[int, ...]
    atoms: tuple[int, int, int, int]


def backbone_torsions(frames: AtomFrames) -> Feature:
    """Return phi (C⁻, N, CA, C) and psi (N, CA, C, N⁺) of every residue that has them, rad."""
    return _feature("backbone", frames, find_backbone(frames.topology))


def omega_torsions(frames: AtomFrames) -> Feature:
    """Return omega (CA, C, N⁺, CA⁺) of every peptide bond, those to ACE and NME among them, rad."""
    return _feature("omega", frames, find_omega(frames.topology))


def side_chain_torsions(frames: AtomFrames) -> Feature:
    """Return chi1 to chi5 of every residue as far as its atoms are there, rad.

    They are those of the atom that comes first by name (CD1, OD1, OE1, NH1) and are left as they
    are where a turn by π changes atom names only: chi2 of PHE, TYR and ASP, chi3 of GLU, chi5 of
    ARG. Whoever compares molecules whose atoms may be named either way round folds these.
    """
    return _feature("side_chain", frames, find_side_chains(frames.topology))


def find_backbone(topology: AtomTopology) -> tuple[Torsion, ...]:
    """Return phi and psi of each residue, in the order of residues."""
    atoms = atom_places(topology)
    following = next_residues(topology)
    preceding = {after: before for before, after in following.items()}
    found = []
    for residue in range(len(topology.residues)):
        before, after = preceding.get(residue), following.get(residue)
        if before is not None:
            names = ((before, "C"), (residue, "N"), (residue, "CA"), (residue, "C"))
            found.append(_torsion("phi", (residue,), [atoms.get(place) for place in names]))
        if after is not None:
            names = ((residue, "N"), (residue, "CA"), (residue, "C"), (after, "N"))
            found.append(_torsion("psi", (residue,), [atoms.get(place) for place in names]))
    return tuple(torsion for torsion in found if torsion is not None)


def find_omega(topology: AtomTopology) -> tuple[Torsion, ...]:
    """Return omega of each peptide bond, in the order of residues."""
    atoms = atom_places(topology)
    found = []
    for before, after in sorted(next_residues(topology).items()):
        ends = [
            next((atoms[r, name] for name in _omega_ends(topology, r) if (r, name) in atoms), None)
            for r in (before, after)
        ]
        middle = [atoms[before, "C"], atoms[after, "N"]]
        found.append(_torsion("omega", (before, after), [ends[0], *middle, ends[1]]))
    return tuple(torsion for torsion in found if torsion is not None)


def find_side_chains(topology: AtomTopology) -> tuple[Torsion, ...]:
    """Return the chi angles of each residue, in the order of residues, chi1 first."""
    atoms = atom_places(topology)
    found = []
    for residue, name in enumerate(topology.residues):
        run = [
            next((atoms[residue, n] for n in place.split("/") if (residue, n) in atoms), None)
            for place in SIDE_CHAINS.get(standard_name(name), "").split()
        ]
        for number in range(1, len(run) - 2):
            four = run[number - 1 : number + 3]
            found.append(_torsion(f"chi{number}", (residue,), four))
    return tuple(torsion for torsion in found if torsion is not None)


def torsion_angles(
    frames: AtomFrames, torsions: tuple[Torsion, ...]
) -> Float[np.ndarray, "frames terms"]:
    """Return torsions of all frames, rad in (−π, π].

    Where three of the four atoms lie on a line there is no torsion, and the value is zero.
    """
    values = np.empty((frames.n_frames, len(torsions)))
    if not torsions:
        return values
    # Only the atoms that are needed are made float64; a solute has many others.
    used, places = np.unique([torsion.atoms for torsion in torsions], return_inverse=True)
    quadruples = torch.from_numpy(places.reshape(-1, 4))
    chunk = max(1, ANGLES_AT_ONCE // len(torsions))
    for start in range(0, frames.n_frames, chunk):
        part = frames.positions_nm[start : start + chunk, used].astype(np.float64)
        values[start : start + chunk] = dihedrals(torch.from_numpy(part), quadruples).numpy()
    return values


def atom_places(topology: AtomTopology) -> dict[tuple[int, str], int]:
    """Return the index of each atom by its residue's index and its name."""
    places = zip(topology.atom_residues, topology.names, strict=True)
    return {place: atom for atom, place in enumerate(places)}


def next_residues(topology: AtomTopology) -> dict[int, int]:
    """Return the residue that a peptide bond joins to each residue, within chains."""
    following = {}
    for pair in topology.bonds:
        ends = {topology.names[atom]: topology.atom_residues[atom] for atom in pair}
        if ends.keys() != {"C", "N"} or ends["C"] == ends["N"]:
            continue
        if topology.chains[ends["C"]] == topology.chains[ends["N"]]:
            following[ends["C"]] = ends["N"]
    return following


def residue_labels(topology: AtomTopology) -> list[str]:
    """Return a name for each residue, such as ``TYR2``, with its chain where that is needed."""
    named = zip(topology.residues, topology.residue_numbers, strict=True)
    labels = [f"{name}{number}" for name, number in named]
    if len(set(labels)) < len(labels):
        pairs = zip(topology.chains, labels, strict=True)
        labels = [f"{chain}:{label}" for chain, label in pairs]
    return labels


def _omega_ends(topology: AtomTopology, residue: int) -> tuple[str, ...]:
    return _OMEGA_ENDS.get(topology.residues[residue], ("CA",))


def _torsion(name: str, residues: tuple[int, ...], atoms: list[int | None]) -> Torsion | None:
    a, b, c, d = atoms
    if a is None or b is None or c is None or d is None:
        return None
    return Torsion(name, residues, (a, b, c, d))


def _feature(name: str, frames: AtomFrames, torsions: tuple[Torsion, ...]) -> Feature:
    residues = residue_labels(frames.topology)
    labels = tuple(
        f"{torsion.name} {'-'.join(residues[r] for r in torsion.residues)}" for torsion in torsions
    )
    return Feature(name, labels, "rad", torsion_angles(frames, torsions), 2 * math.pi)
