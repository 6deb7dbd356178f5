"""Frames from which simulations start."""

import numpy as np
from jaxtyping import Float32

from trajgen.data.records import BeadFrames
from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator


def draw_starts(
    frames: BeadFrames, chains: int, seed: int
) -> Float32[np.ndarray, "chains beads 3"]:
    """Draw one frame for each chain, with replacement, in proportion to the weights.

    The start of a chain does not depend on the number of chains.

    Raises:
        InputError: no chain is asked for, or there is no frame to draw.
    """
    if chains < 1:
        raise InputError(f"chains is {chains}; wanted is at least 1")
    if frames.n_frames == 0:
        raise InputError("there are no frames to start from")
    weights = np.ones(frames.n_frames) if frames.weights is None else frames.weights
    cumulative = np.cumsum(weights, dtype=np.float64)
    draws = numpy_generator(derive_seed(seed, "starts")).random(chains) * cumulative[-1]
    return frames.positions_nm[np.searchsorted(cumulative, draws, side="right")]


def repeat_starts(
    starts_nm: Float32[np.ndarray, "starts *frames beads 3"], chains: int | None
) -> Float32[np.ndarray, "chains *frames beads 3"]:
    """Return a start for each chain: the given ones in turn; None means one chain a start."""
    if chains is None:
        return starts_nm
    if chains < 1:
        raise InputError(f"chains is {chains}; wanted is at least 1")
    return starts_nm[np.arange(chains) % len(starts_nm)]
