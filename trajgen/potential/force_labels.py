"""What the network is trained on: mapped forces minus the forces of the priors, frame by frame."""

import functools
import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from trajgen.data.records import BeadFrames, concatenate
from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.potential.energy import Energy, energy_and_forces
from trajgen.potential.priors import Priors
from trajgen.seeding import derive_seed, numpy_generator

logger = logging.getLogger(__name__)

#: Frames at once where nothing is trained, which bounds the memory.
EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class ForceLabels:
    """Training data of the network.

    Attributes:
        positions_nm: coordinates, float32.
        residual: mapped forces minus prior forces, kJ/mol/nm, float32.
        weights: weight of each frame in the loss, one on average.
        frames: index of each frame among the frames they were made of.
    """

    positions_nm: Float[Tensor, "frames beads 3"]
    residual: Float[Tensor, "frames beads 3"]
    weights: Float[Tensor, " frames"]
    frames: Int64[np.ndarray, " frames"]

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.frames)

    def take(self, index: np.ndarray) -> "ForceLabels":
        """Return the frames that an index array picks."""
        picked = torch.from_numpy(index).to(self.residual.device)
        return ForceLabels(
            self.positions_nm[picked],
            self.residual[picked],
            self.weights[picked],
            self.frames[index],
        )

    def to(self, device: torch.device) -> "ForceLabels":
        """Return the labels on a device."""
        return ForceLabels(
            self.positions_nm.to(device),
            self.residual.to(device),
            self.weights.to(device),
            self.frames,
        )


def read_labelled_frames(dataset: Dataset) -> tuple[BeadFrames, float]:
    """Return all frames that have forces, and the one temperature (K) of the dataset.

    Raises:
        InputError: no frame has forces, or the shards are of several temperatures.
    """
    temperatures = sorted({entry.label.temperature_K for entry in dataset.entries})
    if len(temperatures) > 1:
        listed = ", ".join(f"{t:g}" for t in temperatures)
        raise InputError(
            f"dataset {dataset.path} mixes temperatures of {listed} K; a coarse-grained potential "
            "is a free energy at one temperature: fit a dataset of one"
        )
    parts = [dataset.read_beads(entry) for entry in dataset.entries]
    labelled = [part for part in parts if part.forces is not None]
    if not labelled:
        raise InputError(
            f"dataset {dataset.path} has no forces; force matching needs them: import it with "
            "--forces, or sample it with al sample"
        )
    if len(labelled) < len(parts):
        logger.warning(
            "%d of %d shards have no forces and are left out",
            len(parts) - len(labelled),
            len(parts),
        )
    hamiltonians = {entry.label.hamiltonian for entry in dataset.entries}
    if len(hamiltonians) > 1:
        logger.warning("the dataset mixes the Hamiltonians %s", ", ".join(sorted(hamiltonians)))
    return concatenate(labelled), temperatures[0]


def read_population_frames(dataset: Dataset) -> BeadFrames:
    """Return the frames that priors are fitted to: those whose populations mean something.

    Segments that were seeded from chosen frames teach forces, not how often a conformation
    occurs, and would bend every Boltzmann inversion. They are used only where there is nothing
    else, which is said in the log.
    """
    entries = [entry for entry in dataset.entries if entry.label.sampling != "seeded"]
    if not entries:
        logger.warning("all shards are seeded: the priors are fitted to populations of no ensemble")
    return concatenate([dataset.read_beads(entry) for entry in entries or dataset.entries])


def make_labels(frames: BeadFrames, priors: Priors, use_weights: bool) -> ForceLabels:
    """Return the residual forces of frames with forces; prior forces are taken in float64."""
    if frames.forces is None:
        raise InputError("the frames have no forces to match")
    positions = torch.from_numpy(frames.positions_nm)
    prior = torch.cat(
        [energy_and_forces(priors, part.double())[1] for part in positions.split(EVALUATION_BATCH)]
    )
    weights = torch.ones(frames.n_frames)
    if use_weights and frames.weights is not None:
        weights = torch.from_numpy(frames.weights / frames.weights.mean()).float()
    return ForceLabels(
        positions_nm=positions,
        residual=(torch.from_numpy(frames.forces).double() - prior).float(),
        weights=weights,
        frames=np.arange(frames.n_frames),
    )


def force_error(
    predicted: Float[Tensor, "frames beads 3"], labels: ForceLabels
) -> Float[Tensor, " frames"]:
    """Return the weighted mean squared error of the components of each frame, (kJ/mol/nm)²."""
    return labels.weights * (predicted - labels.residual).square().mean(dim=(1, 2))


def mean_force_error(energy: Energy | None, labels: ForceLabels) -> float:
    """Return the loss of an energy over all frames; of no energy at all where None is given."""
    total = 0.0
    for begin in range(0, labels.n_frames, EVALUATION_BATCH):
        part = labels.take(np.arange(begin, min(begin + EVALUATION_BATCH, labels.n_frames)))
        predicted = torch.zeros_like(part.residual)
        if energy is not None:
            predicted = energy_and_forces(energy, part.positions_nm)[1]
        total += float(force_error(predicted, part).double().sum())
    return total / labels.n_frames


def batch_of_step(step: int, size: int, n_frames: int, seed: int) -> Int64[np.ndarray, " size"]:
    """Return the frames of one step's batch: epochs of shuffled frames, laid end to end."""
    places = np.arange(step * size, (step + 1) * size)
    epochs, inside = np.divmod(places, n_frames)
    return np.concatenate(
        [_shuffled(n_frames, seed, int(e))[inside[epochs == e]] for e in np.unique(epochs)]
    )


@functools.lru_cache(maxsize=4)
def _shuffled(n_frames: int, seed: int, epoch: int) -> np.ndarray:
    return numpy_generator(derive_seed(seed, "fit-epoch", 0, epoch)).permutation(n_frames)
