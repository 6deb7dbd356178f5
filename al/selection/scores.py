"""Scores of candidate frames: the RMSD rule of active learning in its three readings, and random.

The rule (arXiv:2509.17208) takes frames where the simulation and the training set differ most in
a histogram of RMSD. The text and the figure of the paper admit three readings, which all stand
here; a higher score is chosen first.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64

from trajgen.data.records import BeadFrames
from trajgen.geometry.superposition import nearest_rmsd, rmsd_matrix
from trajgen.seeding import numpy_generator


def nearest_rmsd_nm(
    positions_nm: Float32[np.ndarray, "frames beads 3"],
    known_nm: Float32[np.ndarray, "known beads 3"],
) -> tuple[Float[np.ndarray, " frames"], Int64[np.ndarray, " frames"]]:
    """Return the RMSD of each frame to its nearest known frame, and which that is."""
    distance, index = nearest_rmsd(torch.from_numpy(positions_nm), torch.from_numpy(known_nm))
    return distance.numpy(), index.numpy()


def rmsd_to_frame_nm(
    positions_nm: Float32[np.ndarray, "frames beads 3"], frame_nm: Float32[np.ndarray, "beads 3"]
) -> Float[np.ndarray, " frames"]:
    """Return the RMSD of each frame to one frame."""
    matrix = rmsd_matrix(torch.from_numpy(positions_nm), torch.from_numpy(frame_nm)[None])
    return matrix[:, 0].numpy()


def own_nearest_rmsd_nm(known: BeadFrames) -> Float[np.ndarray, " frames"]:
    """Return the RMSD of each known frame to the nearest known frame of another segment.

    Frames of the own segment are neighbours in time and would make every distance tiny. With one
    segment alone there is no other; then the own frames count, each but itself.
    """
    positions = torch.from_numpy(known.positions_nm)
    result = np.full(known.n_frames, np.inf)
    ids = np.unique(known.segments)
    if len(ids) == 1:
        matrix = rmsd_matrix(positions, positions)
        matrix.fill_diagonal_(np.inf)
        return matrix.min(dim=1).values.numpy()
    for segment in ids:
        own = torch.from_numpy(known.segments == segment)
        distance, _ = nearest_rmsd(positions[own], positions[~own])
        result[own.numpy()] = distance.numpy()
    return result


def histogram_gap(
    simulated: Float[np.ndarray, " frames"], known: Float[np.ndarray, " known"], bins: int
) -> Float[np.ndarray, " frames"]:
    """Return for each simulated value the gap of its bin: its share minus that in the data.

    Both histograms have the same bins from 0 to the largest value and sum to one.
    """
    top = float(max(simulated.max(), known.max()))
    edges = np.linspace(0.0, top if top > 0 else 1.0, bins + 1)
    of_simulated = np.histogram(simulated, edges)[0] / len(simulated)
    of_known = np.histogram(known, edges)[0] / len(known)
    bin_of = np.clip(np.searchsorted(edges, simulated, side="right") - 1, 0, bins - 1)
    return (of_simulated - of_known)[bin_of]


def score_candidates(
    rule: str,
    candidates: Float32[np.ndarray, "frames beads 3"],
    nearest_nm: Float[np.ndarray, " frames"],
    known: BeadFrames,
    bins: int,
    seed: int,
) -> Float[np.ndarray, " frames"]:
    """Score candidates by a rule; inside a histogram bin the seed decides.

    Args:
        rule: a name from ``SelectionSettings.rule``.
        candidates: coordinates, nm.
        nearest_nm: RMSD of each candidate to its nearest known frame.
        known: the dataset; its first frame is the reference frame of ``rmsd-hist``.
        bins: number of histogram bins.
        seed: a derived seed.
    """
    order = numpy_generator(seed).random(len(candidates))
    if rule == "random":
        return order
    if rule == "rmsd-min":
        return nearest_nm
    if rule == "rmsd-hist":
        reference = known.positions_nm[0]
        simulated = rmsd_to_frame_nm(candidates, reference)
        gap = histogram_gap(simulated, rmsd_to_frame_nm(known.positions_nm, reference), bins)
    else:
        gap = histogram_gap(nearest_nm, own_nearest_rmsd_nm(known), bins)
    # Inside a bin all frames have the same gap: the draw decides and never passes a bin's step.
    smallest_step = 1.0 / (len(candidates) * known.n_frames + 1)
    return gap + 0.5 * smallest_step * order
