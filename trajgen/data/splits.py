"""Training and validation frames, split by segment and never by frame."""

import logging

import numpy as np
from jaxtyping import Bool, Int64

from trajgen.errors import InputError
from trajgen.seeding import derive_seed, numpy_generator

logger = logging.getLogger(__name__)

#: The validation side may hold so many times its share of frames, for the sake of whole segments.
MOST_HELD_OUT = 1.5


def split_by_segment(
    segments: Int64[np.ndarray, " frames"], validation_fraction: float, seed: int
) -> tuple[Bool[np.ndarray, " frames"], Bool[np.ndarray, " frames"]]:
    """Return masks of the training and the validation frames.

    Whole segments go to one side, drawn by seed, as long as the validation side holds at most half
    more than its share of frames. Where all are longer than that the last frames of the first one
    drawn are held out, which is said in the log, since they are correlated with the ones before.

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
    order = numpy_generator(derive_seed(seed, "split")).permutation(len(ids))
    chosen, held_out = [], 0
    for segment in order[:-1]:  # one segment at least stays for training
        if held_out < wanted and held_out + lengths[segment] <= MOST_HELD_OUT * wanted:
            chosen.append(ids[segment])
            held_out += lengths[segment]
    if chosen:
        validation = np.isin(segments, chosen)
        return ~validation, validation
    logger.warning(
        "no segment is short enough to be held out: the last %d frames of %s are, correlated with "
        "those before", wanted, "the only one" if len(ids) == 1 else "one",
    )  # fmt: skip
    validation[np.flatnonzero(segments == ids[order[0]])[-wanted:]] = True
    return ~validation, validation
