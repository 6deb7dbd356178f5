"""Rigid frames: a rotation and an origin for each residue, and how a chain of beads gets them."""

from dataclasses import dataclass
from types import EllipsisType

import torch
from jaxtyping import Float
from torch import Tensor

from trajgen.geometry.rotations import gram_schmidt

Index = int | slice | EllipsisType | None | Tensor


@dataclass(frozen=True, eq=False)
class RigidFrames:
    """Rigid transformations x ↦ R x + o, one for each element of the batch.

    Attributes:
        rotations: proper rotation matrices R; their columns are the axes of the frame.
        origins: origins o, nm.
    """

    rotations: Float[Tensor, "*batch 3 3"]
    origins: Float[Tensor, "*batch 3"]

    @property
    def shape(self) -> torch.Size:
        """The batch dimensions."""
        return self.origins.shape[:-1]

    def __getitem__(self, index: Index | tuple[Index, ...]) -> "RigidFrames":
        """Index the batch dimensions; ``frames[..., None]`` adds one for the points to apply to."""
        batch = index if isinstance(index, tuple) else (index,)
        every = slice(None)
        if Ellipsis not in [part for part in batch if not isinstance(part, Tensor)]:
            batch = (*batch, Ellipsis)
        return RigidFrames(self.rotations[(*batch, every, every)], self.origins[(*batch, every)])

    def compose(self, other: "RigidFrames") -> "RigidFrames":
        """Return the transformation that applies ``other`` first, then this one."""
        return RigidFrames(self.rotations @ other.rotations, self.apply(other.origins))

    def invert(self) -> "RigidFrames":
        """Return the inverse: x ↦ Rᵀ (x - o)."""
        transposed = self.rotations.mT
        return RigidFrames(transposed, -_rotate(transposed, self.origins))

    def apply(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*result 3"]:
        """Transform points from the frames' own coordinates to the outer ones, nm.

        The leading dimensions of the points broadcast against the batch: n points for each frame
        are ``frames[..., None].apply(points)``.
        """
        return _rotate(self.rotations, points) + self.origins


def frames_from_three_points(
    a: Float[Tensor, "*batch 3"], b: Float[Tensor, "*batch 3"], c: Float[Tensor, "*batch 3"]
) -> RigidFrames:
    """Return the frame with origin b, x axis from b to c, and a in the half plane of positive y.

    Gram-Schmidt as in Jumper et al., Nature 596, 583 (2021), algorithm 21. Where the three points
    lie within 0.06 degree of one line, or some coincide, the plane that they do not define is
    taken from a fixed direction (see ``gram_schmidt``): the frame is then still a rotation with
    finite gradients, but does not follow a rotation of the points about their line.

    Args:
        a: points before, nm.
        b: points that become the origins, nm.
        c: points after, nm.
    """
    return RigidFrames(gram_schmidt(c - b, a - b), b)


def torsion_frames(
    a: Float[Tensor, "*batch 3"],
    b: Float[Tensor, "*batch 3"],
    c: Float[Tensor, "*batch 3"],
    angle: Float[Tensor, "*batch"],
) -> RigidFrames:
    """Return the frame at the end of a bond, turned about the bond.

    A point d at rest in it has the dihedral angle a-b-c-d of its own at zero plus ``angle``.

    Args:
        a: the atom before the bond, in the half plane of positive y where nothing is turned, nm.
        b: where the bond begins, nm.
        c: where it ends: the origin, with the x axis pointing on, nm.
        angle: how far the frame is turned, radian.
    """
    x, y, z = frames_from_three_points(a, b, c).rotations.unbind(-1)
    cosine, sine = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
    return RigidFrames(torch.stack([x, cosine * y + sine * z, cosine * z - sine * y], dim=-1), c)


def chain_frames(positions: Float[Tensor, "*batch beads 3"]) -> RigidFrames:
    """Return a frame for each bead of a chain from three consecutive beads.

    Bead i has the rotation of beads i-1, i, i+1; the first and the last bead take the rotation of
    their neighbour. Every bead is the origin of its own frame.

    Args:
        positions: beads in the order of the chain, nm.

    Raises:
        ValueError: the chain has fewer than three beads.
    """
    n = positions.shape[-2]
    if n < 3:
        raise ValueError(f"positions has {n} beads; a frame needs a chain of at least three beads")
    a, b, c = positions[..., :-2, :], positions[..., 1:-1, :], positions[..., 2:, :]
    inner = frames_from_three_points(a, b, c).rotations
    rotations = torch.cat((inner[..., :1, :, :], inner, inner[..., -1:, :, :]), dim=-3)
    return RigidFrames(rotations, positions)


def _rotate(
    rotations: Float[Tensor, "*batch 3 3"], points: Float[Tensor, "*points 3"]
) -> Float[Tensor, "*result 3"]:
    return (rotations @ points[..., None])[..., 0]
