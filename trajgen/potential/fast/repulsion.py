"""The repulsion of one pair: ε (σ/r)⁶, shifted to end at ``REPULSION_RANGE_NM``."""

import numpy as np
from jaxtyping import Float32

from trajgen.potential.fast.compiling import kernel
from trajgen.potential.priors import REPULSION_RANGE_NM, RepulsionPrior

_RANGE_SQUARE = REPULSION_RANGE_NM**2


def repulsion_strengths(prior: RepulsionPrior, beads: int) -> Float32[np.ndarray, "beads beads"]:
    """Return ε σ⁶ of each pair above the diagonal, kJ/mol nm⁶; zero where beads do not repel."""
    strengths = np.zeros((beads, beads), np.float32)
    first, second = prior.pairs.cpu().numpy().T
    values = prior.strength.double() * prior.sigma_nm.double() ** 6
    strengths[first, second] = values.cpu().numpy()
    return strengths


@kernel
def repel(square_nm2: float, strength: float) -> tuple[float, float]:
    """Return the energy of a pair, kJ/mol, and its force by the distance, kJ/mol/nm².

    Args:
        square_nm2: square of the distance.
        strength: ε σ⁶; beads that do not repel, with 0, may sit on each other.
    """
    if strength == 0 or not square_nm2 < _RANGE_SQUARE:
        return 0.0, 0.0
    end, inverse = 1 / _RANGE_SQUARE, 1 / square_nm2
    cube, end_cube = inverse * inverse * inverse, end * end * end
    energy = strength * (cube - end_cube * (4 - 3 * square_nm2 * end))
    return energy, 6 * strength * (cube * inverse - end_cube * end)
