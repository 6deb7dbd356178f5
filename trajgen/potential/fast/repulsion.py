"""The repulsion ε (σ/r)⁶ of one chain, over all its pairs.

It has no cutoff: pairs far apart count little, but a large protein has so many of them that a sum
without them would have another energy. A pair costs far less here than a pair that the network
sees, so at 1,000 beads the network takes most of the time, although the number of pairs grows with
the square of the beads.
"""

import numpy as np
from jaxtyping import Float32, Float64

from trajgen.potential.fast.compiling import kernel
from trajgen.potential.priors import RepulsionPrior


def repulsion_strengths(prior: RepulsionPrior, beads: int) -> Float32[np.ndarray, "beads beads"]:
    """Return ε σ⁶ of each pair above the diagonal, kJ/mol nm⁶; zero where beads do not repel."""
    strengths = np.zeros((beads, beads), np.float32)
    first, second = prior.pairs.cpu().numpy().T
    values = prior.strength.double() * prior.sigma_nm.double() ** 6
    strengths[first, second] = values.cpu().numpy()
    return strengths


@kernel
def add_repulsion(
    x: Float64[np.ndarray, "beads 3"],
    strengths: Float32[np.ndarray, "beads beads"],
    forces: Float64[np.ndarray, "beads 3"],
) -> float:
    """Add the forces of the repulsion and return its energy, kJ/mol."""
    beads = x.shape[0]
    # Coordinates side by side, so that a bead meets several others in one vector instruction.
    px, py, pz = x[:, 0].copy(), x[:, 1].copy(), x[:, 2].copy()
    fx, fy, fz = np.zeros(beads), np.zeros(beads), np.zeros(beads)
    energy = 0.0
    for i in range(beads):
        strength_of = strengths[i]
        on_x, on_y, on_z = 0.0, 0.0, 0.0
        for j in range(i + 1, beads):
            dx, dy, dz = px[j] - px[i], py[j] - py[i], pz[j] - pz[i]
            strength = np.float64(strength_of[j])
            inverse = 1 / (dx * dx + dy * dy + dz * dz)
            # Beads that do not repel may sit on each other.
            inverse = inverse if strength != 0 else 0.0
            repulsion = strength * inverse * inverse * inverse
            push = 6 * repulsion * inverse
            energy += repulsion
            on_x += push * dx
            on_y += push * dy
            on_z += push * dz
            fx[j] += push * dx
            fy[j] += push * dy
            fz[j] += push * dz
        fx[i] -= on_x
        fy[i] -= on_y
        fz[i] -= on_z
    for i in range(beads):
        forces[i, 0] += fx[i]
        forces[i, 1] += fy[i]
        forces[i, 2] += fz[i]
    return energy
