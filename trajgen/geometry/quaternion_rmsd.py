"""RMSD without rotations, by the quaternion characteristic polynomial.

The largest eigenvalue λ of the 4 x 4 key matrix of two centred structures gives
n RMSD² = |a|² + |b|² - 2 λ without a rotation (Theobald, Acta Cryst. A 61, 478 (2005)). With the
3 x 3 correlation matrix M and S = Mᵀ M its characteristic polynomial is

    P(λ) = λ⁴ - 2 tr(S) λ² - 8 det(M) λ + 2 tr(S²) - tr(S)²

All four roots are real, so that Laguerre's method from an upper bound falls onto the largest one,
with cubic convergence. The structures are float64, scaled to |a| = |b| = 1. Where two roots nearly
coincide (structures close to one line, where rounding would cost half of the digits) the
eigenvalue is taken from the matrix.
"""

import torch
from jaxtyping import Float
from torch import Tensor

#: Step of Laguerre's method below which it has arrived; the next error is its cube.
_TOLERANCE = 1e-7
_MAX_STEPS = 30
#: P'(λ) below this: the largest root is close to another one.
_SMALLEST_SLOPE = 1e-3


def rmsd_of_centred(
    a: Float[Tensor, "n beads 3"], b: Float[Tensor, "m beads 3"]
) -> Float[Tensor, "n m"]:
    """Return the RMSD of every structure of ``a`` and every one of ``b``, nm, all at once.

    Args:
        a: structures whose mean is zero, nm, float64.
        b: structures whose mean is zero, nm, float64.
    """
    n, beads, _ = a.shape
    m = b.shape[0]
    unit_a, size_a = _normalised(a)
    unit_b, size_b = _normalised(b)
    rows = unit_a.permute(2, 0, 1).reshape(3 * n, beads)
    columns = unit_b.permute(2, 0, 1).reshape(3 * m, beads)
    correlation = (rows @ columns.T).reshape(3, n, 3, m).transpose(1, 2)
    missing = (1.0 - _largest_eigenvalue(correlation)).clamp_min(0.0)
    sizes_a, sizes_b = size_a[:, None], size_b[None, :]
    # |a|² + |b|² - 2 |a| |b| λ without the cancellation of its large terms.
    square = (sizes_a - sizes_b) ** 2 + 2 * sizes_a * sizes_b * missing
    return torch.sqrt(square / beads)


def _normalised(
    positions: Float[Tensor, "n beads 3"],
) -> tuple[Float[Tensor, "n beads 3"], Float[Tensor, " n"]]:
    size = torch.linalg.vector_norm(positions, dim=(1, 2))
    return positions / torch.where(size > 0, size, 1.0)[:, None, None], size


def _largest_eigenvalue(M: Float[Tensor, "3 3 n m"]) -> Float[Tensor, "n m"]:
    """Return λ of each pair from the correlation matrices of structures of size one."""
    S = [[(M[:, i] * M[:, j]).sum(dim=0) for j in range(i, 3)] for i in range(3)]
    trace = S[0][0] + S[1][0] + S[2][0]
    trace_square = S[0][0] ** 2 + S[1][0] ** 2 + S[2][0] ** 2
    trace_square += 2 * (S[0][1] ** 2 + S[0][2] ** 2 + S[1][1] ** 2)
    determinant = (
        M[0, 0] * (M[1, 1] * M[2, 2] - M[1, 2] * M[2, 1])
        - M[0, 1] * (M[1, 0] * M[2, 2] - M[1, 2] * M[2, 0])
        + M[0, 2] * (M[1, 0] * M[2, 1] - M[1, 1] * M[2, 0])
    )
    c2, c1, c0 = -2 * trace, -8 * determinant, 2 * trace_square - trace**2
    # λ is at most |a| |b|, and the sum of three singular values at most √3 times their norm.
    root = torch.sqrt(3 * trace).clamp_max(1.0)
    moving = torch.ones_like(root, dtype=torch.bool)
    unsure = torch.zeros_like(moving)
    for _ in range(_MAX_STEPS):
        square = root * root
        value = (square + c2) * square + c1 * root + c0
        slope = (4 * square + 2 * c2) * root + c1
        # Right of the largest root P' falls with λ: once too small, it stays so.
        unsure |= moving & (slope < _SMALLEST_SLOPE)
        inner = 9 * slope * slope - 12 * value * (12 * square + 2 * c2)
        step = 4 * value / (slope + torch.sqrt(inner.clamp_min(0.0)))
        # A pair that has arrived stays, so that its result does not depend on the others.
        moving &= ~unsure
        root = torch.where(moving, root - step, root)
        moving &= step.abs() > _TOLERANCE
        if not bool(moving.any()):
            break
    unsure |= moving
    if bool(unsure.any()):
        root[unsure] = _eigenvalue_of_key_matrix(M[:, :, unsure].permute(2, 0, 1))
    return root


def _eigenvalue_of_key_matrix(M: Float[Tensor, "pairs 3 3"]) -> Float[Tensor, " pairs"]:
    # Horn, J. Opt. Soc. Am. A 4, 629 (1987): the symmetric matrix N of section 4.A.
    key = torch.empty(M.shape[0], 4, 4, dtype=M.dtype, device=M.device)
    trace = M.diagonal(dim1=1, dim2=2).sum(dim=-1)
    skew = torch.stack(
        (M[:, 1, 2] - M[:, 2, 1], M[:, 2, 0] - M[:, 0, 2], M[:, 0, 1] - M[:, 1, 0]), dim=-1
    )
    key[:, 0, 0] = trace
    key[:, 0, 1:] = key[:, 1:, 0] = skew
    key[:, 1:, 1:] = M + M.mT - trace[:, None, None] * torch.eye(3, dtype=M.dtype, device=M.device)
    return torch.linalg.eigvalsh(key)[:, -1]
