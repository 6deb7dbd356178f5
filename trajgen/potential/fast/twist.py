"""The twist of the chain and its forces; the numbers are those of ``schnet.Twist``.

With bonds a, b, c in units of l, P = a × b and Q = b × c the two numbers and their gradients are

    s = a · Q:  ∂s/∂a = Q,      ∂s/∂b = c × a,          ∂s/∂c = P;
    t = P · Q:  ∂t/∂a = b × Q,  ∂t/∂b = Q × a + c × P,  ∂t/∂c = P × b.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64

from trajgen.potential.fast.chain_priors import cross, dot
from trajgen.potential.fast.compiling import kernel
from trajgen.potential.schnet import BOND_NM


@kernel
def _bond(x: np.ndarray, i: int, j: int) -> tuple[float, float, float]:
    return (
        (x[j, 0] - x[i, 0]) / BOND_NM,
        (x[j, 1] - x[i, 1]) / BOND_NM,
        (x[j, 2] - x[i, 2]) / BOND_NM,
    )


@kernel
def add_twist(
    x: Float64[np.ndarray, "beads 3"],
    runs: Int64[np.ndarray, "runs 4"],
    numbers: Float32[np.ndarray, "beads 8"],
) -> None:
    """Add the numbers of each run of bonds to those of its beads, by place in the run."""
    for run in range(runs.shape[0]):
        i, j, k, m = runs[run, 0], runs[run, 1], runs[run, 2], runs[run, 3]
        a, b, c = _bond(x, i, j), _bond(x, j, k), _bond(x, k, m)
        left, right = cross(a, b), cross(b, c)
        s, t = np.float32(dot(a, right)), np.float32(dot(left, right))
        for place in range(4):
            bead = runs[run, place]
            numbers[bead, 2 * place] += s
            numbers[bead, 2 * place + 1] += t


@kernel
def add_twist_forces(
    x: Float64[np.ndarray, "beads 3"],
    runs: Int64[np.ndarray, "runs 4"],
    gradient: Float32[np.ndarray, "beads 8"],
    forces: Float64[np.ndarray, "beads 3"],
) -> None:
    """Add the forces of an energy whose gradient by the numbers is given."""
    for run in range(runs.shape[0]):
        i, j, k, m = runs[run, 0], runs[run, 1], runs[run, 2], runs[run, 3]
        by_s, by_t = 0.0, 0.0
        for place in range(4):
            bead = runs[run, place]
            by_s += gradient[bead, 2 * place]
            by_t += gradient[bead, 2 * place + 1]
        a, b, c = _bond(x, i, j), _bond(x, j, k), _bond(x, k, m)
        left, right = cross(a, b), cross(b, c)
        turn, before, after = cross(c, a), cross(b, right), cross(left, b)
        middle_1, middle_2 = cross(right, a), cross(c, left)
        for axis in range(3):
            by_a = (by_s * right[axis] + by_t * before[axis]) / BOND_NM
            by_b = (by_s * turn[axis] + by_t * (middle_1[axis] + middle_2[axis])) / BOND_NM
            by_c = (by_s * left[axis] + by_t * after[axis]) / BOND_NM
            forces[i, axis] += by_a
            forces[j, axis] += by_b - by_a
            forces[k, axis] += by_c - by_b
            forces[m, axis] -= by_c
