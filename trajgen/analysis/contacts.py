"""Contacts of beads: which pairs touch in each frame, and how often.

A pair is in contact where its beads are nearer than a cutoff. The default of 0.8 nm is the
distance by which CASP defines the contacts of residues (C-beta atoms, C-alpha of glycine; Ezkurdia
et al. 2009, Proteins 77 Suppl. 9:196). Pairs fewer than three beads apart in a chain are bound to
be near and are left out; beads of different chains all count.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from trajgen.analysis.features import pair_distances
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError
from trajgen.geometry.internal import all_pairs

#: Beads nearer than this are in contact.
CONTACT_CUTOFF_NM = 0.8

#: Beads of one chain are a pair from this separation on.
LEAST_SEPARATION = 3

#: Frames whose distances are held at once; bounds the memory, changes no value.
CHUNK = 8192


@dataclass(frozen=True)
class Contacts:
    """Which pairs of beads are in contact in each frame.

    Attributes:
        labels: name of each pair, such as ``TYR1-PRO4``.
        values: whether the pair is in contact.
        cutoff_nm: the distance below which it is.
    """

    labels: tuple[str, ...]
    values: Bool[np.ndarray, "frames pairs"]
    cutoff_nm: float


def contact_pairs(topology: BeadTopology) -> Int[np.ndarray, "pairs 2"]:
    """Return the pairs i < j that can be in contact; none where the molecule is too short."""
    pairs = all_pairs(topology.n_beads).numpy()
    chains = np.asarray(topology.chains)[pairs]
    apart = pairs[:, 1] - pairs[:, 0] >= LEAST_SEPARATION
    return pairs[apart | (chains[:, 0] != chains[:, 1])]


def contact_indicators(frames: BeadFrames, cutoff_nm: float = CONTACT_CUTOFF_NM) -> Contacts:
    """Say of each frame which pairs are in contact.

    Args:
        frames: the frames.
        cutoff_nm: distance below which two beads are in contact.

    Raises:
        InputError: the cutoff is not above 0.
    """
    if not cutoff_nm > 0:
        raise InputError(f"cutoff_nm is {cutoff_nm}; wanted is a distance above 0")
    n = frames.topology.n_beads
    first, second = contact_pairs(frames.topology).T
    number = np.zeros((n, n), dtype=np.int64)
    number[np.triu_indices(n, 1)] = np.arange(n * (n - 1) // 2)
    kept = number[first, second]
    labels = pair_distances(frames.take(slice(0))).labels
    values = np.empty((frames.n_frames, len(kept)), dtype=bool)
    for start in range(0, frames.n_frames, CHUNK):
        part = slice(start, start + CHUNK)
        values[part] = pair_distances(frames.take(part)).values[:, kept] < cutoff_nm
    return Contacts(tuple(labels[i] for i in kept), values, cutoff_nm)


def contact_counts(
    contacts: Contacts,
    weights: Float[np.ndarray, " frames"],
    groups: Int[np.ndarray, " frames"],
    n_groups: int,
) -> Float[np.ndarray, "{n_groups} pairs"]:
    """Return the weight of the frames in contact, for each group of frames and each pair.

    Counts of chunks of frames add up to the counts of all.

    Args:
        contacts: contacts of the frames.
        weights: weight of each frame.
        groups: group of each frame, counted from 0.
        n_groups: number of groups.
    """
    n = len(weights)
    membership = csr_array((weights, (groups, np.arange(n))), shape=(n_groups, n))
    return membership @ contacts.values.astype(np.float64)
