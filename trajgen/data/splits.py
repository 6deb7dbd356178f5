"""Training and validation frames, split by segment and never by frame."""

import logging

import numpy as np
from jaxtyping import Bool, Int64

from trajgen.data.timeline import Timeline
from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator

logger = logging.getLogger(__name__)

#: The validation side may hold so many times its share of frames, for the sake of whole segments.
MOST_HELD_OUT = 1.5


def split_by_segment(
    segments: Int64[np.ndarray, " frames"], validation_fraction: float, seed: int
) -> tuple[Bool[np.ndarray, " frames"], Bool[np.ndarray, " frames"]]:
    """Return masks of the training and the validation frames.

    Whole segments go to one side, drawn by seed, until the validation side holds its share of
    frames. Where the last one would bring it far above, only the end of that is held out, which is
    said in the log, since it is correlated with the frames before.

    Raises:
        InputError: the fraction is not in [0, 1), or fewer than two frames are there.
    """
    _, segments = np.unique(segments, return_inverse=True)
    held_out = _held_out(segments, np.ones_like(segments), validation_fraction, seed)
    return held_out == 0, held_out == 1


def split_timeline(
    timeline: Timeline, validation_fraction: float, seed: int
) -> tuple[Timeline, Timeline]:
    """Return the training and the validation frames of a dataset, as ``split_by_segment`` does.

    Args:
        timeline: when the frames are; all of them.
        validation_fraction: share of frames held out.
        seed: base of the draw.

    Raises:
        InputError: the fraction is not in [0, 1), or fewer than two frames are there.
    """
    firsts, lengths = timeline.stretches.firsts, timeline.stretches.lengths
    held_out = _held_out(timeline.segments, lengths, validation_fraction, seed)
    kept = lengths - held_out
    return timeline.keeping(firsts, kept), timeline.keeping(firsts + kept, held_out)


def _held_out(
    segments: Int64[np.ndarray, " stretches"],
    lengths: Int64[np.ndarray, " stretches"],
    validation_fraction: float,
    seed: int,
) -> Int64[np.ndarray, " stretches"]:
    """Return how many frames at the end of each stretch are held out; segments count from 0."""
    if not 0 <= validation_fraction < 1:
        raise InputError(f"validation_fraction is {validation_fraction}; wanted is 0 <= f < 1")
    n_frames = int(lengths.sum())
    if n_frames < 2:
        raise InputError(f"the dataset has {n_frames} frames; at least 2 are needed")
    sizes = np.bincount(segments, weights=lengths).astype(np.int64)
    of_segments = np.zeros_like(sizes)
    wanted = missing = round(validation_fraction * n_frames)
    order = numpy_generator(derive_seed(seed, "split")).permutation(len(sizes))
    for segment in order:
        if missing <= 0:
            break
        # One segment at least stays for training, as a whole or in part.
        if sizes[segment] - missing <= (MOST_HELD_OUT - 1) * wanted and segment != order[-1]:
            of_segments[segment] = sizes[segment]
        else:
            of_segments[segment] = missing
            logger.warning(
                "of a segment of %d frames the last %d are held out, correlated with those before",
                sizes[segment],
                missing,
            )
        missing -= int(of_segments[segment])
    by_segment = np.argsort(segments, kind="stable")
    behind = np.empty_like(lengths)
    behind[by_segment] = np.cumsum(sizes)[segments[by_segment]] - np.cumsum(lengths[by_segment])
    return np.clip(of_segments[segments] - behind, 0, lengths)
