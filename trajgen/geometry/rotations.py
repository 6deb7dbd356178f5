"""Rotation matrices: uniform random draws, Gram-Schmidt and the continuous 6D representation."""

import torch
from jaxtyping import Float
from torch import Tensor

#: Below this sine of the angle between two directions Gram-Schmidt is regularised (0.06 degree).
COLLINEAR_SINE = 1e-3
#: A vector shorter than this has no direction.
NO_LENGTH = 1e-12


def random_rotations(
    n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "{n} 3 3"]:
    """Draw ``n`` rotation matrices uniformly on SO(3).

    Normalised Gaussian quaternions are uniform on the unit 3-sphere, hence on SO(3) (Shoemake,
    Graphics Gems III, 124 (1992)). Drawn in float64, so that every dtype sees the same rotations.

    Args:
        n: number of matrices.
        generator: source of the draws; the result lies on its device.
        dtype: type of the result.
    """
    q = torch.randn(n, 4, generator=generator, dtype=torch.float64, device=generator.device)
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(n, 3, 3).to(dtype)


def gram_schmidt(
    first: Float[Tensor, "*batch 3"], second: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3 3"]:
    """Return the right-handed rotation whose columns span ``first``, then ``second``.

    Column x points along ``first``, column y along the part of ``second`` that is perpendicular
    to it, column z = x × y. Outside a cone of ``COLLINEAR_SINE`` around the line of ``first`` this
    is plain Gram-Schmidt, exactly equivariant. Inside the cone the perpendicular part p of length
    s |second| is mixed with a fixed direction t perpendicular to x,
    p + (COLLINEAR_SINE - s) |second| t, so that collinear input still has one definite answer and
    the result stays continuous on the border of the cone. (No rule is continuous in all of it: p
    turns once around the border. The one point where the mixture vanishes takes t.) A vanishing
    ``first`` is replaced by ``second``, and where both vanish by the x axis. The result is always
    a rotation, and gradients are finite.
    """
    axis_x = torch.zeros_like(first)
    axis_x[..., 0] = 1.0
    x = _direction(first, otherwise=_direction(second, otherwise=axis_x))
    length = torch.linalg.vector_norm(second, dim=-1, keepdim=True)
    unit = second / length.clamp_min(NO_LENGTH)
    perpendicular = _reject(unit, x)
    sine = torch.linalg.vector_norm(perpendicular, dim=-1, keepdim=True)
    fixed = _any_perpendicular(x)
    mixed = perpendicular + (COLLINEAR_SINE - sine).clamp_min(0.0) * fixed
    # The second pass removes what rounding left of x: x and y are orthogonal to the last digit.
    y = _direction(_reject(_direction(mixed, otherwise=fixed), x), otherwise=fixed)
    return torch.stack((x, y, torch.linalg.cross(x, y, dim=-1)), dim=-1)


def rotation_from_6d(x: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Turn six numbers, two columns that need be neither unit nor orthogonal, into a rotation.

    Zhou et al., CVPR 2019 ("On the continuity of rotation representations in neural
    networks"), regularised as in ``gram_schmidt``; differentiable.
    """
    return gram_schmidt(x[..., :3], x[..., 3:])


def rotation_to_6d(rotations: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """Return the first two columns of each rotation matrix, one after the other."""
    return torch.cat((rotations[..., 0], rotations[..., 1]), dim=-1)


def _direction(
    v: Float[Tensor, "*batch 3"], otherwise: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3"]:
    length = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    return torch.where(length > NO_LENGTH, v / length.clamp_min(NO_LENGTH), otherwise)


def _reject(
    v: Float[Tensor, "*batch 3"], unit: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3"]:
    return v - (v * unit).sum(dim=-1, keepdim=True) * unit


def _any_perpendicular(unit: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    # The Cartesian axis least aligned with the unit vector is at least 54 degrees away from it.
    axis = torch.nn.functional.one_hot(unit.abs().argmin(dim=-1), 3).to(unit.dtype)
    crossed = torch.linalg.cross(unit, axis, dim=-1)
    return crossed / torch.linalg.vector_norm(crossed, dim=-1, keepdim=True)
