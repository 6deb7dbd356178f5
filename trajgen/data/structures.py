"""Structures and topologies through mdtraj, the protein alone.

Positions come back in nm whatever the file holds. What is no protein (waters, ions, ligands) is
dropped with a message.
"""

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
from jaxtyping import Float32, Int64
from mdtraj.formats.psf import PSFError

from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError
from trajgen.residues import BEAD_TYPES, CAPS, standard_name

logger = logging.getLogger(__name__)

#: Formats without a topology of their own, and those that carry one.
COORDINATE_SUFFIXES = (".xtc", ".trr", ".dcd", ".nc")
STRUCTURE_SUFFIXES = (".pdb", ".h5")

#: What mdtraj raises on files that are cut, damaged, or not of the topology.
MDTRAJ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    PSFError,
)


@dataclass(frozen=True)
class Solute:
    """The protein in a trajectory's topology.

    Attributes:
        topology: its atoms.
        indices: where each atom stands in the file.
        file_atoms: the number of atoms in the file, solvent included.
        beads: the C-alpha beads.
        bead_atoms: index into ``topology`` of the atom each bead sits on.
    """

    topology: AtomTopology
    indices: Int64[np.ndarray, " atoms"]
    file_atoms: int
    beads: BeadTopology
    bead_atoms: tuple[int, ...]


def holds_topology(path: Path) -> bool:
    """Say whether a file of this name tells which atoms there are, beside their coordinates."""
    return path.suffix.lower() not in (*COORDINATE_SUFFIXES, ".npz", ".npy", ".safetensors", "")


def read_solute(topology: Path) -> Solute:
    """Read the protein of a topology file; all else is dropped with a message.

    Raises:
        InputError: the file cannot be read, or holds no protein.
    """
    return solute_of(load_topology(topology), topology)


def solute_of(topology: mdtraj.Topology, source: Path) -> Solute:
    """Return the protein in an mdtraj topology; ``source`` names it in messages."""
    kept = [residue for residue in topology.residues if _is_protein(residue)]
    if not kept:
        raise InputError(f"{source} holds no amino acid; wanted is a protein or peptide")
    kept_ids = {residue.index for residue in kept}
    dropped = Counter(r.name for r in topology.residues if r.index not in kept_ids)
    if dropped:
        named = ", ".join(f"{name} {count}" for name, count in dropped.most_common(6))
        logger.info("%s: dropped %d residues that are no protein (%s)",
                    source, sum(dropped.values()), named)  # fmt: skip
    atoms = sorted((a for residue in kept for a in residue.atoms), key=lambda a: a.index)
    place = {atom.index: i for i, atom in enumerate(atoms)}
    row = {residue.index: i for i, residue in enumerate(kept)}
    pairs = [
        (place[a.index], place[b.index])
        for a, b in topology.bonds
        if a.index in place and b.index in place
    ]
    chains = {index: i for i, index in enumerate(dict.fromkeys(r.chain.index for r in kept))}
    solute = AtomTopology(
        names=tuple(atom.name for atom in atoms),
        elements=tuple(_element(atom) for atom in atoms),
        atom_residues=tuple(row[atom.residue.index] for atom in atoms),
        residues=tuple(residue.name for residue in kept),
        residue_numbers=tuple(int(residue.resSeq) for residue in kept),
        chains=tuple(chains[residue.chain.index] for residue in kept),
        bonds=tuple(sorted((min(pair), max(pair)) for pair in pairs)),
    )  # fmt: skip
    beads, bead_atoms = alpha_carbon_beads(solute)
    indices = np.array([atom.index for atom in atoms], dtype=np.int64)
    return Solute(solute, indices, topology.n_atoms, beads, bead_atoms)


def read_structure(path: Path) -> tuple[Solute, Float32[np.ndarray, "atoms 3"]]:
    """Read the protein of a structure file and its positions (nm), of the first model.

    Raises:
        InputError: the file cannot be read, or holds no protein.
    """
    require_file(path)
    if path.suffix.lower() in COORDINATE_SUFFIXES:
        raise InputError(f"{path} is no structure file; give a PDB file of one frame")
    with reading(path):
        structure = mdtraj.load(str(path))
    _add_disulfides(structure, path)
    if structure.n_frames > 1:
        logger.info("%s has %d models; the first is used", path, structure.n_frames)
    solute = solute_of(structure.topology, path)
    positions = structure.xyz[0, solute.indices].astype(np.float32)
    if not np.isfinite(positions).all():
        raise InputError(f"{path} has a coordinate that is no number; mend the file")
    return solute, positions


def require_file(path: Path) -> None:
    """Raise InputError where ``path`` is no file."""
    if not path.is_file():
        raise InputError(f"{path} is missing or is no file; check the name")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what mdtraj raises into InputError, and keep its C code off the terminal."""
    try:
        with silent_streams(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MDTRAJ_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} cannot be read ({reason}); it may be cut, damaged or not of the topology given"
        ) from error


@contextmanager
def silent_streams() -> Iterator[None]:
    """Keep what C code writes to the terminal off it."""
    # The DCD and XDR plugins write to the C streams, which would break --json output.
    saved = [os.dup(stream) for stream in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            os.dup2(null, stream)
        yield
    finally:
        for stream, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(null)


def load_topology(path: Path) -> mdtraj.Topology:
    """Read all that a topology file names, solvent included.

    Raises:
        InputError: the file cannot be read.
    """
    require_file(path)
    with reading(path):
        if path.suffix.lower() != ".gro":
            return mdtraj.load_topology(str(path))
        structure = mdtraj.load(str(path))
    _add_disulfides(structure, path)
    return structure.topology


def _add_disulfides(structure: mdtraj.Trajectory, path: Path) -> None:
    """Find the disulfides of a ``.gro`` file; its reader leaves them out, that of PDB does not."""
    if path.suffix.lower() == ".gro":
        for residue in structure.topology.residues:
            if residue.name == "CYX":
                residue.name = "CYS"
        structure.topology.create_disulfide_bonds(structure.xyz[0])


def _is_protein(residue: Any) -> bool:
    if standard_name(residue.name) in BEAD_TYPES or residue.name in CAPS:
        return True
    return {"N", "CA", "C"} <= {atom.name for atom in residue.atoms}


def _element(atom: Any) -> str:
    # Readers that guess the element by name take a C-alpha for calcium.
    if atom.name == "CA":
        return "C"
    return atom.element.symbol if atom.element is not None else "X"
