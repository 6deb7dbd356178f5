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

    Whole segments go to one side, drawn by seed, until the validation side holds its share of
    frames. Where the last one would bring it far above, only the end of that is held out, which is
    said in the log, since it is correlated with the frames before.

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
    ids = np.unique(segments)
    order = numpy_generator(derive_seed(seed, "split")).permutation(len(ids))
    for place in order:
        own = np.flatnonzero(segments == ids[place])
        missing = wanted - int(validation.sum())
        if missing <= 0:
            break
        # One segment at least stays for training, as a whole or in part.
        if len(own) - missing <= (MOST_HELD_OUT - 1) * wanted and place != order[-1]:
            validation[own] = True
        else:
            validation[own[-missing:]] = True
            logger.warning(
                "of a segment of %d frames the last %d are held out, correlated with those before",
                len(own),
                missing,
            )
    return ~validation, validation
