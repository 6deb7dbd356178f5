"""Whether a committee knows where it is wrong: its disagreement beside its error."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from trajgen.potential.committee import Committee
from trajgen.potential.energy import energy_and_forces, evaluation_batch
from trajgen.potential.force_labels import ForceLabels
from trajgen.seeding import derive_seed, numpy_generator

#: Groups of frames of rising disagreement, and frames that a group has at least.
BINS = 8
LEAST_FRAMES = 10
#: Fewer segments than this say nothing of how far chance moves a mean.
LEAST_SEGMENTS = 5
RESAMPLES = 200


def calibrate(
    network: Committee,
    labels: ForceLabels,
    segments: Int[np.ndarray, " frames"],
    seed: int,
) -> dict[str, Any]:
    """Return the error of a committee's forces by how far its members are apart.

    Both are mean squares over force components, (kJ/mol/nm)², with the weights of the loss. The
    noise of the labels is in every error, so of a committee that knows where it is wrong the error
    rises with the disagreement above a ground of noise; of one that does not it is level. Noise
    also hides most of a rank correlation over single frames, so there is none.

    Args:
        network: the committee.
        labels: frames that it was not trained on, on its device.
        segments: the segment of each of them; frames of one are alike.
        seed: base of the resamples.

    Returns:
        ``groups`` (for each ``frames``, ``disagreement``, ``error`` and its ``standard_error`` by a
        bootstrap over segments, None of few segments), and ``reason`` where there are none.
    """
    members = len(network.members)
    if members < 2:
        count = f"{members} network{'s' if members != 1 else ''}"
        return {"groups": [], "reason": f"{count}; a disagreement takes two or more"}
    counted = np.flatnonzero(labels.weights.cpu().numpy() > 0)
    if len(counted) < 2 * LEAST_FRAMES:
        return {"groups": [], "reason": f"only {len(counted)} frames with a weight are held out"}
    labels, segments = labels.take(counted), segments[counted]
    apart, wrong = [], []
    at_once = evaluation_batch(labels.residual.shape[-2], members)
    for begin in range(0, labels.n_frames, at_once):
        part = labels.take(np.arange(begin, min(begin + at_once, labels.n_frames)))
        everyone = part.positions_nm.expand(members, *part.positions_nm.shape)
        forces = energy_and_forces(network.member_energies, everyone)[1]
        mean = forces.mean(dim=0)
        apart.append((forces - mean).square().mean(dim=(0, 2, 3)))
        wrong.append((mean - part.residual).square().mean(dim=(1, 2)))
    disagreement, error = (torch.cat(parts).double().cpu().numpy() for parts in (apart, wrong))
    weights = labels.weights.double().cpu().numpy()
    order = np.argsort(disagreement, kind="stable")
    groups = np.array_split(order, min(BINS, labels.n_frames // LEAST_FRAMES))
    generator = numpy_generator(derive_seed(seed, "calibration"))
    return {
        "groups": [
            {
                "frames": len(group),
                "disagreement": float(np.average(disagreement[group], weights=weights[group])),
                "error": float(np.average(error[group], weights=weights[group])),
                "standard_error": _standard_error(
                    error[group], weights[group], segments[group], generator
                ),
            }
            for group in groups
        ],
        "reason": None,
    }


def _standard_error(
    values: Float[np.ndarray, " frames"],
    weights: Float[np.ndarray, " frames"],
    segments: Int[np.ndarray, " frames"],
    generator: np.random.Generator,
) -> float | None:
    """Return the standard error of a weighted mean, by resampling whole segments."""
    names, place = np.unique(segments, return_inverse=True)
    if len(names) < LEAST_SEGMENTS:
        return None
    sums, shares = (np.bincount(place, part) for part in (weights * values, weights))
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    return float(((drawn @ sums) / (drawn @ shares)).std(ddof=1))
