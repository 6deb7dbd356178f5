"""Whether a committee knows where it is wrong: its disagreement beside its error."""

from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from trajgen.potential.committee import Committee
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.force_labels import EVALUATION_BATCH, ForceLabels

#: Groups of frames of rising disagreement, and frames that a group has at least.
BINS = 8
LEAST_FRAMES = 10


def calibrate(network: Committee, labels: ForceLabels) -> dict[str, Any]:
    """Return the error of a committee's forces by how far its members are apart.

    Both are mean squares over force components, (kJ/mol/nm)². The noise of the labels is in every
    error, so of a committee that knows where it is wrong the error rises with the disagreement
    above a ground of noise; of one that does not it is level.

    Args:
        network: the committee.
        labels: frames that it was not trained on, on its device.

    Returns:
        ``groups`` (for each ``frames``, ``disagreement``, ``error`` and its ``standard_error``),
        ``rank_correlation`` (Spearman's, over frames), and ``reason`` where there are none.
    """
    members = len(network.members)
    nothing: dict[str, Any] = {"groups": [], "rank_correlation": None}
    if members < 2:
        return {**nothing, "reason": f"{members} network; a disagreement takes two or more"}
    if labels.n_frames < 2 * LEAST_FRAMES:
        return {**nothing, "reason": f"only {labels.n_frames} frames are held out"}
    apart, wrong = [], []
    for begin in range(0, labels.n_frames, EVALUATION_BATCH):
        part = labels.take(np.arange(begin, min(begin + EVALUATION_BATCH, labels.n_frames)))
        everyone = part.positions_nm.expand(members, *part.positions_nm.shape)
        forces = energy_and_forces(network.member_energies, everyone)[1]
        mean = forces.mean(dim=0)
        apart.append((forces - mean).square().mean(dim=(0, 2, 3)))
        wrong.append((mean - part.residual).square().mean(dim=(1, 2)))
    disagreement, error = (torch.cat(parts).double().cpu().numpy() for parts in (apart, wrong))
    order = np.argsort(disagreement, kind="stable")
    groups = np.array_split(order, min(BINS, labels.n_frames // LEAST_FRAMES))
    return {
        "groups": [
            {
                "frames": len(group),
                "disagreement": float(disagreement[group].mean()),
                "error": float(error[group].mean()),
                "standard_error": float(error[group].std(ddof=1) / np.sqrt(len(group))),
            }
            for group in groups
        ],
        "rank_correlation": float(spearmanr(disagreement, error).statistic),
        "reason": None,
    }
