"""The torsions of a molecule, found by atom names: backbone, peptide bond and side chain.

A residue and the next one are those that a bond joins from C to N within one chain, so that no
torsion spans a break.
"""

from dataclasses import dataclass

from trajgen.data.topology import AtomTopology
from trajgen.residues import standard_name

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
