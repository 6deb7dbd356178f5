"""Transition paths between two states, judged by the Markov state model of a reference.

The measures are those of MDGen (Jing, Stärk, Jaakkola, Berger 2024, NeurIPS): the probability of
a generated path under the reference conditioned on both ends, the share of paths that are possible
at all, and how far the states that the paths visit are from those of sampled reference paths. One
step of a path is one lag of the model; the caller thins paths to that.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from trajgen.analysis.bridges import (
    are_connected,
    log_path_probability,
    path_probability,
    require_transition_matrix,
    sample_bridges,
)
from trajgen.analysis.histograms import LARGEST_JENSEN_SHANNON, jensen_shannon_distance
from trajgen.analysis.measures import Measure
from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator

#: Reference paths that generated ones are compared with, as in MDGen.
BRIDGES = 1000

#: Bootstrap resamples of the paths, and independent pairs of reference samples behind the floor.
RESAMPLES = 200
FLOOR_SAMPLES = 10

#: Fluxes up to this one count as zero, as in MDGen.
SMALLEST_FLUX = 1e-7

#: Label, unit and largest value of each measure.
_MEASURES = (
    ("valid paths", "share", 1.0),
    ("mean path probability", "probability", 1.0),
    ("states visited", "Jensen-Shannon distance", LARGEST_JENSEN_SHANNON),
)


@dataclass(frozen=True)
class StatePair:
    """Two states to join by paths; without a pair there is a reason.

    Attributes:
        start: the state that paths leave, None where there is no pair.
        end: the state that they reach.
        flux: the flux between them (per lag).
        reason: why there is no pair, None where there is one.
    """

    start: int | None
    end: int | None
    flux: float | None
    reason: str | None = None


@dataclass(frozen=True)
class PathMeasures:
    """How good generated paths between two states are.

    Attributes:
        valid_share: share of paths of a probability above zero.
        mean_probability: mean of the paths' probabilities.
        occupancy_distance: Jensen-Shannon distance of the states that the paths visit from those
            that reference paths visit; its floor is that of reference paths, as many as there are
            generated ones, from others.
        bridge_probability: mean probability of the reference paths, what ``mean_probability`` is
            to be read against; None where there are none.
        n_paths: generated paths.
        n_bridges: reference paths.
    """

    valid_share: Measure
    mean_probability: Measure
    occupancy_distance: Measure
    bridge_probability: float | None
    n_paths: int
    n_bridges: int


def path_measures(
    generated: Int[np.ndarray, "paths frames"],
    T: Float[np.ndarray, "states states"],
    start: int,
    end: int,
    seed: int,
) -> PathMeasures:
    """Measure generated paths from one state to another.

    Of the states visited every frame counts, the ends too, as in MDGen. A frame in no state (−1)
    gives its path probability zero, and is a state of its own among those visited. No path at all
    (a simulation that never came to one of the states) has no valid path, probability zero, and
    the largest distance, √ln 2, where MDGen sets 1. All intervals are of bootstrap resamples of
    the paths.

    Args:
        generated: states of the frames, −1 for a frame in no state of the model.
        T: transition probabilities of the reference, a row for each state.
        start: the state that paths leave.
        end: the state that they reach.
        seed: base of every draw.

    Raises:
        InputError: T is no transition matrix, or a state is not one of its rows.
    """
    n_paths, length = generated.shape
    probability = log_path_probability(generated, T, start, end)
    if not are_connected(T, start, end, length):
        reason = f"in the reference no path of {length} frames joins state {start} with {end}"
        return _without_paths((None, None, None), reason, None, n_paths, 0)
    bridges = sample_bridges(T, start, end, length, BRIDGES, derive_seed(seed, "reference"))
    expected = float(path_probability(bridges, T, start, end).mean())
    if n_paths == 0:
        worst = (0.0, 0.0, LARGEST_JENSEN_SHANNON)
        return _without_paths(worst, "there is no path", expected, 0, BRIDGES)
    generator = numpy_generator(derive_seed(seed, "bootstrap"))
    drawn = generator.multinomial(n_paths, np.full(n_paths, 1 / n_paths), size=RESAMPLES)
    rows = np.concatenate([np.ones((1, n_paths)), drawn])
    visited = rows @ _visits(generated, len(T))
    distances = jensen_shannon_distance(visited, _visits(bridges, len(T)).sum(axis=0))
    floor = _floor(T, start, end, n_paths, length, seed)
    return PathMeasures(
        _measure(*_MEASURES[0], rows @ np.isfinite(probability) / n_paths, n_paths),
        _measure(*_MEASURES[1], rows @ np.exp(probability) / n_paths, n_paths),
        replace(
            _measure(*_MEASURES[2], distances, n_paths),
            floor_mean=float(floor.mean()),
            floor_max=float(floor.max()),
        ),
        bridge_probability=expected,
        n_paths=n_paths,
        n_bridges=BRIDGES,
    )


def rarest_flux_pair(
    T: Float[np.ndarray, "states states"],
    pi: Float[np.ndarray, " states"],
    weight: Literal["source", "target"] = "source",
) -> StatePair:
    """Return the two different states with the smallest flux above zero (``SMALLEST_FLUX``).

    The flux from i to j is π(i) T(i, j). MDGen's code takes π(j) T(i, j), the weight of the target,
    which is no flux; ``target`` repeats that, for comparison with its pairs. Of fluxes that are
    equal (both directions of a reversible model) the one from the lower state is taken.

    Args:
        T: transition probabilities, a row for each state.
        pi: stationary probabilities.
        weight: whose stationary probability weights a transition.

    Raises:
        InputError: T is no transition matrix, or ``pi`` is no distribution over its states.
    """
    require_transition_matrix(T)
    if pi.shape != (len(T),) or (pi < 0).any() or not np.isclose(pi.sum(), 1, atol=1e-6):
        raise InputError(
            f"pi has shape {pi.shape} and sum {pi.sum():g}; wanted is a distribution over the "
            f"{len(T)} states of T"
        )
    flux = T * (pi[:, None] if weight == "source" else pi[None, :])
    np.fill_diagonal(flux, 0.0)
    if not (flux > SMALLEST_FLUX).any():
        reason = f"no two of the {len(T)} states have a flux above {SMALLEST_FLUX:g}"
        return StatePair(None, None, None, reason)
    nonzero = np.where(flux > SMALLEST_FLUX, flux, np.inf)
    least = nonzero <= nonzero.min() * (1 + 1e-9)  # rounding shall not choose the direction
    start, end = (int(state) for state in np.argwhere(least)[0])
    return StatePair(start, end, float(flux[start, end]))


def _visits(
    paths: Int[np.ndarray, "paths frames"], n_states: int
) -> Float[np.ndarray, "paths places"]:
    """Return how often each path is in each state; the last column counts frames in none."""
    places = n_states + 1
    cells = np.arange(len(paths))[:, None] * places + paths % places
    counts = np.bincount(cells.ravel(), minlength=len(paths) * places)
    return counts.reshape(len(paths), places).astype(np.float64)


def _floor(
    T: Float[np.ndarray, "states states"],
    start: int,
    end: int,
    n_paths: int,
    length: int,
    seed: int,
) -> Float[np.ndarray, " samples"]:
    """Return distances of as many reference paths as are judged from others."""
    floor = np.empty(FLOOR_SAMPLES)
    for i in range(FLOOR_SAMPLES):
        mine, others = (
            sample_bridges(T, start, end, length, n, derive_seed(seed, f"floor {side}", index=i))
            for side, n in (("one", n_paths), ("other", BRIDGES))
        )
        visited = _visits(mine, len(T)).sum(axis=0, keepdims=True)
        floor[i] = jensen_shannon_distance(visited, _visits(others, len(T)).sum(axis=0))[0]
    return floor


def _measure(
    label: str, unit: str, largest: float, rows: Float[np.ndarray, " rows"], n_paths: int
) -> Measure:
    """Return the first row as the value, and the interval of the others about it."""
    value = float(rows[0])
    if n_paths == 1:
        return Measure(label, unit, value, reason="a single path gives no interval")
    # A resample of few paths is farther from the reference than they are: the bias is taken off.
    centred = np.clip(rows[1:] - rows[1:].mean() + value, 0.0, largest)
    low, high = np.quantile(centred, [0.025, 0.975])
    return Measure(label, unit, value, float(low), float(high))


def _without_paths(
    values: tuple[float | None, float | None, float | None],
    reason: str,
    bridge_probability: float | None,
    n_paths: int,
    n_bridges: int,
) -> PathMeasures:
    valid, probability, distance = (
        Measure(label, unit, value, reason=reason)
        for (label, unit, _), value in zip(_MEASURES, values, strict=True)
    )
    return PathMeasures(valid, probability, distance, bridge_probability, n_paths, n_bridges)
