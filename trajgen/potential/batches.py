"""Which frames each member of a committee sees in a step: a function of seed and step alone."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator


@dataclass(frozen=True)
class Pool:
    """Frames of which every batch holds the same number.

    Attributes:
        frames: indices of the frames.
        size: how many of them a batch holds.
    """

    frames: Int64[np.ndarray, " frames"]
    size: int


def make_pools(
    old: Int64[np.ndarray, " old"], new: Int64[np.ndarray, " new"], batch: int, new_share: float
) -> tuple[Pool, ...]:
    """Return the pools of a training on old and on new frames.

    Where there are both, every batch holds ``new_share`` of new ones, and at least one frame of
    each kind unless the share is 1; where there is one kind, all frames are one pool. A batch is at
    most all frames.

    Raises:
        InputError: a batch of one frame cannot hold both kinds.
    """
    size = min(batch, len(old) + len(new))
    if not len(old) or not len(new):
        return (Pool(np.concatenate([old, new]), size),)
    if new_share == 1:
        return (Pool(new, min(batch, len(new))),)
    if size < 2:
        raise InputError(
            f"training.batch is {batch}; a batch that mixes old and new frames takes 2 or more"
        )
    n_new = min(max(round(new_share * size), 1), size - 1)
    return Pool(old, size - n_new), Pool(new, n_new)


def batch_of_members(
    step: int, pools: tuple[Pool, ...], members: int, seed: int
) -> Int64[np.ndarray, "members size"]:
    """Return the frames of one step's batch, for each member in an order of its own."""
    rows = []
    for member in range(members):
        parts = [
            pool.frames[
                batch_of_step(
                    step, pool.size, len(pool.frames), derive_seed(seed, "fit-pool", place, member)
                )
            ]
            for place, pool in enumerate(pools)
        ]
        rows.append(np.concatenate(parts))
    return np.stack(rows)


def batch_of_step(step: int, size: int, n_frames: int, seed: int) -> Int64[np.ndarray, " size"]:
    """Return the places of one step's batch: epochs of shuffled frames, laid end to end."""
    places = np.arange(step * size, (step + 1) * size)
    epochs, inside = np.divmod(places, n_frames)
    return np.concatenate(
        [_shuffled(n_frames, seed, int(e))[inside[epochs == e]] for e in np.unique(epochs)]
    )


@functools.lru_cache(maxsize=32)  # two pools of sixteen members
def _shuffled(n_frames: int, seed: int, epoch: int) -> np.ndarray:
    return numpy_generator(derive_seed(seed, "fit-epoch", 0, epoch)).permutation(n_frames)
