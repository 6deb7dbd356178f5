"""The heavy atoms of a peptide from its sequence and backbone dihedral angles (PeptideBuilder).

The chain is built with a glycine before and behind it. What these become settles the ends with
the right geometry: three atoms of the first make the acetyl cap, two of the last the N-methyl
amide, and without that cap the nitrogen of the last gives the place of the terminal oxygen.
"""

from collections.abc import Sequence

import numpy as np
from openmm import app
from PeptideBuilder import PeptideBuilder

from al.molecule.settings import CapSettings
from al.molecule.structure import Structure
from trajgen.residues import parse_sequence

#: Backbone of an extended strand, degrees.
_EXTENDED = (-120.0, 140.0, 180.0)
#: The ring of proline holds phi near this value, degrees.
_PROLINE_PHI = -75.0
_ACE_ATOMS = {"CA": "CH3", "C": "C", "O": "O"}
_NME_ATOMS = {"N": "N", "CA": "C"}


def extended_backbone(sequence: str) -> tuple[tuple[float, float, float], ...]:
    """Return (phi, psi, omega) in degrees for each residue of an extended strand."""
    _, psi, omega = _EXTENDED
    return tuple(
        (_PROLINE_PHI if letter == "P" else _EXTENDED[0], psi, omega) for letter in sequence
    )


def build_peptide(
    sequence: str, backbone: Sequence[Sequence[float]], caps: CapSettings
) -> Structure:
    """Build the heavy atoms of a chain.

    Args:
        sequence: one-letter codes.
        backbone: phi, psi and optionally omega of the peptide bond that follows, in degrees, for
            each residue.
        caps: capping groups.

    Raises:
        InputError: the sequence has an unknown letter.
    """
    names = parse_sequence(sequence)
    residues = _padded_chain(sequence, backbone)
    topology = app.Topology()
    chain = topology.addChain("A")
    positions: list[np.ndarray] = []

    def add(name: str, number: int, atoms: dict[str, np.ndarray]) -> None:
        residue = topology.addResidue(name, chain, str(number))
        for atom, position in atoms.items():
            topology.addAtom(atom, app.Element.getBySymbol(atom[0]), residue)
            positions.append(position)

    head, *body, tail = residues
    if caps.ace:
        add("ACE", 0, {new: head[old] for old, new in _ACE_ATOMS.items()})
    if not caps.nme:
        body[-1]["OXT"] = tail["N"]
    for number, (name, atoms) in enumerate(zip(names, body, strict=True), start=1):
        add(name, number, atoms)
    if caps.nme:
        add("NME", len(body) + 1, {new: tail[old] for old, new in _NME_ATOMS.items()})
    topology.createStandardBonds()
    centred = np.array(positions) - np.mean(positions, axis=0)
    return Structure(topology, centred)


def _padded_chain(
    sequence: str, backbone: Sequence[Sequence[float]]
) -> list[dict[str, np.ndarray]]:
    """Return the atoms (nm) of each residue, a glycine before and behind included."""
    rows = [(*row, 180.0)[:3] for row in backbone]
    rows = [_EXTENDED, *rows, _EXTENDED]
    structure = PeptideBuilder.initialize_res("G")
    for letter, (_, psi, omega), (phi, _, _) in zip(
        f"{sequence}G", rows[:-1], rows[1:], strict=True
    ):
        PeptideBuilder.add_residue(structure, letter, phi, psi, omega)
    return [
        {atom.get_name(): np.asarray(atom.get_coord(), dtype=np.float64) / 10.0 for atom in residue}
        for residue in structure[0]["A"]
    ]
