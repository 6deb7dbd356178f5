"""The windows that a surrogate is trained on, cut out of a dataset and split by segment."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from trajgen.data.records import BeadFrames, concatenate
from trajgen.data.splits import split_by_segment
from trajgen.data.store import Dataset
from trajgen.data.windows import Runs
from trajgen.errors import InputError
from trajgen.geometry.superposition import superposed
from trajgen.geometry.validity import check_chain
from trajgen.seeding import torch_generator
from trajgen.surrogate.bead_chain import BeadChain
from trajgen.surrogate.bonds import bond_range
from trajgen.surrogate.conditioning import forward_mask
from trajgen.surrogate.resolutions import AllHeavyAtoms, AlphaCarbons, Resolution
from trajgen.surrogate.surrogate import Molecule, SurrogateSettings, WindowTimes
from trajgen.surrogate.tokens import (
    TokenScale,
    channels_in_use,
    encode,
    reference_frames,
    superpose_on_reference,
)
from trajgen.surrogate.whitening import measure_springs, whitening

logger = logging.getLogger(__name__)

#: Frames and windows that the template and the scale of tokens are measured on, at most.
MEASURED_FRAMES = 1000
MEASURED_WINDOWS = 2000
#: They are the same in every training.
MEASURING_SEED = 0
#: Lags that are drawn, and times that the scale of tokens is measured at, in a factor of ten.
LAGS_PER_DECADE, SCALES_PER_DECADE = 16, 4
#: A lag that is asked for is met by the frames to within this share of it.
LAG_ERROR = 0.02
#: Share of windows whose last gap is shorter than a lag.
SHORTER_GAPS = 0.25


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
class DrawnWindows:
    """Windows of frames, as indices into all frames of a dataset.

    Attributes:
        frames: the frame of each cell.
        present: False for padding.
        times: when the frames are.
    """

    frames: Int64[Tensor, "windows frames"]
    present: Bool[Tensor, "windows frames"]
    times: WindowTimes


@dataclass(frozen=True)
class WindowSource:
    """What windows are drawn from.

    Attributes:
        positions_nm: all frames of the dataset, beads or atoms.
        temperature_K: temperature of each frame.
        runs: the runs of frames that windows may lie in.
        lags_ps: the lags that are drawn, each as often as the others: even in log time.
        sources: where the frames come from.
    """

    positions_nm: Float[Tensor, "all_frames sites 3"]
    temperature_K: Float[Tensor, " all_frames"]
    runs: Runs
    lags_ps: Float64[np.ndarray, " lags"]
    sources: FrameSources

    def count(self, length: int) -> int:
        """Return the number of windows at the shortest lag."""
        return self.runs.count(float(self.lags_ps[0]), length) if len(self.lags_ps) else 0

    def draw(self, count: int, length: int, generator: torch.Generator) -> DrawnWindows:
        """Draw windows of random lags and places; a quarter of them have a shorter last gap.

        That is what is left where a stretch of time is no multiple of the lag.
        """
        draws = torch.rand(4, count, generator=generator, dtype=torch.float64).numpy()
        chosen = self.lags_ps[(draws[0] * len(self.lags_ps)).astype(np.int64)]
        gaps = np.where(draws[2] < SHORTER_GAPS, draws[3], 1.0)
        windows = self.runs.draw(chosen, length, draws[1], gaps)
        frames = torch.from_numpy(windows.frames)
        times = WindowTimes(
            torch.from_numpy(windows.times_ps).float(),
            torch.from_numpy(windows.lag_ps).float(),
            self.temperature_K[frames[:, 0]],
        )
        return DrawnWindows(frames, torch.from_numpy(windows.present), times)

    def describe(self, frames: Int64[Tensor, " frames"]) -> str:
        """Say in words which window this is."""
        first, last = frames[[0, -1]].tolist()
        return f"the window from {self.sources.describe(first)} to {self.sources.describe(last)}"


@dataclass(frozen=True)
class MoleculeData:
    """Training and validation windows of one molecule, and what is known of it."""

    training: WindowSource
    validation: WindowSource
    molecule: Molecule


@dataclass(frozen=True)
class Survey:
    """What is measured of one molecule before the scale of tokens, which all share.

    Attributes:
        resolution: its sites.
        template_nm: a typical frame.
        chain: how stiff a molecule of beads is.
        tokens: tokens of a sample of windows, not normalised.
        used: channels that mean something.
        elapsed_ps: time of each token since its key frame.
        borrowed: tokens that are seen from the frame of another residue.
    """

    resolution: Resolution
    template_nm: Float[Tensor, "sites 3"]
    chain: BeadChain | None
    tokens: Float[Tensor, "cells channels"]
    used: Bool[Tensor, "cells channels"]
    elapsed_ps: Float[Tensor, " cells"]
    borrowed: Bool[Tensor, " cells"]


def read_training_data(
    datasets: Sequence[Dataset], settings: SurrogateSettings, validation_fraction: float, seed: int
) -> tuple[MoleculeData, ...]:
    """Read datasets, one a molecule, split them by segment, and measure what tokens need.

    Raises:
        InputError: a molecule has fewer than three beads or is there twice, a dataset is empty, or
            no segment of it is long enough for a window.
    """
    _require_different(datasets)
    sources = [_read_sources(d, settings, validation_fraction, seed) for d in datasets]
    surveys = [
        survey(training, _resolution(dataset, settings, training), settings.window_frames)
        for dataset, (training, _) in zip(datasets, sources, strict=True)
    ]
    elapsed_ps = torch.cat([found.elapsed_ps for found in surveys])
    scale = TokenScale.measure(
        torch.cat([found.tokens for found in surveys]),
        torch.cat([found.used for found in surveys]),
        elapsed_ps,
        torch.cat([found.borrowed for found in surveys]),
        _scale_times(elapsed_ps),
    )
    lags_ps = np.concatenate([training.lags_ps for training, _ in sources])
    temperatures = {
        t for training, _ in sources for t in training.temperature_K[training.runs.frames].tolist()
    }
    return tuple(
        MoleculeData(
            training,
            validation,
            Molecule(
                found.resolution,
                found.template_nm,
                found.chain,
                lags_ps=(float(lags_ps.min()), float(lags_ps.max())),
                temperatures_K=tuple(sorted(temperatures)),
                scale=scale,
            ),
        )
        for (training, validation), found in zip(sources, surveys, strict=True)
    )


def survey(source: WindowSource, resolution: Resolution, length: int) -> Survey:
    """Choose the template of a molecule, and sample tokens of forward simulation and of design.

    Raises:
        InputError: a frame has a chain that has come apart.
    """
    _require_whole(source, resolution)
    frames = torch.from_numpy(source.runs.frames)
    template = typical_frame(source.positions_nm[_evenly(frames, MEASURED_FRAMES)])
    windows = source.draw(MEASURED_WINDOWS, length, torch_generator(MEASURING_SEED))
    positions = source.positions_nm[windows.frames]
    residues = resolution.beads.n_beads
    shape = (*positions.shape[:2], residues)
    first = forward_mask(length, residues).expand(shape)
    reference = reference_frames(positions, first, template, resolution)
    aligned = superpose_on_reference(positions, first, reference, resolution)
    chain = None
    if isinstance(resolution, AlphaCarbons):
        bonds = torch.tensor(resolution.beads.bonds, dtype=torch.long).reshape(-1, 2)
        later = windows.present & ~first.any(dim=2)
        springs = measure_springs(bonds, aligned, reference, later)
        # The range of all training frames, and not of a sample: rare lengths are lengths too.
        chain = BeadChain(springs, bonds, bond_range(source.positions_nm[frames], bonds))
    present = windows.present[..., None]
    used = channels_in_use(resolution).expand(*shape, -1)
    elapsed_ps = windows.times.times_ps[..., None].expand(shape)
    parts = []
    for known in (first, _others_hidden(*shape)):
        hidden = ~known.any(dim=1)
        reference = reference_frames(positions, known, template, resolution, hidden)
        aligned = superpose_on_reference(positions, known, reference, resolution)
        tokens = encode(aligned, reference, resolution)
        if chain is not None:
            change = whitening(reference, chain.springs, mobile=~known.all(dim=1))
            tokens = change.whiten(tokens)
        asked = present & ~known
        borrowed = reference.borrowed[:, None].expand(shape)
        parts.append((tokens[asked], used[asked], elapsed_ps[asked], borrowed[asked]))
    return Survey(resolution, template, chain, *map(torch.cat, zip(*parts, strict=True)))


def _others_hidden(
    windows: int, frames: int, residues: int
) -> Bool[Tensor, "windows frames residues"]:
    """Return masks of design: one residue of each window is known, each in turn."""
    known = torch.arange(residues) == (torch.arange(windows) % residues)[:, None]
    return known[:, None].expand(-1, frames, -1)


def _require_different(datasets: Sequence[Dataset]) -> None:
    if not datasets:
        raise InputError("there is no dataset to train on; name at least one")
    seen: dict[object, Dataset] = {}
    for dataset in datasets:
        molecule = dataset.header.atoms or dataset.header.beads
        other = seen.get(molecule)
        seen[molecule] = dataset
        if other is not None:
            raise InputError(
                f"datasets {other.path} and {dataset.path} are of the same molecule, "
                f"{dataset.header.beads.sequence}; join them into one"
            )


def _read_sources(
    dataset: Dataset, settings: SurrogateSettings, validation_fraction: float, seed: int
) -> tuple[WindowSource, WindowSource]:
    """Return what training and validation windows of a dataset are drawn from."""
    if settings.resolution == "ca":
        AlphaCarbons(dataset.header.beads)  # raises before all frames are read
    parts = [dataset.read_beads(entry) for entry in dataset.entries]
    joined = concatenate(parts)
    for_training, for_validation = split_by_segment(joined, validation_fraction, seed)
    training, lags_ps = _lags(parts, for_training, settings)
    if not len(lags_ps):
        logger.warning("too few windows to hold any out: all frames are trained on")
        for_training, for_validation = for_training | True, for_validation & False
        training, lags_ps = _lags(parts, for_training, settings)
    if not len(lags_ps):
        raise InputError(_no_window(dataset, parts, settings))
    validation, validation_lags_ps = _lags(parts, for_validation, settings)
    if not len(validation_lags_ps) and validation_fraction > 0:
        logger.warning("no window lies in the frames held out; training goes on without validation")
    _warn_of_padding(training, float(lags_ps[0]), settings.window_frames)
    temperatures = [entry.label.temperature_K for entry in dataset.entries]
    counts = [part.n_frames for part in parts]
    everything = WindowSource(
        positions_nm=torch.from_numpy(_read_sites(dataset, settings)),
        temperature_K=torch.tensor(np.repeat(temperatures, counts), dtype=torch.float32),
        runs=training,
        lags_ps=lags_ps,
        sources=FrameSources(
            tuple(entry.label.name for entry in dataset.entries),
            tuple(np.cumsum([0, *counts[:-1]]).tolist()),
        ),
    )
    return everything, replace(everything, runs=validation, lags_ps=validation_lags_ps)


def typical_frame(positions_nm: Float[Tensor, "frames sites 3"]) -> Float[Tensor, "sites 3"]:
    """Return the frame nearest to the mean of all, which are superposed on it and on each other.

    Its centre of geometry is moved to the origin.
    """
    mean = positions_nm[0]
    for _ in range(3):
        moved = superposed(positions_nm, mean)
        mean = moved.mean(dim=0)
    nearest = (moved - mean).square().sum(dim=(1, 2)).argmin()
    return positions_nm[nearest] - positions_nm[nearest].mean(dim=0)


def _lags(
    parts: list[BeadFrames], chosen: Bool[np.ndarray, " frames"], settings: SurrogateSettings
) -> tuple[Runs, Float64[np.ndarray, " lags"]]:
    """Return the runs of chosen frames, and the lags of the settings that they have windows at."""
    runs = Runs.find(parts, chosen)
    shortest = settings.shortest_lag_ps or runs.shortest_lag_ps()
    longest = settings.longest_lag_ps or runs.longest_lag_ps(settings.window_frames)
    if shortest is None or longest is None or not len(runs.intervals_ps):
        return runs, np.zeros(0)
    nearest = np.maximum(np.round(shortest / runs.intervals_ps), 1) * runs.intervals_ps
    if (np.abs(nearest / shortest - 1) > LAG_ERROR).all():
        raise InputError(
            f"shortest_lag_ps is {shortest:g}, which is no multiple of the time between frames, "
            f"{runs.intervals_ps.min():g} ps; choose a multiple"
        )
    count = 1 + round(LAGS_PER_DECADE * abs(math.log10(longest / shortest)))
    grid = np.geomspace(shortest, max(longest, shortest), count)
    return runs, grid[[runs.count(lag_ps, settings.window_frames) > 0 for lag_ps in grid]]


def _scale_times(elapsed_ps: Tensor) -> Float[Tensor, " times"]:
    """Return the times that the scale of tokens is measured at, even in log time."""
    first, last = float(elapsed_ps[elapsed_ps > 0].min()), float(elapsed_ps.max())
    count = 1 + round(SCALES_PER_DECADE * math.log10(last / first))
    return torch.tensor(np.geomspace(first, last, count), dtype=torch.float32)


def _warn_of_padding(runs: Runs, lag_ps: float, length: int) -> None:
    longest = int(runs.draw(np.full(1, lag_ps), length, np.zeros(1)).present.sum())
    whole = (runs.lengths - 1) * runs.intervals_ps >= (length - 1) * lag_ps * (1 - 1e-9)
    if not whole.any():
        logger.warning(
            "no segment fills a window of %d frames (window_frames) at lag_ps %g; the longest part "
            "of one that is filled has %d, and the rest is padding",
            length, lag_ps, longest,
        )  # fmt: skip


def _no_window(dataset: Dataset, parts: list[BeadFrames], settings: SurrogateSettings) -> str:
    runs = Runs.find(parts)
    if not len(runs.lengths):
        return (
            f"dataset {dataset.path} has no frames with a known time step, so the surrogate has "
            "no trajectory to learn from; add frames saved at a fixed interval"
        )
    longest_ps = float(((runs.lengths - 1) * runs.intervals_ps).max())
    shortest_ps = settings.shortest_lag_ps or float(runs.intervals_ps.min())
    return (
        f"dataset {dataset.path} has no window of three frames at shortest_lag_ps "
        f"{shortest_ps:g}: its longest segment is {longest_ps:g} ps; choose a lag of at most "
        f"{longest_ps / 2:g} ps that its save interval divides, or add longer segments"
    )


def _read_sites(
    dataset: Dataset, settings: SurrogateSettings
) -> Float32[np.ndarray, "all_frames sites 3"]:
    """Read the positions of all frames: beads, or atoms but hydrogens."""
    if settings.resolution == "ca":
        return np.concatenate([dataset.read_beads(e).positions_nm for e in dataset.entries])
    if dataset.header.atoms is None:
        raise InputError(
            f"dataset {dataset.path} is of beads only, and resolution is heavy; import atoms with "
            "--resolution heavy, or train with --set model.resolution=ca"
        )
    _, kept = dataset.header.atoms.without_hydrogens()
    return np.concatenate(
        [dataset.read_atoms(e, forces=False).positions_nm[:, kept] for e in dataset.entries]
    )


def _resolution(dataset: Dataset, settings: SurrogateSettings, source: WindowSource) -> Resolution:
    if settings.resolution == "ca" or dataset.header.atoms is None:
        return AlphaCarbons(dataset.header.beads)
    heavy, _ = dataset.header.atoms.without_hydrogens()
    frames = _evenly(torch.from_numpy(source.runs.frames), MEASURED_FRAMES)
    return AllHeavyAtoms.measure(heavy, source.positions_nm[frames])


def _require_whole(windows: WindowSource, resolution: Resolution) -> None:
    bonds = torch.tensor(resolution.beads.bonds, dtype=torch.long).reshape(-1, 2)
    alpha = resolution.alpha_carbons(windows.positions_nm)
    broken = ~check_chain(alpha, bonds=bonds).not_exploded
    if bool(broken.any()):
        first = windows.sources.describe(int(broken.int().argmax()))
        raise InputError(
            f"{int(broken.sum())} frames have a chain that has come apart, first {first}; make "
            "molecules whole (no jumps over a periodic box), or remove those frames"
        )


def _evenly(rows: Tensor, limit: int) -> Tensor:
    step = max(1, -(-len(rows) // limit))
    return rows[::step]
