"""Windows that begin more often in rare states, so that training sees their motions as well.

A model of what follows a frame that is known learns the same from any choice of such frames, only
better where it sees more of them.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor

from trajgen.geometry.internal import angles, consecutive, dihedrals
from trajgen.seeding import derive_seed, numpy_generator
from trajgen.surrogate.resolutions import Resolution
from trajgen.surrogate.window_source import WindowSource

#: States that frames are sorted into, and the frames that these are found in, at most.
STATES, CLUSTERED_FRAMES = 64, 10_000


def start_weights(
    source: WindowSource,
    resolution: Resolution,
    balance: float,
    seed: int,
) -> Float64[np.ndarray, " frames"]:
    """Return how often a window begins at each frame: its state's population to minus ``balance``.

    States are clusters of torsions and of the bends of the C-alpha chain.

    Args:
        source: the frames, and those of them that windows may begin at.
        resolution: what the molecule is.
        balance: 0 for every frame alike, 1 for every state alike.
        seed: base of the clusters.
    """
    sample = shape(source.sample(CLUSTERED_FRAMES), resolution)
    generator = numpy_generator(derive_seed(seed, "states"))
    count = min(STATES, len(sample))
    centres, _ = kmeans2(sample, count, minit="++", rng=generator)
    chunks = source.positions.chunks(source.starts.runs.frames)
    states = np.concatenate([vq(shape(some, resolution), centres)[0] for _, some in chunks])
    populations = np.bincount(states, minlength=len(centres)) / len(states)
    return np.asarray(populations[states] ** -balance, dtype=np.float64)


def shape(
    positions_nm: Float[Tensor, "frames sites 3"], resolution: Resolution
) -> Float64[np.ndarray, "frames features"]:
    """Return sines and cosines of what a molecule turns about, which no pose changes."""
    alpha = resolution.alpha_carbons(positions_nm)
    turns = [
        resolution.torsions(positions_nm)[..., resolution.has_torsion],
        angles(alpha, consecutive(alpha.shape[-2], 3)),
        dihedrals(alpha, consecutive(alpha.shape[-2], 4)),
    ]
    together = torch.cat(turns, dim=-1).double()
    return torch.cat([together.sin(), together.cos()], dim=-1).numpy()
