"""A peptide whose torsions wobble, as heavy atoms, and its dataset."""

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


def make_peptide_dataset(
    path: Path, segments: int = 3, frames: int = 80, sequence: str = SEQUENCE
) -> Dataset:
    atoms, _ = peptide(sequence=sequence)
    beads, bead_atoms = alpha_carbon_beads(atoms)
    dataset = Dataset.create(path, DatasetHeader(beads, atoms, bead_atoms))
    for number in range(segments):
        _, positions = wobbling_peptide(frames, number, sequence=sequence)
        label = ShardLabel(f"segment-{number}", "sample", "none", 300.0, LAG_PS)
        ids = np.zeros(frames, dtype=np.int64)
        dataset.append_atoms(label, AtomFrames(atoms, positions, ids, LAG_PS))
    return dataset
