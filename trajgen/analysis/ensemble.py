"""The measures of one ensemble against another, from the coordinates of their frames.

Every measure is computed for the value, for its bootstrap resamples and for the halves of the
reference by the same lines: they differ in the weightings of the blocks alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from trajgen.analysis.features import Feature
from trajgen.analysis.frame_table import FrameTable
from trajgen.analysis.histograms import (
    LARGEST_JENSEN_SHANNON,
    bin_line,
    bin_plane,
    free_energy_difference,
    jensen_shannon_distance,
    joint_edges,
    reference_edges,
    torsion_edges,
)
from trajgen.analysis.measures import Distance, measures_of_rows, unmeasured
from trajgen.analysis.resampling import Weightings

#: Bins of a line and of each axis of a plane, as MDGen has them.
LINE_BINS, PLANE_BINS = 100, 50
#: Bins of each axis of the free-energy grid over the reference.
SURFACE_BINS = 25

TIC_UNIT = "TIC units"
_LINE = "exact Wasserstein-1"
_CIRCLE = "exact Wasserstein-1 on the circle"
_PLANE = "sliced Wasserstein-1 in the plane, 64 directions"
_ENERGY = "energy distance"
_JSD = "Jensen-Shannon distance"

Rows = Float[np.ndarray, "rows terms"]


@dataclass(frozen=True)
class Comparison:
    """Two tables and the weightings behind values, intervals and floors.

    Attributes:
        samples: the set to judge.
        reference: the set to judge by.
        against: weightings of the samples (first) and the reference (behind them), None where
            there are no samples.
        halves: weightings of halves of the reference.
        no_tica: why there are no slow coordinates, None where there are.
    """

    samples: FrameTable
    reference: FrameTable
    against: Weightings | None
    halves: Weightings
    no_tica: str | None

    def joined(self, pick: Callable[[FrameTable], np.ndarray]) -> np.ndarray:
        """Return an array of all frames, in the order of the weightings."""
        return np.concatenate([pick(self.samples), pick(self.reference)])


def wasserstein_distances(pair: Comparison) -> tuple[Distance, ...]:
    """Return exact Wasserstein-1 distances of slow and of internal coordinates."""
    found = list(_tica_distances(pair))
    for name, feature in pair.reference.features.items():
        method = _LINE if feature.period is None else _CIRCLE
        if not feature.labels:
            found.append(unmeasured(name, method, feature.unit, _NO_TERMS))
            continue
        rows = None
        if pair.against is not None:
            rows = pair.against.distances(pair.joined(_values(name)), feature.period)
        floor = pair.halves.distances(feature.values, feature.period)
        found.append(_distance(name, method, feature.unit, feature.labels, rows, floor))
    return tuple(found)


def energy_distances(pair: Comparison) -> tuple[Distance, ...]:
    """Return energy distances of the slowest and of the internal coordinates on the line."""
    found = [_slowest_energy(pair)]
    for name, feature in _lines(pair).items():
        unit = f"√({feature.unit})"
        if not feature.labels:
            found.append(unmeasured(f"energy_{name}", _ENERGY, unit, _NO_TERMS))
            continue
        rows = None
        if pair.against is not None:
            rows = pair.against.energy_distances(pair.joined(_values(name)))
        floor = pair.halves.energy_distances(feature.values)
        found.append(_distance(f"energy_{name}", _ENERGY, unit, feature.labels, rows, floor))
    return tuple(found)


def jensen_shannon_distances(pair: Comparison) -> tuple[Distance, ...]:
    """Return Jensen-Shannon distances, binned as MDGen bins torsions and slow coordinates.

    Where there are backbone and side-chain torsions, ``jensen_shannon_torsions`` is of both.
    """
    names = [name for name, f in pair.reference.features.items() if f.period is not None]
    groups = {name: [name] for name in names}
    if {"backbone", "side_chain"} <= set(names):
        groups["torsions"] = ["backbone", "side_chain"]
    return (
        *(_torsion_distance(pair, group, parts) for group, parts in groups.items()),
        *_jensen_shannon_of_tics(pair),
    )


def _torsion_distance(pair: Comparison, group: str, parts: Sequence[str]) -> Distance:
    name, method = f"jensen_shannon_{group}", f"{_JSD}, {LINE_BINS} bins on the circle"
    labels = [label for part in parts for label in pair.reference.features[part].labels]
    if not labels:
        return unmeasured(name, method, "1", _NO_TERMS)
    edges = torsion_edges(LINE_BINS)
    columns = [column for part in parts for column in pair.joined(_values(part)).T]
    bins = np.stack([bin_line(column, edges) for column in columns], axis=1)
    return _of_histograms(pair, name, method, labels, bins, LINE_BINS)


def _jensen_shannon_of_tics(pair: Comparison) -> tuple[Distance, Distance]:
    line = ("jensen_shannon_tica_0", f"{_JSD}, {LINE_BINS} bins over the joint range")
    plane = ("jensen_shannon_tica_2d", f"{_JSD}, {PLANE_BINS} x {PLANE_BINS} bins, joint range")
    if pair.reference.tics is None:
        reason = pair.no_tica or ""
        return unmeasured(*line, "1", reason), unmeasured(*plane, "1", reason)
    tics = _tics(pair)
    mine, theirs = np.split(tics, [pair.samples.n_frames])
    first = bin_line(tics[:, 0], joint_edges(mine[:, 0], theirs[:, 0], LINE_BINS))
    slowest = _of_histograms(pair, *line, ("TIC 0",), first[:, None], LINE_BINS)
    if tics.shape[1] < 2:
        return slowest, unmeasured(*plane, "1", _ONE_SLOW)
    grid = [joint_edges(mine[:, axis], theirs[:, axis], PLANE_BINS) for axis in (0, 1)]
    flat = bin_plane(tics[:, :2], grid[0], grid[1])
    both = ("TIC 0 and TIC 1",)
    return slowest, _of_histograms(pair, *plane, both, flat[:, None], PLANE_BINS**2)


def free_energy_distance(pair: Comparison) -> tuple[Distance, int]:
    """Return the root mean square free energy difference on a grid over the reference.

    The second number is that of the bins that the reference visits and the samples never do.
    """
    name = "free_energy_tica_2d"
    method = f"root mean square of Δ(−ln p), {SURFACE_BINS} x {SURFACE_BINS} bins of the reference"
    if pair.reference.tics is None:
        return unmeasured(name, method, "kT", pair.no_tica or ""), 0
    tics = _tics(pair)
    if tics.shape[1] < 2:
        return unmeasured(name, method, "kT", _ONE_SLOW), 0
    n = pair.samples.n_frames
    edges = [reference_edges(tics[n:, axis], SURFACE_BINS, 0.0) for axis in (0, 1)]
    bins = bin_plane(tics[:, :2], edges[0], edges[1])

    def difference(weightings: Weightings, bins: np.ndarray, n_frames: int) -> tuple[Rows, int]:
        mine, theirs = weightings.histograms(bins, SURFACE_BINS**2)
        rows, unvisited = free_energy_difference(mine, theirs, np.ones(len(mine)), n_frames)
        return rows[:, None], int(unvisited[0])

    rows, unvisited = None, 0
    if pair.against is not None:
        rows, unvisited = difference(pair.against, bins, n)
    floor, _ = difference(pair.halves, bins[n:], max(pair.reference.n_frames // 2, 1))
    return _distance(name, method, "kT", ("TIC 0 and TIC 1",), rows, floor), unvisited


def contact_distance(pair: Comparison) -> Distance:
    """Return the mean absolute difference of contact probabilities, pair by pair and pooled."""
    labels = pair.reference.contact_labels
    method = "absolute difference of contact probabilities"
    if not labels:
        return unmeasured("contacts", method, "1", _NO_TERMS)
    rows = None
    if pair.against is not None:
        mine, theirs = pair.against.sides
        n_blocks = len(pair.samples.contacts)
        total = pair.reference.contacts.sum(axis=0, keepdims=True)
        rows = np.abs(mine[:, :n_blocks] @ pair.samples.contacts - theirs[:, n_blocks:] @ total)
    one, other = pair.halves.sides
    floor = np.abs(one @ pair.reference.contacts - other @ pair.reference.contacts)
    return _distance("contacts", method, "1", labels, rows, floor, 1.0)


_NO_TERMS = "the molecule is too short for this coordinate, or its residues have none"
_ONE_SLOW = "the reference varies along one slow coordinate only"


def _tica_distances(pair: Comparison) -> tuple[Distance, Distance]:
    if pair.reference.tics is None:
        reason = pair.no_tica or ""
        return (
            unmeasured("tica_2d", _PLANE, TIC_UNIT, reason),
            unmeasured("tica_0", _LINE, TIC_UNIT, reason),
        )
    both, of_reference = _tics(pair), pair.reference.tics
    against, halves = pair.against, pair.halves
    rows = None if against is None else against.distances(both[:, :1], None)
    floor = halves.distances(of_reference[:, :1], None)
    line = _distance("tica_0", _LINE, TIC_UNIT, ("TIC 0",), rows, floor)
    if both.shape[1] < 2:
        return unmeasured("tica_2d", _PLANE, TIC_UNIT, _ONE_SLOW), line
    rows = None if against is None else against.sliced_distances(both[:, :2])
    floor = halves.sliced_distances(of_reference[:, :2])
    plane = _distance("tica_2d", _PLANE, TIC_UNIT, ("TIC 0 and TIC 1",), rows, floor)
    return plane, line


def _slowest_energy(pair: Comparison) -> Distance:
    name, unit = "energy_tica_0", f"√({TIC_UNIT})"
    if pair.reference.tics is None:
        return unmeasured(name, _ENERGY, unit, pair.no_tica or "")
    first = _tics(pair)[:, :1]
    rows = None if pair.against is None else pair.against.energy_distances(first)
    floor = pair.halves.energy_distances(pair.reference.tics[:, :1])
    return _distance(name, _ENERGY, unit, ("TIC 0",), rows, floor)


def _of_histograms(
    pair: Comparison,
    name: str,
    method: str,
    labels: Sequence[str],
    bins: Int[np.ndarray, "frames terms"],
    n_bins: int,
) -> Distance:
    """Return the Jensen-Shannon distance of binned frames, term by term and pooled."""

    def rows_of(weightings: Weightings, bins: np.ndarray) -> Rows:
        columns = [
            jensen_shannon_distance(*weightings.histograms(column, n_bins)) for column in bins.T
        ]
        return np.stack(columns, axis=1)

    rows = None if pair.against is None else rows_of(pair.against, bins)
    floor = rows_of(pair.halves, bins[pair.samples.n_frames :])
    largest = LARGEST_JENSEN_SHANNON
    return _distance(name, method, "1", tuple(labels), rows, floor, largest)


def _lines(pair: Comparison) -> dict[str, Feature]:
    """Return the coordinates of the reference that lie on a line."""
    return {n: f for n, f in pair.reference.features.items() if f.period is None}


def _values(name: str) -> Callable[[FrameTable], np.ndarray]:
    return lambda table: table.features[name].values


def _tics(pair: Comparison) -> Float[np.ndarray, "frames tics"]:
    return pair.joined(lambda table: table.tics)  # type: ignore[arg-type, return-value]


def _distance(
    name: str,
    method: str,
    unit: str,
    labels: tuple[str, ...],
    rows: Rows | None,
    floor: Float[np.ndarray, "splits terms"],
    largest: float = math.inf,
) -> Distance:
    """Turn rows (the value, then its resamples) and floors into measures, per term and pooled."""
    mean_rows = None if rows is None else rows.mean(axis=1, keepdims=True)
    mean_floor = floor.mean(axis=1, keepdims=True)
    (pooled,) = measures_of_rows(("mean over terms",), unit, mean_rows, mean_floor, largest)
    return Distance(name, method, pooled, measures_of_rows(labels, unit, rows, floor, largest))
