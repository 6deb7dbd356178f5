"""A small molecule with known statistics, its dataset, and settings that train on it."""

from pathlib import Path

import numpy as np

from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.surrogate.surrogate import SurrogateSettings
from trajgen.surrogate.training_settings import TrainingSettings, TrainSettings
from trajgen.surrogate.transformer import NetworkSettings

TOPOLOGY = BeadTopology.from_residues(("GLY", "TYR", "ASP", "PRO", "GLU"))
LAG_PS = 2.0


def helix(beads: int) -> np.ndarray:
    """Return beads on a helix with the rise and the turn of C-alpha atoms, nm."""
    turn = np.deg2rad(100) * np.arange(beads)
    return np.stack([0.23 * np.cos(turn), 0.23 * np.sin(turn), 0.15 * np.arange(beads)], axis=1)


def wobbling_chain(
    frames: int, seed: int, spread_nm: float = 0.03, memory: float = 0.8
) -> np.ndarray:
    """Return a helix whose beads move by independent Ornstein-Uhlenbeck processes."""
    rng = np.random.default_rng(seed)
    shape = (frames, TOPOLOGY.n_beads, 3)
    kicks = rng.normal(scale=spread_nm * np.sqrt(1 - memory**2), size=shape)
    moves = np.zeros(shape)
    moves[0] = rng.normal(scale=spread_nm, size=shape[1:])
    for frame in range(1, frames):
        moves[frame] = memory * moves[frame - 1] + kicks[frame]
    return (helix(TOPOLOGY.n_beads) + moves).astype(np.float32)


def make_dataset(
    path: Path,
    segments: list[np.ndarray],
    time_step_ps: float = LAG_PS,
    topology: BeadTopology = TOPOLOGY,
) -> Dataset:
    dataset = Dataset.create(path, DatasetHeader(topology))
    for number, positions in enumerate(segments):
        label = ShardLabel(
            name=f"segment-{number}",
            source="import",
            hamiltonian="springs",
            temperature_K=300.0,
            save_interval_ps=time_step_ps,
        )
        ids = np.zeros(len(positions), dtype=np.int64)
        dataset.append_beads(label, BeadFrames(topology, positions, ids, time_step_ps))
    return dataset


def tiny_settings(steps: int, **training: float | None) -> TrainSettings:
    return TrainSettings(
        model=SurrogateSettings(
            shortest_lag_ps=LAG_PS,
            longest_lag_ps=LAG_PS,
            window_frames=6,
            network=NetworkSettings(size="tiny"),
        ),
        training=TrainingSettings(
            **{
                "steps": steps,
                "batch": 16,
                "learning_rate": 2e-3,
                "warmup_steps": 10,
                "validate_every": 5,
                "save_every": 4,
                "validation_windows": 32,
                **training,
            }
        ),
    )
