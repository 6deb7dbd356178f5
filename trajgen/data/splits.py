"""Training and validation frames, split by segment and never by frame."""

import logging

import numpy as np
from jaxtyping import Bool, Int64

from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator

logger = logging.getLogger(__name__)


def split_by_segment(
    segments: Int64[np.ndarray, " frames"], validation_fraction: float, seed: int
) -> tuple[Bool[np.ndarray, " frames"], Bool[np.ndarray, " frames"]]:
    """Return masks of the training and the validation frames.

    Whole segments go to one side, chosen by seed until the validation side holds its share of
    frames. A single segment cannot be split so: its last frames are held out, which is said in
    the log, since they are correlated with the ones before.

    Raises:
        InputError: the fraction is not in [0, 1), or fewer than two frames are there.
    """
    if not 0 <= validation_fraction < 1:
        raise InputError(f"validation_fraction is {validation_fraction}; wanted is 0 <= f < 1")
    if len(segments) < 2:
        raise InputError(f"the dataset has {len(segments)} frames; at least 2 are needed")
    validation = np.zeros(len(segments), dtype=bool)
    wanted = round(validation_fraction * len(segments))
    if wanted == 0:
        return ~validation, validation
    ids, lengths = np.unique(segments, return_counts=True)
    if len(ids) == 1:
        logger.warning(
            "the dataset is one segment: its last %d frames are held out, correlated with the rest",
            wanted,
        )
        validation[-wanted:] = True
        return ~validation, validation
    order = numpy_generator(derive_seed(seed, "split")).permutation(len(ids))
    before = np.cumsum(lengths[order]) - lengths[order]
    chosen = order[:-1][before[:-1] < wanted]  # one segment at least stays for training
    validation = np.isin(segments, ids[chosen])
    return ~validation, validation
