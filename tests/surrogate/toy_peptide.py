"""A peptide whose torsions wobble, as heavy atoms, and its dataset."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from test_heavy_atoms import made

from al.molecule.settings import CapSettings
from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.records import AtomFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import AtomTopology
from trajgen.surrogate.resolutions import AllHeavyAtoms

SEQUENCE = "GYDP"
LAG_PS = 2.0


def peptide(caps: bool = False, sequence: str = SEQUENCE) -> tuple[AtomTopology, torch.Tensor]:
    """Return the heavy atoms of the peptide, and one conformation (float64), nm."""
    atoms, positions = made(sequence, CapSettings(ace=caps, nme=caps))
    return atoms, positions[0]


def wobbling_peptide(
    frames: int,
    seed: int,
    caps: bool = False,
    spread: float = 0.3,
    memory: float = 0.8,
    sequence: str = SEQUENCE,
) -> tuple[AtomTopology, np.ndarray]:
    """Return frames of the peptide whose torsions but omega are Ornstein-Uhlenbeck processes."""
    atoms, start = peptide(caps, sequence)
    model = AllHeavyAtoms.measure(atoms, start[None])
    rng = np.random.default_rng(seed)
    torsions = model.torsions(start[None]).expand(frames, -1, -1).clone()
    kicks = rng.normal(scale=spread * np.sqrt(1 - memory**2), size=torsions.shape)
    moves = np.zeros(torsions.shape)
    moves[0] = rng.normal(scale=spread, size=torsions.shape[1:])
    for frame in range(1, frames):
        moves[frame] = memory * moves[frame - 1] + kicks[frame]
    moves[..., 0] = 0.0
    torsions += torch.from_numpy(moves) * model.has_torsion
    backbone = model.chains[0].build(torsions)
    return atoms, model.geometry.build(backbone, torsions).numpy().astype(np.float32)


def two_chains(frames: int, seed: int) -> tuple[AtomTopology, np.ndarray]:
    """Return frames of two such peptides that wobble beside each other."""
    atoms, one = wobbling_peptide(frames, seed)
    _, other = wobbling_peptide(frames, seed + 1000)
    residues = len(atoms.residues)
    both = AtomTopology(
        names=2 * atoms.names,
        elements=2 * atoms.elements,
        atom_residues=(*atoms.atom_residues, *(r + residues for r in atoms.atom_residues)),
        residues=2 * atoms.residues,
        residue_numbers=2 * atoms.residue_numbers,
        chains=(*atoms.chains, *(chain + 1 for chain in atoms.chains)),
        bonds=(*atoms.bonds, *((i + atoms.n_atoms, j + atoms.n_atoms) for i, j in atoms.bonds)),
    )
    aside_nm = np.array([0.0, 0.0, 1.5], dtype=np.float32)
    return both, np.concatenate([one, other + aside_nm], axis=1)


def make_peptide_dataset(
    path: Path,
    segments: int = 3,
    frames: int = 80,
    sequence: str = SEQUENCE,
    make: Callable[..., tuple[AtomTopology, np.ndarray]] | None = None,
) -> Dataset:
    make = make or partial(wobbling_peptide, sequence=sequence)
    atoms, _ = make(2, 0)
    beads, bead_atoms = alpha_carbon_beads(atoms)
    dataset = Dataset.create(path, DatasetHeader(beads, atoms, bead_atoms))
    for number in range(segments):
        _, positions = make(frames, number)
        label = ShardLabel(f"segment-{number}", "sample", "none", 300.0, LAG_PS)
        ids = np.zeros(frames, dtype=np.int64)
        dataset.append_atoms(label, AtomFrames(atoms, positions, ids, LAG_PS))
    return dataset
