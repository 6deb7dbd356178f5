"""Where generated frames lie in space: between the poses of the known frames around them.

A model of internal motion says nothing of how a molecule tumbles and drifts. Between two known
frames it is taken to do so evenly, so that films run smoothly and distances moved have no jumps.
"""

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from trajgen.geometry.superposition import superpose, superposed


def posed_between(
    frames_nm: Float[Tensor, "windows frames sites 3"],
    before_nm: Float[Tensor, "windows sites 3"],
    after_nm: Float[Tensor, "windows sites 3"],
    shares: Float[Tensor, " frames"],
    weights: Float[Tensor, " sites"],
) -> Float[Tensor, "windows frames sites 3"]:
    """Return frames turned and moved into poses between those of two known frames.

    The pose goes from one to the other by the rotation that brings them together, about one axis at
    one speed, and by the way of their centres.

    Args:
        frames_nm: frames in any pose.
        before_nm: the known frame before them.
        after_nm: the known frame after them.
        shares: how much of the time between both has passed at each frame, 0 to 1.
        weights: how much each site counts for the pose.
    """
    start, end = before_nm[:, None], after_nm[:, None]
    placed = superposed(frames_nm, start, weights)
    rotations = superpose(start, end, weights).rotations[:, 0].double()
    # Frames that came apart have no pose, and no numbers to turn.
    finite = rotations.isfinite().flatten(1).all(dim=1)[:, None, None]
    turn = Rotation.from_matrix(torch.where(finite, rotations, torch.eye(3)).numpy())
    angles = torch.from_numpy(turn.as_rotvec())[:, None] * shares[:, None].double()
    turns = torch.from_numpy(Rotation.from_rotvec(angles.reshape(-1, 3)).as_matrix())
    turns = turns.view(*angles.shape, 3).to(frames_nm)
    centre, way = _centre(start, weights), _centre(end, weights) - _centre(start, weights)
    moved = centre + shares[:, None, None] * way
    return (placed - centre) @ turns.mT + moved


def _centre(sites_nm: Tensor, weights: Tensor) -> Float[Tensor, "*frames 1 3"]:
    return (weights[:, None] * sites_nm).sum(dim=-2, keepdim=True) / weights.sum()
