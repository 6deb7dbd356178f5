"""Weights of the frames in the loss from the noise of their labels."""

import numpy as np
from jaxtyping import Float64

from trajgen.errors import InputError


def inverse_variance_weights(
    variance: Float64[np.ndarray, " frames"],
    residual_square: Float64[np.ndarray, " frames"],
    floor: float,
) -> Float64[np.ndarray, " frames"]:
    """Return 1 / max(σ², floor · median σ²) of each frame, one on average.

    Where labels have independent noise of known variance σ², least squares weighted by 1/σ² is the
    linear unbiased estimate of the smallest variance (Gauss-Markov theorem for unequal variances:
    Aitken, Proc. R. Soc. Edinburgh 55, 42 (1936)). The floor keeps a few frames with very small
    variances, which are estimates themselves, from being the whole loss: no frame weighs more than
    1 / floor times a frame of median variance.

    A variance of zero means that it is not known, as of instantaneous forces beside mean forces.
    Such frames take the mean square of what the priors leave of their forces, noise and signal
    together, which is more than their noise alone.

    Args:
        variance: noise variance of the force components of each frame, (kJ/mol/nm)².
        residual_square: mean square of the force components that the priors leave over,
            (kJ/mol/nm)².
        floor: share of the median variance below which variances count as equal, in (0, 1].

    Raises:
        InputError: ``floor`` is not in (0, 1].
    """
    if not 0 < floor <= 1:
        raise InputError(f"floor is {floor}; wanted is a share of the median above 0, at most 1")
    unknown = variance == 0
    if unknown.all():
        return np.ones_like(variance)
    filled = variance.copy()
    if unknown.any():
        filled[unknown] = residual_square[unknown].mean()
    smallest = floor * np.median(filled)
    if smallest == 0:  # frames without a label variance whose forces the priors explain to the bit
        return np.ones_like(variance)
    weights = 1 / np.maximum(filled, smallest)
    return weights / weights.mean()
