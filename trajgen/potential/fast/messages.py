"""Messages between beads through tabulated filters, and their gradients.

Of an unordered pair both directions share the filter: m_i += W(d) ∘ s_j and m_j += W(d) ∘ s_i. In a
table the rows of a knot hold values and slopes (times the spacing) side by side.
"""

import numpy as np
from jaxtyping import Float32

from trajgen.potential.fast.compiling import kernel
from trajgen.potential.fast.pairs import Seen

#: Numbers of single precision: with plain ones the compiled loops would be of double precision.
_ONE, _TWO, _THREE, _SIX = np.float32(1), np.float32(2), np.float32(3), np.float32(6)


@kernel
def _hermite(p: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return the weights of value and slope at the knot below, and of those above."""
    q = _ONE - p
    return q * q * (_ONE + _TWO * p), p * q * q, p * p * (_THREE - _TWO * p), -p * p * q


@kernel
def _hermite_slopes(p: np.float32) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """Return the derivatives of the weights by ``p``."""
    q = _ONE - p
    return -_SIX * p * q, q * (q - _TWO * p), _SIX * p * q, p * (p - _TWO * q)


@kernel
def add_messages(
    seen: Seen,
    count: int,
    table: Float32[np.ndarray, "knots 2*width"],
    sources: Float32[np.ndarray, "rows width"],
    messages: Float32[np.ndarray, "rows width"],
) -> None:
    """Add the messages of pairs to both beads."""
    width = sources.shape[1]
    for pair in range(count):
        value_0, slope_0, value_1, slope_1 = _hermite(seen.part[pair])
        knot = np.uint32(seen.knot[pair])
        below, above = table[knot], table[knot + np.uint32(1)]
        i, j = np.uint32(seen.first[pair]), np.uint32(seen.second[pair])
        from_i, from_j, to_i, to_j = sources[i], sources[j], messages[i], messages[j]
        for c in range(width):
            filtered = value_0 * below[c] + slope_0 * below[width + c]
            filtered += value_1 * above[c] + slope_1 * above[width + c]
            to_i[c] += filtered * from_j[c]
            to_j[c] += filtered * from_i[c]


@kernel
def add_message_gradients(
    seen: Seen,
    count: int,
    table: Float32[np.ndarray, "knots 2*width"],
    per_nm: float,
    sources: Float32[np.ndarray, "rows width"],
    by_messages: Float32[np.ndarray, "rows width"],
    by_sources: Float32[np.ndarray, "rows width"],
) -> None:
    """Add the gradient by the sources and that by the distances.

    Args:
        seen: pairs; their slopes are added to.
        count: how many.
        table: filters on the knots.
        per_nm: knots per nm.
        sources: what was sent.
        by_messages: gradient of the energy by the messages.
        by_sources: gradient by the sources, added to.
    """
    width = sources.shape[1]
    for pair in range(count):
        value_0, slope_0, value_1, slope_1 = _hermite(seen.part[pair])
        rise_0, bend_0, rise_1, bend_1 = _hermite_slopes(seen.part[pair])
        knot = np.uint32(seen.knot[pair])
        below, above = table[knot], table[knot + np.uint32(1)]
        i, j = np.uint32(seen.first[pair]), np.uint32(seen.second[pair])
        from_i, from_j, by_i, by_j = sources[i], sources[j], by_messages[i], by_messages[j]
        to_i, to_j = by_sources[i], by_sources[j]
        slope = np.float32(0)
        for c in range(width):
            filtered = value_0 * below[c] + slope_0 * below[width + c]
            filtered += value_1 * above[c] + slope_1 * above[width + c]
            steep = rise_0 * below[c] + bend_0 * below[width + c]
            steep += rise_1 * above[c] + bend_1 * above[width + c]
            slope += steep * (by_i[c] * from_j[c] + by_j[c] * from_i[c])
            to_i[c] += filtered * by_j[c]
            to_j[c] += filtered * by_i[c]
        seen.slope[pair] += per_nm * slope


@kernel
def add_distance_gradients(
    seen: Seen,
    count: int,
    table: Float32[np.ndarray, "knots 2*width"],
    per_nm: float,
    sources: Float32[np.ndarray, "rows width"],
    by_messages: Float32[np.ndarray, "rows width"],
) -> None:
    """Add the gradient by the distances alone, where the sources are constant."""
    width = sources.shape[1]
    for pair in range(count):
        rise_0, bend_0, rise_1, bend_1 = _hermite_slopes(seen.part[pair])
        knot = np.uint32(seen.knot[pair])
        below, above = table[knot], table[knot + np.uint32(1)]
        i, j = np.uint32(seen.first[pair]), np.uint32(seen.second[pair])
        from_i, from_j, by_i, by_j = sources[i], sources[j], by_messages[i], by_messages[j]
        slope = np.float32(0)
        for c in range(width):
            steep = rise_0 * below[c] + bend_0 * below[width + c]
            steep += rise_1 * above[c] + bend_1 * above[width + c]
            slope += steep * (by_i[c] * from_j[c] + by_j[c] * from_i[c])
        seen.slope[pair] += per_nm * slope
