"""The five numbers of a published benchmark, with its flaws, so that its tables can be compared.

They are what the public code of the benchmark (BioMedAI-UCSC, CGML_Benchmark) computes for tables
of coarse-grained chignolin such as that of arXiv:2509.17208 (2025): Wasserstein-1 distances of
kernel densities (Gaussian, bandwidth of Scott 1992) on a grid. They are here for the comparison
with published values only; to judge a model use ``trajgen.analysis.evaluate``. What is wrong with
them, and kept on purpose:

1. Every 30th of the flattened frames x terms of the samples is used. With 9 bonds that is bonds
   0, 3 and 6 only, with 8 angles angles 0, 2, 4 and 6; the reference has all.
2. Bonds, angles and dihedrals are compared on the range of the reference. Density of the samples
   outside is dropped and the rest normalised, so that chains that came apart can score well.
3. The grids of TICA and of the end-to-end distance span both sets: one stray frame of the samples
   coarsens the grid for all frames.
4. The bandwidth falls with the number of values, so samples and reference are smoothed unequally:
   two sets of one ensemble have a distance where their sizes differ.
5. The bond distances that are published are below one spacing of the grid.
6. Dihedrals lie on a line: −179° is 358° from 179°.
7. TICA takes the reference as one stack of frames, as the 350 K data of the benchmark are: lagged
   pairs cross from one trajectory to the next.
8. The terms of a kind are pooled before they are compared: errors of opposite sign cancel.
9. Of each trajectory of the samples the first ⌊n/10⌋ − 1 frames and the last one are left out,
   where n is the length of the first trajectory; with n below 20 all frames stay.
10. Weights of the samples count in TICA only, those of the reference nowhere. There is no noise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.stats import gaussian_kde

from trajgen.analysis.features import (
    Feature,
    bend_angles,
    bond_lengths,
    dihedral_angles,
    end_to_end_distances,
    pair_distances,
)
from trajgen.analysis.plane import plane_wasserstein
from trajgen.analysis.tica import TicaEstimator, TicaModel
from trajgen.analysis.wasserstein import wasserstein
from trajgen.data.records import BeadFrames
from trajgen.settings import Settings

#: Points of the grid of a line, and of each axis of the plane.
LINE_POINTS, PLANE_POINTS = 100, 25

#: Frames whose pair distances are held at once; bounds the memory, changes no value.
CHUNK = 8192


class LegacyStrides(Settings):
    """Which frames and values are used; the defaults are those of the benchmark.

    They fit its reference of some 86,000 frames. A density of a few dozen values is all smoothing:
    with a reference of fewer than 50,000 frames choose 1 for the three strides of the reference,
    and a lag that is short against its trajectories (20 frames of the benchmark are 0.8 ns of its
    300 K data, by the names of the files). ``sample_values`` stays 30 wherever the number is
    compared with a published one.

    Attributes:
        lag_frames: lag of TICA in frames of the reference as given.
        reference_tica: frames of the reference in the density of slow coordinates.
        reference_internal: frames of the reference in those of bonds, angles and dihedrals.
        reference_end_to_end: frames of the reference in that of the end-to-end distance.
        sample_values: values of the samples, frames x terms flattened, in those of bonds, angles
            and dihedrals.
    """

    lag_frames: int = Field(default=20, ge=1)
    reference_tica: int = Field(default=10, ge=1)
    reference_internal: int = Field(default=50, ge=1)
    reference_end_to_end: int = Field(default=1000, ge=1)
    sample_values: int = Field(default=30, ge=1)


@dataclass(frozen=True)
class LegacyNumber:
    """One number of the benchmark; without a value there is a reason.

    Attributes:
        value: the number.
        unit: its unit.
        reason: why there is no value, None where there is one.
    """

    value: float | None
    unit: str
    reason: str | None = None


@dataclass(frozen=True)
class LegacyNumbers:
    """The five numbers of the benchmark's table.

    Attributes:
        tica: Wasserstein-1 of the densities of TIC 0 and TIC 1.
        reaction_coordinate: that of the end-to-end distance.
        bond: that of the bond lengths.
        angle: that of the bend angles.
        dihedral: that of the dihedral angles.
    """

    tica: LegacyNumber
    reaction_coordinate: LegacyNumber
    bond: LegacyNumber
    angle: LegacyNumber
    dihedral: LegacyNumber


class _NotMeasuredError(Exception):
    """Carries the reason why a number has no value to where it becomes one."""


def legacy_numbers(
    samples: BeadFrames, reference: BeadFrames, strides: LegacyStrides | None = None
) -> LegacyNumbers:
    """Return the five numbers as the benchmark computes them; see the top of this file.

    The benchmark drops whole trajectories that hold a NaN; frames of a failed chain never get
    here, so of such a chain the frames before its failure count.

    Args:
        samples: frames of the model, a trajectory for each segment.
        reference: frames of the reference, strided by the caller (the benchmark takes every 100th
            saved frame of its 300 K data, and the one array of its 350 K data as it is).
        strides: which of them are used, those of the benchmark by default.

    Raises:
        InputError: the two are of different molecules.
    """
    reference.topology.require_same(samples.topology, "the reference", "the sample set")
    chosen = strides or LegacyStrides()
    mine, theirs = legacy_sample_frames(samples), _stacked(reference)
    every = theirs.take(slice(None, None, chosen.reference_internal))

    def internal(compute: Callable[[BeadFrames], Feature]) -> Callable[[], float]:
        return lambda: _line_number(
            compute(mine).values.ravel()[:: chosen.sample_values], compute(every).values.ravel()
        )

    return LegacyNumbers(
        tica=_number("TIC units", lambda: _tica_number(mine, theirs, chosen)),
        reaction_coordinate=_number("nm", lambda: _end_to_end_number(mine, theirs, chosen)),
        bond=_number("nm", internal(bond_lengths)),
        angle=_number("rad", internal(bend_angles)),
        dihedral=_number("rad", internal(dihedral_angles)),
    )


def legacy_sample_frames(samples: BeadFrames) -> BeadFrames:
    """Return the frames of the samples that the benchmark uses, trajectory after trajectory.

    Of each trajectory the first ⌊n/10⌋ − 1 frames and the last one are left out, where n is the
    length of the first trajectory; with n below 20 all frames stay.
    """
    stack = _stacked(samples)
    if stack.n_frames == 0:
        return stack
    _, begins, lengths = np.unique(stack.segments, return_index=True, return_counts=True)
    start = max(int(lengths[0]) // 10 - 1, 0)
    if start == 0:
        return stack
    place = np.arange(stack.n_frames) - np.repeat(begins, lengths)
    return stack.take((place >= start) & (place < np.repeat(lengths, lengths) - 1))


def _tica_number(samples: BeadFrames, reference: BeadFrames, strides: LegacyStrides) -> float:
    """Return W1 of two densities on 25 x 25 points over the joint range and a tenth more."""
    estimator = TicaEstimator(strides.lag_frames)
    for features in _pair_distances(reference):
        estimator.add(features, np.zeros(len(features), np.int64), np.ones(len(features)))
    fit = estimator.fit()
    if fit.model is None:
        raise _NotMeasuredError(f"TICA has no model: {fit.reason}")
    if fit.model.projection.shape[1] < 2:
        raise _NotMeasuredError("the reference varies along one slow coordinate only")
    mine = _project(samples, fit.model)
    theirs = _project(reference.take(slice(None, None, strides.reference_tica)), fit.model)
    both = np.concatenate([mine, theirs])
    low, high = both.min(axis=0), both.max(axis=0)
    margin = 0.1 * (high - low)
    axes = np.linspace(low - margin, high + margin, PLANE_POINTS).T
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(2, -1)
    p = _density(mine.T, grid, "sample set", samples.weights)
    q = _density(theirs.T, grid, "reference")
    return plane_wasserstein(grid.T, grid.T, p, q)


def _end_to_end_number(samples: BeadFrames, reference: BeadFrames, strides: LegacyStrides) -> float:
    """Return W1 of the end-to-end distance of the longest chain, on 100 points from 0 to its max.

    The public code holds no such distance for its reaction coordinate: densities, coordinate and
    stride are those of its plot, the grid is that of its radius of gyration.
    """
    mine = _longest_end_to_end(samples)
    theirs = _longest_end_to_end(reference)
    high = max(mine.max(initial=0.0), theirs.max(initial=0.0))
    grid = np.linspace(0.0, high, LINE_POINTS)
    return _grid_distance(mine, theirs[:: strides.reference_end_to_end], grid)


def _line_number(mine: Float[np.ndarray, " a"], theirs: Float[np.ndarray, " b"]) -> float:
    """Return W1 of two densities on 100 points over the range of the reference alone."""
    if len(theirs) == 0:
        raise _NotMeasuredError("the reference has no value of this coordinate")
    return _grid_distance(mine, theirs, np.linspace(theirs.min(), theirs.max(), LINE_POINTS))


def _grid_distance(
    mine: Float[np.ndarray, " a"], theirs: Float[np.ndarray, " b"], grid: Float[np.ndarray, " n"]
) -> float:
    # The benchmark solves the transport of the grid points; on a line that is the exact distance.
    p = _density(mine[None], grid[None], "sample set")
    q = _density(theirs[None], grid[None], "reference")
    return wasserstein(grid, grid, p, q)


def _density(
    values: Float[np.ndarray, "dims n"],
    grid: Float[np.ndarray, "dims points"],
    name: str,
    weights: Float[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " points"]:
    """Return the kernel density at the points of a grid, normalised to the sum 1."""
    n_dims, n = values.shape
    if n <= n_dims:
        raise _NotMeasuredError(f"the {name} has {n} values; a density needs {n_dims + 1} or more")
    if weights is not None and not weights.sum() > 0:
        raise _NotMeasuredError(f"all weights of the {name} are zero")
    if (np.ptp(values, axis=1) == 0).any():
        raise _NotMeasuredError(f"the values of the {name} do not vary")
    try:
        density = gaussian_kde(values, weights=weights)(grid)
    except np.linalg.LinAlgError:
        raise _NotMeasuredError(f"the values of the {name} lie on one line") from None
    total = density.sum()
    if not (np.isfinite(total) and total > 0):
        raise _NotMeasuredError(f"the density of the {name} vanishes on the whole grid")
    return density / total


def _project(frames: BeadFrames, model: TicaModel) -> Float[np.ndarray, "frames 2"]:
    parts = [model.transform(features)[:, :2] for features in _pair_distances(frames)]
    return np.concatenate([np.empty((0, 2)), *parts])


def _pair_distances(frames: BeadFrames) -> Iterator[Float[np.ndarray, "frames pairs"]]:
    for start in range(0, frames.n_frames, CHUNK):
        yield pair_distances(frames.take(slice(start, start + CHUNK))).values


def _longest_end_to_end(frames: BeadFrames) -> Float[np.ndarray, " frames"]:
    values = end_to_end_distances(frames).values
    if values.shape[1] == 0:
        raise _NotMeasuredError("the molecule has no chain of two beads")
    lengths = np.unique(frames.topology.chains, return_counts=True)[1]
    return values[:, lengths[lengths > 1].argmax()]


def _stacked(frames: BeadFrames) -> BeadFrames:
    """Return the frames segment after segment."""
    if (np.diff(frames.segments) >= 0).all():
        return frames
    return frames.take(np.argsort(frames.segments, kind="stable"))


def _number(unit: str, compute: Callable[[], float]) -> LegacyNumber:
    try:
        return LegacyNumber(compute(), unit)
    except _NotMeasuredError as error:
        return LegacyNumber(None, unit, str(error))
