"""The windows that a surrogate is trained on, cut out of a dataset and split by segment."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trajgen.data.records import BeadFrames, concatenate
from trajgen.data.splits import split_by_segment
from trajgen.data.store import Dataset
from trajgen.data.topology import BeadTopology
from trajgen.data.windows import Windows, find_windows
from trajgen.errors import InputError
from trajgen.geometry.superposition import superposed
from trajgen.geometry.validity import check_chain
from trajgen.surrogate.bonds import bond_range
from trajgen.surrogate.conditioning import forward_mask
from trajgen.surrogate.surrogate import Molecule, SurrogateSettings
from trajgen.surrogate.tokens import (
    MIN_BEADS,
    TokenScale,
    encode,
    reference_frames,
    superpose_on_reference,
)
from trajgen.surrogate.whitening import measure_springs, whitening

logger = logging.getLogger(__name__)

#: Frames and windows that the template and the scale of tokens are measured on, at most.
MEASURED_FRAMES = 1000
MEASURED_WINDOWS = 2000


@dataclass(frozen=True)
class FrameSources:
    """Which shard each frame of a dataset came from: shard names and where each one begins."""

    shards: tuple[str, ...]
    begins: tuple[int, ...]

    def describe(self, frame: int) -> str:
        """Name the shard of a frame and its place in it."""
        shard = int(np.searchsorted(self.begins, frame, side="right")) - 1
        return f"frame {frame - self.begins[shard]} of shard {self.shards[shard]}"


@dataclass(frozen=True)
class WindowSet:
    """Windows of frames, as indices into all frames of a dataset.

    Attributes:
        positions_nm: all frames of the dataset.
        frames: the frame of each cell of each window.
        present: False for padding.
        sources: where the frames come from.
    """

    positions_nm: Float[Tensor, "all_frames beads 3"]
    frames: Int64[Tensor, "windows frames"]
    present: Bool[Tensor, "windows frames"]
    sources: FrameSources

    @property
    def n_windows(self) -> int:
        """The number of windows."""
        return len(self.frames)

    def take(self, index: Tensor) -> "WindowSet":
        """Return the windows that ``index`` picks."""
        return WindowSet(self.positions_nm, self.frames[index], self.present[index], self.sources)

    def positions(self) -> Float[Tensor, "windows frames beads 3"]:
        """Return the coordinates of all windows, nm."""
        return self.positions_nm[self.frames]

    def describe(self, window: int) -> str:
        """Say in words which window this is."""
        first, last = self.frames[window][[0, -1]].tolist()
        return f"the window from {self.sources.describe(first)} to {self.sources.describe(last)}"


@dataclass(frozen=True)
class TrainingData:
    """Training and validation windows, and what is measured on the former."""

    training: WindowSet
    validation: WindowSet
    molecule: Molecule

    @property
    def n_frames(self) -> int:
        """The number of frames in the dataset."""
        return len(self.training.positions_nm)


def read_training_data(
    dataset: Dataset,
    settings: SurrogateSettings,
    window_shift: int,
    validation_fraction: float,
    seed: int,
) -> TrainingData:
    """Cut a dataset into windows at the lag of the settings and split them by segment.

    Raises:
        InputError: the molecule has fewer than three beads, the dataset is empty, has shards of
            different temperature, or no segment is long enough for a window.
    """
    topology = dataset.header.beads
    if topology.n_beads < MIN_BEADS:
        raise InputError(
            f"dataset {dataset.path} is of {topology.n_beads} beads; the surrogate makes rigid "
            f"frames of three consecutive beads and needs at least {MIN_BEADS}"
        )
    parts = [dataset.read_beads(entry) for entry in dataset.entries]
    joined = concatenate(parts)
    windows = find_windows(parts, settings.lag_ps, settings.window_frames, window_shift)
    if windows.n_windows == 0:
        raise InputError(_no_window(dataset, parts, settings.lag_ps))
    if not windows.present.all(axis=1).any():
        longest = int(windows.present.sum(axis=1).max())
        logger.warning(
            "no segment fills a window of %d frames (window_frames); the longest part of one that "
            "is filled has %d, and the rest is padding",
            settings.window_frames, longest,
        )  # fmt: skip
    chosen, held_out = _split_windows(windows, joined, validation_fraction, seed)
    begins = np.cumsum([0, *(part.n_frames for part in parts[:-1])])
    everything = WindowSet(
        positions_nm=torch.from_numpy(joined.positions_nm),
        frames=torch.from_numpy(windows.frames),
        present=torch.from_numpy(windows.present),
        sources=FrameSources(
            tuple(entry.label.name for entry in dataset.entries), tuple(begins.tolist())
        ),
    )
    _require_whole(everything, topology)
    training = everything.take(torch.from_numpy(chosen))
    molecule = measure_molecule(training, topology, _temperature_K(dataset))
    return TrainingData(training, everything.take(torch.from_numpy(held_out)), molecule)


def measure_molecule(windows: WindowSet, topology: BeadTopology, temperature_K: float) -> Molecule:
    """Choose the template and measure the scale of tokens, as forward simulation has them."""
    frames = _evenly(torch.unique(windows.frames), MEASURED_FRAMES)
    template = typical_frame(windows.positions_nm[frames])
    sample = windows.take(_evenly(torch.arange(windows.n_windows), MEASURED_WINDOWS))
    positions = sample.positions()
    known = forward_mask(positions.shape[1], topology.n_beads).expand(positions.shape[:3])
    reference = reference_frames(positions, known, template)
    aligned = superpose_on_reference(positions, known, reference)
    asked = sample.present & ~known.any(dim=2)
    bonds = torch.tensor(topology.bonds, dtype=torch.long).reshape(-1, 2)
    springs = measure_springs(bonds, aligned, reference, asked)
    change = whitening(reference, springs, mobile=torch.ones_like(reference.own))
    scale = TokenScale.measure(change.whiten(encode(aligned, reference))[asked].flatten(0, 1))
    # The range of all training frames, and not of a sample: rare lengths are lengths too.
    bond_range_nm = bond_range(windows.positions_nm[torch.unique(windows.frames)], bonds)
    return Molecule(topology, temperature_K, template, springs, scale, bond_range_nm)


def typical_frame(positions_nm: Float[Tensor, "frames beads 3"]) -> Float[Tensor, "beads 3"]:
    """Return the frame nearest to the mean of all, which are superposed on it and on each other.

    Its centre of geometry is moved to the origin.
    """
    mean = positions_nm[0]
    for _ in range(3):
        moved = superposed(positions_nm, mean)
        mean = moved.mean(dim=0)
    nearest = (moved - mean).square().sum(dim=(1, 2)).argmin()
    return positions_nm[nearest] - positions_nm[nearest].mean(dim=0)


def _split_windows(
    windows: Windows, joined: BeadFrames, validation_fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " training"], Int64[np.ndarray, " validation"]]:
    """Put windows whose frames are all of one side on that side; the few others are left out."""
    for_training, for_validation = split_by_segment(joined, validation_fraction, seed)
    training = np.flatnonzero(for_training[windows.frames].all(axis=1))
    validation = np.flatnonzero(for_validation[windows.frames].all(axis=1))
    if len(training) == 0:
        logger.warning("too few windows to hold any out: all %d are trained on", windows.n_windows)
        return np.arange(windows.n_windows), validation[:0]
    if len(validation) == 0 and validation_fraction > 0:
        logger.warning("no window lies in the frames held out; training goes on without validation")
    return training, validation


def _no_window(dataset: Dataset, parts: list[BeadFrames], lag_ps: float) -> str:
    longest = max(
        (
            (np.unique(part.segments, return_counts=True)[1].max() - 1) * part.time_step_ps
            for part in parts
            if part.time_step_ps is not None
        ),
        default=None,
    )
    if longest is None:
        return (
            f"dataset {dataset.path} has no frames with a known time step, so the surrogate has "
            "no trajectory to learn from; add frames saved at a fixed interval"
        )
    return (
        f"dataset {dataset.path} has no window of three frames at lag_ps {lag_ps:g}: its longest "
        f"segment is {longest:g} ps; choose a lag of at most {longest / 2:g} ps, or add longer "
        "segments"
    )


def _require_whole(windows: WindowSet, topology: BeadTopology) -> None:
    bonds = torch.tensor(topology.bonds, dtype=torch.long).reshape(-1, 2)
    broken = ~check_chain(windows.positions_nm, bonds=bonds).not_exploded
    if bool(broken.any()):
        first = windows.sources.describe(int(broken.int().argmax()))
        raise InputError(
            f"{int(broken.sum())} frames have a chain that has come apart, first {first}; make "
            "molecules whole (no jumps over a periodic box), or remove those frames"
        )


def _temperature_K(dataset: Dataset) -> float:
    temperatures = sorted({entry.label.temperature_K for entry in dataset.entries})
    if len(temperatures) > 1:
        raise InputError(
            f"dataset {dataset.path} has shards of {temperatures[0]:g} K and of "
            f"{temperatures[-1]:g} K; the surrogate is trained on one temperature"
        )
    return temperatures[0]


def _evenly(rows: Tensor, limit: int) -> Tensor:
    step = max(1, -(-len(rows) // limit))
    return rows[::step]
