"""What the network is trained on: mapped forces minus the forces of the priors, frame by frame."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from trajgen.data.records import BeadFrames, concatenate, join_chunks, segments_apart
from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.potential.committee import Committee
from trajgen.potential.energy import Energy, energy_and_forces, evaluation_batch
from trajgen.potential.label_weights import inverse_variance_weights
from trajgen.potential.priors import Priors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledFrames:
    """The frames of a dataset that have forces.

    Attributes:
        frames: the frames, in the order of the manifest.
        shards: for each frame the place of its shard in the manifest.
        temperature_K: the one temperature of the dataset.
    """

    frames: BeadFrames
    shards: Int64[np.ndarray, " frames"]
    temperature_K: float


@dataclass(frozen=True)
class ForceLabels:
    """Training data of the network: frames, or a batch of frames for each member.

    Attributes:
        positions_nm: coordinates, float32.
        residual: mapped forces minus prior forces, kJ/mol/nm, float32.
        weights: weight of each frame in the loss, one on average over all frames.
        frames: index of each frame among the frames they were made of.
    """

    positions_nm: Float[Tensor, "*frames beads 3"]
    residual: Float[Tensor, "*frames beads 3"]
    weights: Float[Tensor, "*frames"]
    frames: Int64[np.ndarray, "*frames"]

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.frames)

    def take(self, index: Int64[np.ndarray, "*picked"]) -> "ForceLabels":
        """Return the frames that an index array picks, in its shape."""
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


def read_labelled_frames(dataset: Dataset) -> LabelledFrames:
    """Return all frames that have forces.

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
    read = [dataset.read_beads(entry) for entry in dataset.entries]
    segments = segments_apart(
        [part.segments for part in read], [entry.label.continues for entry in dataset.entries]
    )
    parts = [replace(part, segments=own) for part, own in zip(read, segments, strict=True)]
    places = [place for place, part in enumerate(parts) if part.forces is not None]
    labelled = [parts[place] for place in places]
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
    shards = np.repeat(np.array(places, dtype=np.int64), [part.n_frames for part in labelled])
    return LabelledFrames(join_chunks(labelled), shards, temperatures[0])


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


def is_equilibrium(dataset: Dataset) -> bool:
    """Say whether the frames are an equilibrium sample, with weights if need be.

    One shard that was seeded from chosen frames is enough to make them none, which is logged.
    """
    seeded = sum(entry.label.sampling == "seeded" for entry in dataset.entries)
    if seeded:
        logger.info(
            "%d of %d shards are seeded: the ensemble is not matched, only the forces",
            seeded,
            len(dataset.entries),
        )
    return not seeded


def make_labels(
    frames: BeadFrames, priors: Priors, use_weights: bool, variance_floor: float | None = None
) -> ForceLabels:
    """Return the residual forces of frames with forces; prior forces are taken in float64.

    Args:
        frames: frames with forces.
        priors: what is taken off them.
        use_weights: weigh frames by their statistical weights.
        variance_floor: weigh frames by the noise of their labels, where that is known; see
            ``inverse_variance_weights``. None leaves it out.
    """
    if frames.forces is None:
        raise InputError("the frames have no forces to match")
    positions = torch.from_numpy(frames.positions_nm)
    at_once = evaluation_batch(frames.topology.n_beads)
    prior = torch.cat(
        [energy_and_forces(priors, part.double())[1] for part in positions.split(at_once)]
    )
    residual = torch.from_numpy(frames.forces).double() - prior
    weights = np.ones(frames.n_frames)
    if use_weights and frames.weights is not None:
        weights = weights * frames.weights
    if variance_floor is not None and frames.force_variance is not None:
        square = residual.square().mean(dim=(1, 2)).numpy()
        variance = np.asarray(frames.force_variance, dtype=np.float64)
        weights = weights * inverse_variance_weights(variance, square, variance_floor)
    return ForceLabels(
        positions_nm=positions,
        residual=residual.float(),
        weights=torch.from_numpy(weights / weights.mean()).float(),
        frames=np.arange(frames.n_frames),
    )


def force_error(
    predicted: Float[Tensor, "*frames beads 3"], labels: ForceLabels
) -> Float[Tensor, "*frames"]:
    """Return the weighted mean squared error of the components of each frame, (kJ/mol/nm)²."""
    return labels.weights * (predicted - labels.residual).square().mean(dim=(-2, -1))


def mean_force_error(energy: Energy | None, labels: ForceLabels) -> float:
    """Return the loss of an energy over all frames; of no energy at all where None is given."""
    total = 0.0
    members = len(energy.members) if isinstance(energy, Committee) else 1
    at_once = evaluation_batch(labels.residual.shape[-2], members)
    for begin in range(0, labels.n_frames, at_once):
        part = labels.take(np.arange(begin, min(begin + at_once, labels.n_frames)))
        predicted = torch.zeros_like(part.residual)
        if energy is not None:
            predicted = energy_and_forces(energy, part.positions_nm)[1]
        total += float(force_error(predicted, part).double().sum())
    return total / labels.n_frames
