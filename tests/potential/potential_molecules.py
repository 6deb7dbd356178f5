"""Molecules, frames and datasets that the tests of this room share."""

from pathlib import Path

import numpy as np

from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.potential.potential import Potential
from trajgen.residues import parse_sequence

TEMPERATURE_K = 350.0


def grow_chains(n_frames: int, n_beads: int, seed: int) -> np.ndarray:
    """Return chains with thermal bonds and angles and free dihedrals, without clashes, nm."""
    rng = np.random.default_rng(seed)
    chains: list[np.ndarray] = []
    while len(chains) < n_frames:
        chain = [np.zeros(3), np.array([rng.normal(0.381, 0.006), 0.0, 0.0])]
        for bead in range(2, n_beads):
            back = chain[-2] - chain[-1]
            back /= np.linalg.norm(back)
            side = np.cross(back, rng.normal(size=3) if bead == 2 else chain[-3] - chain[-2])
            side /= np.linalg.norm(side)
            up = np.cross(side, back)
            angle, torsion = rng.normal(1.85, 0.2), rng.normal(0.9, 0.9)
            turned = np.cos(torsion) * up + np.sin(torsion) * side
            direction = np.cos(angle) * back + np.sin(angle) * turned
            chain.append(chain[-1] + rng.normal(0.381, 0.006) * direction)
        grown = np.array(chain[:n_beads])
        apart = np.linalg.norm(grown[:, None] - grown[None], axis=-1)
        if (apart[np.triu_indices(n_beads, 2)] > 0.42).all():
            chains.append(grown)
    return np.stack(chains)


def make_frames(sequence: str, n_frames: int, seed: int, segments: int = 5) -> BeadFrames:
    """Return frames of grown chains without forces."""
    topology = BeadTopology.from_residues(parse_sequence(sequence))
    positions = grow_chains(n_frames, topology.n_beads, seed)
    return BeadFrames(
        topology=topology,
        positions_nm=positions.astype(np.float32),
        segments=np.arange(n_frames, dtype=np.int64) * segments // n_frames,
    )


def write_dataset(
    path: Path, *parts: BeadFrames, temperatures_K: tuple[float, ...] = ()
) -> Dataset:
    """Write frames as the shards of a dataset."""
    dataset = Dataset.create(path, DatasetHeader(parts[0].topology))
    for number, part in enumerate(parts):
        temperature = temperatures_K[number] if temperatures_K else TEMPERATURE_K
        label = ShardLabel(f"part{number}", "import", "test", temperature, None)
        dataset.append_beads(label, part)
    return dataset


def without_network(potential: Potential) -> Potential:
    """Return the priors of a potential alone."""
    alone = Potential(potential.settings.model_copy(update={"committee": 0}))
    alone.priors = potential.priors
    return alone.to(potential.priors.bond.stiffness.dtype)
