"""Transitions between two states that are defined by cores, so that a graze does not count."""

import numpy as np
from jaxtyping import Float, Int

from trajgen.errors import InputError


def core_transitions(
    values: Float[np.ndarray, " frames"],
    segments: Int[np.ndarray, " frames"],
    inside: float,
    outside: float,
) -> Int[np.ndarray, " segments"]:
    """Return how often each segment goes from one core to the other, either way.

    A frame at or below ``inside`` is in the first core, one at or above ``outside`` in the second;
    in between it belongs to the core that was left last (milestoning: Schütte et al. 2011,
    J. Chem. Phys. 134:204105). Segments are in ascending order of their ids.

    Args:
        values: a coordinate, such as the RMSD to a structure.
        segments: segment of each frame; frames of one follow each other in file order.
        inside: bound of the first core.
        outside: bound of the second core.

    Raises:
        InputError: the cores overlap.
    """
    if not inside < outside:
        raise InputError(
            f"inside is {inside:g} and outside {outside:g}; wanted is inside < outside"
        )
    order = np.argsort(segments, kind="stable")
    cores = np.where(values <= inside, 0, np.where(values >= outside, 1, -1))[order]
    ids, places = np.unique(segments[order], return_inverse=True)
    in_core = cores >= 0
    cores, places = cores[in_core], places[in_core]
    changed = (np.diff(cores) != 0) & (np.diff(places) == 0)
    return np.bincount(places[1:][changed], minlength=len(ids)).astype(np.int64)
