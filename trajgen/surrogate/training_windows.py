"""The windows that a surrogate is trained on, cut out of a dataset and split by segment."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trajgen.data.splits import split_timeline
from trajgen.data.store import Dataset
from trajgen.data.stored_positions import StoredPositions
from trajgen.data.timeline import Timeline
from trajgen.data.windows import Runs
from trajgen.errors import InputError
from trajgen.surrogate.balance import start_weights
from trajgen.surrogate.base_noise import Relaxations
from trajgen.surrogate.conditioning import TaskSettings
from trajgen.surrogate.encoded_windows import Molecule
from trajgen.surrogate.equilibrium import (
    equilibrium_runs,
    equilibrium_weights,
    reversible_shards,
)
from trajgen.surrogate.resolutions import AllHeavyAtoms, AlphaCarbons, Resolution
from trajgen.surrogate.surrogate import SurrogateSettings
from trajgen.surrogate.survey import MEASURED_FRAMES, Survey, survey
from trajgen.surrogate.tokens import TokenScale, channels_that_change
from trajgen.surrogate.window_source import WindowPool, WindowSource

logger = logging.getLogger(__name__)

#: Lags that are drawn, and times that the scale of tokens is measured at, in a factor of ten.
LAGS_PER_DECADE, SCALES_PER_DECADE = 16, 4
#: A lag that is asked for is met by the frames to within this share of it.
LAG_ERROR = 0.02


@dataclass(frozen=True)
class MoleculeData:
    """Training and validation windows of one molecule, and what is known of it."""

    training: WindowSource
    validation: WindowSource
    molecule: Molecule


def read_training_data(
    datasets: Sequence[Dataset],
    settings: SurrogateSettings,
    tasks: TaskSettings,
    validation_fraction: float,
    balance: float,
    seed: int,
    backward: bool = False,
) -> tuple[MoleculeData, ...]:
    """Open datasets, one a molecule, split them by segment, and measure what tokens need.

    Frames stay in their files, and are gone through once or twice.

    Args:
        datasets: trajectories of one molecule each.
        settings: what the surrogate is a model of.
        tasks: how often each task is wanted.
        validation_fraction: share of frames held out.
        balance: how much more often windows begin in rare states, see ``start_weights``.
        seed: base of the split and of the states.
        backward: whether half of the windows at equilibrium go backward.

    Raises:
        InputError: a molecule has fewer than three beads or is there twice, a dataset is empty, or
            no segment of it is long enough for a window, the lags are none of its frames, or design
            is wanted of one molecule alone.
    """
    _require_different(datasets)
    if len(datasets) == 1 and tasks.design > 0:
        raise InputError(
            f"tasks.design is {tasks.design:g} and there is one molecule alone, but what residues "
            "look like is learnt from how molecules differ; name datasets of several, or set "
            "tasks.design=0"
        )
    sources = [_read_sources(d, settings, validation_fraction, seed, backward) for d in datasets]
    resolutions = [
        _resolution(dataset, settings, training)
        for dataset, (training, _) in zip(datasets, sources, strict=True)
    ]
    share = 1 / len(datasets)
    surveys = [
        survey(training, resolution, settings.window_frames, share)
        for resolution, (training, _) in zip(resolutions, sources, strict=True)
    ]
    scale = _scale_of(surveys)
    relaxations = None
    if settings.base == "correlated":
        changes = channels_that_change(resolutions[0])
        relaxations = Relaxations.fit(scale.times_ps, scale.std[:-1], changes)
    lags_ps = np.concatenate([training.starts.lags_ps for training, _ in sources])
    # Some molecules may have frames at equilibrium where others have none.
    possible = tasks
    if all(training.ensemble is None for training, _ in sources):
        possible = tasks.with_known_start()
    temperatures = {
        temperature
        for training, _ in sources
        for temperature in training.temperatures_K[_shards_of_starts(training)].tolist()
    }
    return tuple(
        MoleculeData(
            _balanced(training, found.resolution, balance, seed),
            validation,
            Molecule(
                found.resolution,
                found.template_nm,
                found.chain,
                lags_ps=(float(lags_ps.min()), float(lags_ps.max())),
                temperatures_K=tuple(sorted(temperatures)),
                scale=scale,
                relaxations=relaxations,
                tasks=possible.wanted(),
                alone=len(datasets) == 1,
            ),
        )
        for (training, validation), found in zip(sources, surveys, strict=True)
    )


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
    dataset: Dataset,
    settings: SurrogateSettings,
    validation_fraction: float,
    seed: int,
    backward: bool,
) -> tuple[WindowSource, WindowSource]:
    """Return what training and validation windows of a dataset are drawn from."""
    if not dataset.entries:
        raise InputError(f"dataset {dataset.path} is empty; append frames first")
    timeline = dataset.read_timeline()
    for_training, for_validation = split_timeline(timeline, validation_fraction, seed)
    reversible = backward & reversible_shards(dataset)
    starts = _starts(for_training, reversible, settings)
    if not len(starts.lags_ps):
        logger.warning("too few windows to hold any out: all frames are trained on")
        for_training, for_validation = split_timeline(timeline, 0.0, seed)
        starts = _starts(for_training, reversible, settings)
    if not len(starts.lags_ps):
        raise InputError(_no_window(dataset, timeline, settings))
    _warn_of_padding(starts, settings.window_frames)
    weights = equilibrium_weights(dataset)

    def pool(runs: Runs) -> WindowPool:
        """Return runs, and those of the lags that windows of them begin at."""
        served = [runs.serves(lag_ps, settings.window_frames) for lag_ps in starts.lags_ps]
        return WindowPool(runs, starts.lags_ps[served])

    def ensemble(chosen: Timeline) -> WindowPool | None:
        found = pool(equilibrium_runs(chosen, weights, reversible))
        return found if len(found.lags_ps) else None

    temperatures = [entry.label.temperature_K for entry in dataset.entries]
    training = WindowSource(
        positions=_positions(dataset, settings),
        temperatures_K=torch.tensor(temperatures, dtype=torch.float32),
        starts=starts,
        ensemble=ensemble(for_training),
    )
    held_out = pool(Runs.find(for_validation, reversible))
    validation = replace(training, starts=held_out, ensemble=ensemble(for_validation))
    if not len(held_out.lags_ps) and validation_fraction > 0:
        logger.warning("no window lies in the frames held out; training goes on without validation")
    if training.ensemble is None:
        logger.warning(
            "dataset %s has no trajectory in equilibrium: of its molecule only tasks with a known "
            "first frame are trained (forward, interpolate, upsample)", dataset.path
        )  # fmt: skip
    return training, validation


def _shards_of_starts(source: WindowSource) -> Int64[Tensor, " shards"]:
    """Return the shards that windows may begin in."""
    return source.positions.shard_of(torch.from_numpy(source.starts.runs.frames.firsts)).unique()


def _balanced(
    source: WindowSource, resolution: Resolution, balance: float, seed: int
) -> WindowSource:
    if balance == 0:
        return source
    runs = source.starts.runs
    weights = start_weights(source, resolution, balance, seed)
    return replace(source, starts=replace(source.starts, runs=replace(runs, weights=weights)))


def _starts(
    timeline: Timeline, reversible: Bool[np.ndarray, " shards"], settings: SurrogateSettings
) -> WindowPool:
    """Return the runs of a timeline, and the lags of the settings that they have windows at."""
    runs = Runs.find(timeline, reversible)
    shortest = settings.shortest_lag_ps or runs.shortest_lag_ps()
    longest = settings.longest_lag_ps or runs.longest_lag_ps(settings.window_frames)
    if shortest is None or longest is None or not len(runs.intervals_ps):
        return WindowPool(runs, np.zeros(0))
    if longest < shortest * (1 - LAG_ERROR) and settings.longest_lag_ps is not None:
        raise InputError(
            f"longest_lag_ps is {longest:g}, which is below the time between frames, "
            f"{shortest:g} ps; choose that or a longer one, or leave it out"
        )
    nearest = np.maximum(np.round(shortest / runs.intervals_ps), 1) * runs.intervals_ps
    if (np.abs(nearest / shortest - 1) > LAG_ERROR).all():
        raise InputError(
            f"shortest_lag_ps is {shortest:g}, which is no multiple of the time between frames, "
            f"{runs.intervals_ps.min():g} ps; choose a multiple"
        )
    count = 1 + round(LAGS_PER_DECADE * abs(math.log10(longest / shortest)))
    grid = np.geomspace(shortest, max(longest, shortest), count)
    served = [runs.count(lag_ps, settings.window_frames) > 0 for lag_ps in grid]
    return WindowPool(runs, grid[served])


def _scale_of(surveys: Sequence[Survey]) -> TokenScale:
    """Measure the scale of the tokens of all molecules."""
    elapsed_ps = torch.cat([found.elapsed_ps for found in surveys])
    return TokenScale.measure(
        torch.cat([found.tokens for found in surveys]),
        torch.cat([found.used for found in surveys]),
        elapsed_ps,
        torch.cat([found.borrowed for found in surveys]),
        _scale_times(elapsed_ps),
    )


def _scale_times(elapsed_ps: Tensor) -> Float[Tensor, " times"]:
    """Return the times that the scale of tokens is measured at, even in log time."""
    first, last = float(elapsed_ps[elapsed_ps > 0].min()), float(elapsed_ps.max())
    count = 1 + round(SCALES_PER_DECADE * math.log10(last / first))
    return torch.tensor(np.geomspace(first, last, count), dtype=torch.float32)


def _warn_of_padding(pool: WindowPool, length: int) -> None:
    runs, lag_ps = pool.runs, float(pool.lags_ps[0])
    longest = int(runs.draw(np.full(1, lag_ps), length, np.zeros(1)).present.sum())
    whole = (runs.lengths - 1) * runs.intervals_ps >= (length - 1) * lag_ps * (1 - 1e-9)
    if not whole.any():
        logger.warning(
            "no segment fills a window of %d frames (window_frames) at lag_ps %g; the longest part "
            "of one that is filled has %d, and the rest is padding",
            length, lag_ps, longest,
        )  # fmt: skip


def _no_window(dataset: Dataset, timeline: Timeline, settings: SurrogateSettings) -> str:
    runs = Runs.find(timeline)
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


def _positions(dataset: Dataset, settings: SurrogateSettings) -> StoredPositions:
    """Return the positions of beads, or of atoms but hydrogens."""
    if settings.resolution == "ca":
        return StoredPositions.of_beads(dataset)
    if dataset.header.atoms is None:
        raise InputError(
            f"dataset {dataset.path} is of beads only, and resolution is heavy; import atoms with "
            "--resolution heavy, or train with --set model.resolution=ca"
        )
    _, kept = dataset.header.atoms.without_hydrogens()
    return StoredPositions.of_atoms(dataset, torch.tensor(kept))


def _resolution(dataset: Dataset, settings: SurrogateSettings, source: WindowSource) -> Resolution:
    if settings.resolution == "ca" or dataset.header.atoms is None:
        return AlphaCarbons(dataset.header.beads)
    heavy, _ = dataset.header.atoms.without_hydrogens()
    return AllHeavyAtoms.measure(heavy, source.sample(MEASURED_FRAMES))
