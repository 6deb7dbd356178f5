"""Which frames of a dataset are a sample of the equilibrium ensemble, and how much each counts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64

from trajgen.data.store import Dataset
from trajgen.data.timeline import Timeline
from trajgen.data.windows import Runs


def equilibrium_weights(dataset: Dataset) -> list[Float64[np.ndarray, " _"] | float]:
    """Return how much each frame of each shard counts in the equilibrium ensemble.

    It is one number for a shard that has no weights: 0 where it is seeded, and else 1, so that its
    frames count as those with a weight do on average.
    """
    given = {
        number: dataset.read_weights(entry)
        for number, entry in enumerate(dataset.entries)
        if entry.label.sampling != "seeded"
    }
    known = [weights for weights in given.values() if weights is not None]
    mean = float(np.concatenate(known).mean()) if known else 1.0
    of_shards: list[Float64[np.ndarray, " _"] | float] = []
    for number in range(len(dataset.entries)):
        weights = given.get(number)
        if number not in given or (weights is not None and mean == 0):
            of_shards.append(0.0)
        elif weights is None:
            of_shards.append(1.0)
        else:
            of_shards.append(np.asarray(weights / mean, dtype=np.float64))
    return of_shards


def equilibrium_runs(
    timeline: Timeline,
    weights: Sequence[Float64[np.ndarray, " _"] | float],
    reversible: Bool[np.ndarray, " shards"],
) -> Runs:
    """Return the runs that begin windows at equilibrium, with the weights of their frames.

    A window may pass through frames of no weight, but not begin there. Where all frames that count
    count alike, there is no number for each.

    Args:
        timeline: when the frames are.
        weights: of each shard, see ``equilibrium_weights``.
        reversible: shards that are as likely backwards.
    """
    usable = timeline.of_shards(np.array([bool(np.any(own)) for own in weights]))
    runs = Runs.find(usable, reversible)
    if all(np.ndim(own) == 0 for own in weights):
        return runs
    of_frames = np.concatenate(
        [np.broadcast_to(own, count) for own, count in zip(weights, timeline.n_frames, strict=True)]
    )
    return replace(runs, weights=of_frames[runs.frames.at(np.arange(len(runs.frames)))])


def reversible_shards(dataset: Dataset) -> Bool[np.ndarray, " shards"]:
    """Say which shards are of trajectories that are as likely backwards.

    Positions along a trajectory at equilibrium are, by detailed balance, whatever the friction; not
    so where weights have to make an equilibrium of it.
    """
    return np.array(
        [
            entry.label.sampling == "equilibrium" and dataset.read_weights(entry) is None
            for entry in dataset.entries
        ],
        dtype=bool,
    )
