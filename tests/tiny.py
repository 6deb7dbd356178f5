"""A chain of five beads with known forces, and models of it that train in seconds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from command import succeed

SEQUENCE = "GYDPE"
FIT = ("training.steps=4", "training.validate_every=2", "training.batch=32",
       "network.blocks=1", "network.features=8", "prior_check.steps=50",
       "ensemble.chains=8", "ensemble.frames=8", "ensemble.steps=2",
       "ensemble.readout.steps=8")  # fmt: skip
TRAIN = ("training.steps=3", "training.validate_every=3", "training.batch=4",
         "training.validation_windows=4", "model.network.size=tiny", "model.shortest_lag_ps=2",
         "model.longest_lag_ps=2",         "model.window_frames=6")  # fmt: skip


@dataclass(frozen=True)
class Arrays:
    """The chain as the files of ``trajgen import --coords``."""

    coords: Path
    forces: Path
    weights: Path
    segments: Path

    def flags(self) -> list[object]:
        """The flags of the import command."""
        return [
            "--coords", self.coords, "--forces", self.forces, "--weights", self.weights,
            "--segments", self.segments, "--length-unit", "nm", "--energy-unit", "kJ/mol",
            "--sequence", SEQUENCE, "--temperature", 300, "--time-step-ps", 1,
        ]  # fmt: skip


def write_arrays(folder: Path) -> Arrays:
    """Write 4 segments of 60 frames of overdamped dynamics about a helix, with its forces."""
    random = np.random.default_rng(0)
    turn = np.arange(5) * np.deg2rad(100)
    helix = np.stack([0.23 * np.cos(turn), 0.23 * np.sin(turn), 0.15 * np.arange(5)], axis=1)
    stiffness, kT, step = 1000.0, 2.494, 1e-4
    x = helix + random.normal(scale=np.sqrt(kT / stiffness), size=(4, 5, 3))
    frames, forces = [], []
    for _ in range(60):
        x = x - step * stiffness * (x - helix)
        x = x + np.sqrt(2 * kT * step) * random.normal(size=x.shape)
        frames.append(x.copy())
        forces.append(-stiffness * (x - helix))
    folder.mkdir(parents=True, exist_ok=True)
    arrays = Arrays(*(folder / f"{n}.npy" for n in ("coords", "forces", "weights", "segments")))
    np.save(arrays.coords, np.stack(frames, axis=1).reshape(-1, 5, 3).astype(np.float32))
    np.save(arrays.forces, np.stack(forces, axis=1).reshape(-1, 5, 3).astype(np.float32))
    np.save(arrays.weights, random.uniform(0.5, 1.5, 240))
    np.save(arrays.segments, np.repeat(np.arange(4), 60))
    return arrays


@dataclass(frozen=True)
class Made:
    """What the commands made of the chain."""

    arrays: Arrays
    dataset: Path
    potential: Path
    surrogate: Path


def make(folder: Path) -> Made:
    """Import the chain, fit a potential and train a surrogate, through the commands."""
    made = Made(write_arrays(folder), folder / "D", folder / "POTENTIAL", folder / "MODEL")
    succeed("import", *made.arrays.flags(), "--out", made.dataset)
    fit = [part for value in FIT for part in ("--set", value)]
    succeed("fit", made.dataset, "--out", made.potential, "--device", "cpu", *fit)
    train = [part for value in TRAIN for part in ("--set", value)]
    succeed("train", made.dataset, "--out", made.surrogate, "--device", "cpu", *train)
    return made
