"""The frame-shuffle control: the same frames of each segment in a random order.

Ensemble measures stay as they are; kinetic ones must fall to those of frames without memory. A
kinetic measure that survives the shuffle measures something else.
"""

import numpy as np
from jaxtyping import Int

from trajgen.seeding import derive_seed, numpy_generator


def shuffle_within_segments(
    segments: Int[np.ndarray, " frames"], seed: int
) -> Int[np.ndarray, " frames"]:
    """Return a permutation of the frames that keeps every frame in its segment.

    Frame ``i`` of the shuffled trajectory is frame ``permutation[i]`` of the given one, and has
    the same segment.

    Args:
        segments: segment of each frame.
        seed: base of the draw.
    """
    generator = numpy_generator(derive_seed(seed, "frame shuffle"))
    order = np.argsort(segments, kind="stable")
    # Random keys, sorted within each segment.
    shuffled = np.lexsort((generator.random(len(segments)), segments))
    permutation = np.empty(len(segments), dtype=np.int64)
    permutation[order] = shuffled
    return permutation
