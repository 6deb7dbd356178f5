"""A small peptide in water, on disk and in memory."""

from dataclasses import dataclass
from pathlib import Path

import mdtraj
import numpy as np

BACKBONE = {  # offsets from the C-alpha atom, nm
    "N": (-0.12, 0.08, 0.0),
    "H": (-0.12, 0.18, 0.0),
    "CA": (0.0, 0.0, 0.0),
    "HA": (0.0, -0.06, 0.09),
    "C": (0.13, 0.07, 0.0),
    "O": (0.13, 0.19, 0.0),
}
RESIDUES = ("GLY", "ALA", "HIE", "TRP")


@dataclass(frozen=True)
class Solvated:
    """A peptide in water on disk, and the same in memory."""

    structure: Path
    trajectory: Path
    frames: mdtraj.Trajectory
    n_solute: int
    alpha: list[int]


def peptide_topology(water: bool) -> mdtraj.Topology:
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    previous = None
    for number, name in enumerate(RESIDUES, start=5):
        residue = topology.add_residue(name, chain, resSeq=number)
        atoms = {
            atom: topology.add_atom(atom, mdtraj.element.Element.getBySymbol(atom[0]), residue)
            for atom in BACKBONE
        }
        for a, b in (("N", "H"), ("N", "CA"), ("CA", "HA"), ("CA", "C"), ("C", "O")):
            topology.add_bond(atoms[a], atoms[b])
        if previous is not None:
            topology.add_bond(previous, atoms["N"])
        previous = atoms["C"]
    if water:
        solvent = topology.add_chain()
        for _ in range(3):
            residue = topology.add_residue("HOH", solvent)
            for atom in ("O", "H1", "H2"):
                topology.add_atom(atom, mdtraj.element.Element.getBySymbol(atom[0]), residue)
        ion = topology.add_residue("NA", solvent)
        topology.add_atom("NA", mdtraj.element.sodium, ion)
    return topology


def peptide_positions(topology: mdtraj.Topology, n_frames: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    still = np.zeros((topology.n_atoms, 3))
    for atom in topology.atoms:
        if atom.residue.index < len(RESIDUES):
            still[atom.index] = np.add(BACKBONE[atom.name], (0.38 * atom.residue.index, 0, 0))
        else:
            still[atom.index] = random.uniform(0, 3, 3)
    still += 0.7
    return (still + 0.005 * random.normal(size=(n_frames, *still.shape))).astype(np.float32)


def write_solvated(folder: Path) -> Solvated:
    """Write 25 frames, 2 ps apart, in a cubic box of 3 nm."""
    topology = peptide_topology(water=True)
    positions = peptide_positions(topology, 25, seed=1)
    frames = mdtraj.Trajectory(
        positions,
        topology,
        time=np.arange(25) * 2.0,
        unitcell_lengths=np.full((25, 3), 3.0),
        unitcell_angles=np.full((25, 3), 90.0),
    )
    frames[0].save(str(folder / "top.pdb"))
    frames.save(str(folder / "md.xtc"))
    return Solvated(
        folder / "top.pdb",
        folder / "md.xtc",
        mdtraj.load(str(folder / "md.xtc"), top=topology),
        len(RESIDUES) * len(BACKBONE),
        [atom.index for atom in topology.atoms if atom.name == "CA"],
    )
