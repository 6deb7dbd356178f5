"""Messages between beads through filters that stand in a table, without a tensor of pairs.

A filter is a function of one distance. On an even grid of knots it is computed once a pass, however
many pairs there are, and between knots it is a cubic B-spline, which is linear in the table:

    m_i = Σ_j W(u_ij) ∘ s_j,   W(u) = Σ_r w_r(u - k) T_{k+r},   k = ⌊u⌋,   r = 0 … 3,

with the place u of a distance in units of the spacing. With C(g, s)_ij = g_i ∘ s_j + g_j ∘ s_i, a
factor q for each pair and w⁽ⁿ⁾, the n-th derivative of the weights, there are three functions

    M(T, u, q, s)_i = Σ_j q_ij W⁽ⁿ⁾(u_ij) ∘ s_j,
    D(T, u, g, s)_ij = W⁽ⁿ⁾(u_ij) · C(g, s)_ij,
    A(u, q, g, s)_{k+r} = Σ_ij q_ij w⁽ⁿ⁾_r(u_ij) C(g, s)_ij,

whose gradients are made of these three again, so that force matching can differentiate twice. Each
is a compiled loop over pairs, which needs no more of a pair than its four weights.
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function

from trajgen.potential.fast.compiling import entry
from trajgen.potential.frame_threads import run_in_threads, shares_of_frames

#: The four weights as polynomials, from the constant on, of how far a place is beyond its knot.
_PIECES = ((1, -3, 3, -1), (4, 0, -6, 3), (1, 3, 3, -3), (0, 0, 0, 1))
_DENOMINATOR = 6


def spline_coefficients(values: Float[Tensor, "knots width"]) -> Float[Tensor, "rows width"]:
    """Return the coefficients of a cubic B-spline near the values of a function on even knots.

    c_k = T_k - (T_{k+1} - 2 T_k + T_{k-1}) / 6, the quasi-interpolant that is exact for cubics (de
    Boor and Fix, J. Approx. Theory 8, 19 (1973)). Its error falls with the fourth power of the
    spacing, that of its slope with the third.

    Args:
        values: of two knots more at each end than the spline is wanted for.
    """
    below, here, above = values[:-2], values[1:-1], values[2:]
    return here - (above - 2 * here + below) / 6


class SplineWeights:
    """Where pairs lie on the grid of a table, and how its rows weigh there.

    Attributes:
        places: distances from the first knot in units of the spacing.
        intervals: between knots.
        pairs: the beads of each pair.
        knots: the knot below each place.
    """

    def __init__(
        self,
        places: Float[Tensor, "frames pairs"],
        intervals: int,
        pairs: Int[Tensor, "pairs 2"],
    ) -> None:
        self.places, self.intervals, self.pairs = places, intervals, pairs
        at = places.detach()
        # A place that is not a finite number has a knot too, and weights that are no numbers.
        floors = at.floor().nan_to_num().clamp(0, intervals - 1)
        self.knots = floors.long()
        inside = (at >= 0) & (at < intervals)
        powers = [inside * (at - floors) ** power for power in range(4)]
        self._powers = torch.stack(powers, dim=-1)
        self._of_order: dict[int, Tensor] = {}

    def of_order(self, order: int) -> Float[Tensor, "frames pairs 4"]:
        """Return the weights, differentiated by the places as often; zero outside the grid."""
        if order not in self._of_order:
            pieces = self._powers.new_zeros(4, 4)
            for power in range(order, 4):
                factor = math.perm(power, order) / _DENOMINATOR
                for r, piece in enumerate(_PIECES):
                    pieces[power - order, r] = factor * piece[power]
            self._of_order[order] = self._powers @ pieces
        return self._of_order[order]


def tabulated_messages(
    table: Float[Tensor, "rows width"],
    sources: Float[Tensor, "frames beads width"],
    weights: SplineWeights,
) -> Float[Tensor, "frames beads width"]:
    """Return the sum over the other beads of filter times source, on a CPU.

    Args:
        table: coefficients of the filters, three more than there are intervals between knots.
        sources: what the beads send.
        weights: where the pairs lie on the grid; beyond it filters are zero. One serves all tables
            of a pass.

    Raises:
        ValueError: the table does not have as many rows as the grid asks for.
    """
    if len(table) != weights.intervals + 3:
        raise ValueError(
            f"a table of {len(table)} rows for {weights.intervals} intervals; give three rows more "
            "than there are intervals"
        )
    factors = torch.ones_like(weights.places)
    messages: Tensor = _Messages.apply(table, weights.places, factors, sources, weights, 0)
    return messages


class _Messages(Function):
    """M of the n-th derivative of the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        places: Tensor,
        factors: Tensor,
        sources: Tensor,
        grid: SplineWeights,
        order: int,
    ) -> Tensor:
        """Return M, the sums over pairs of filter times source."""
        ctx.save_for_backward(table, places, factors, sources)
        ctx.grid, ctx.order = grid, order
        out = torch.empty_like(sources, memory_format=torch.contiguous_format)
        weights = grid.of_order(order) * factors[..., None]
        given = _arrays(grid.knots, weights, grid.pairs, table, sources, out)
        run_in_threads(_set_messages, [(*given, *share) for share in _shares(given)])
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by the inputs, made of M, D and A again."""
        table, places, factors, sources = ctx.saved_tensors
        of_table, of_places, of_factors, of_sources, *_ = ctx.needs_input_grad
        grid, n = ctx.grid, ctx.order
        both = (gradient, sources, grid)
        return (
            _Adjoint.apply(places, factors, *both, n) if of_table else None,
            factors * _Products.apply(table, places, *both, n + 1) if of_places else None,
            _Products.apply(table, places, *both, n) if of_factors else None,
            _Messages.apply(table, places, factors, gradient, grid, n) if of_sources else None,
            None,
            None,
        )


class _Products(Function):
    """D of the n-th derivative of the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        places: Tensor,
        left: Tensor,
        right: Tensor,
        grid: SplineWeights,
        order: int,
    ) -> Tensor:
        """Return D, the products of filters with pairs of factors."""
        ctx.save_for_backward(table, places, left, right)
        ctx.grid, ctx.order = grid, order
        out = torch.empty_like(places, memory_format=torch.contiguous_format)
        given = _arrays(grid.knots, grid.of_order(order), grid.pairs, table, left, right, out)
        run_in_threads(_set_products, [(*given, *share) for share in _shares(given)])
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by the inputs, made of M, D and A again."""
        table, places, left, right = ctx.saved_tensors
        of_table, of_places, of_left, of_right, *_ = ctx.needs_input_grad
        grid, n = ctx.grid, ctx.order
        both = (left, right, grid)
        return (
            _Adjoint.apply(places, gradient, *both, n) if of_table else None,
            gradient * _Products.apply(table, places, *both, n + 1) if of_places else None,
            _Messages.apply(table, places, gradient, right, grid, n) if of_left else None,
            _Messages.apply(table, places, gradient, left, grid, n) if of_right else None,
            None,
            None,
        )


class _Adjoint(Function):
    """A of the n-th derivative of the weights."""

    @staticmethod
    def forward(
        ctx: Any,
        places: Tensor,
        factors: Tensor,
        left: Tensor,
        right: Tensor,
        grid: SplineWeights,
        order: int,
    ) -> Tensor:
        """Return A, what the products of pairs add to the rows of a table."""
        ctx.save_for_backward(places, factors, left, right)
        ctx.grid, ctx.order = grid, order
        weights = grid.of_order(order) * factors[..., None]
        given = _arrays(grid.knots, weights, grid.pairs, left, right)
        shares = _shares(given)
        # Each thread has a table of its own to add to.
        sums = left.new_zeros(len(shares), grid.intervals + 3, left.shape[-1])
        each = zip(sums.numpy(), shares, strict=True)
        run_in_threads(_add_adjoint, [(*given, own, *share) for own, share in each])
        return sums.sum(dim=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by the inputs, made of M, D and A again."""
        places, factors, left, right = ctx.saved_tensors
        of_places, of_factors, of_left, of_right, *_ = ctx.needs_input_grad
        grid, n = ctx.grid, ctx.order
        both = (left, right, grid)
        return (
            factors * _Products.apply(gradient, places, *both, n + 1) if of_places else None,
            _Products.apply(gradient, places, *both, n) if of_factors else None,
            _Messages.apply(gradient, places, factors, right, grid, n) if of_left else None,
            _Messages.apply(gradient, places, factors, left, grid, n) if of_right else None,
            None,
            None,
        )


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def _shares(given: tuple[np.ndarray, ...]) -> list[tuple[int, int]]:
    """Return the frames of each thread, for arrays of knots, weights, pairs, …, features."""
    frames, pairs = given[0].shape
    return shares_of_frames(frames, frames * pairs * given[4].shape[-1])


@entry
def _set_messages(
    knots: np.ndarray, weights: np.ndarray, pairs: np.ndarray, table: np.ndarray,
    sources: np.ndarray, messages: np.ndarray, begin: int, end: int,
) -> None:  # fmt: skip
    width = sources.shape[2]
    for frame in range(begin, end):
        messages[frame] = 0
        for pair in range(len(pairs)):
            i, j = np.uint32(pairs[pair, 0]), np.uint32(pairs[pair, 1])
            knot, weight = np.uint32(knots[frame, pair]), weights[frame, pair]
            w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
            t0, t1 = table[knot], table[knot + np.uint32(1)]
            t2, t3 = table[knot + np.uint32(2)], table[knot + np.uint32(3)]
            from_i, from_j = sources[frame, i], sources[frame, j]
            to_i, to_j = messages[frame, i], messages[frame, j]
            for c in range(width):
                through = w0 * t0[c] + w1 * t1[c] + w2 * t2[c] + w3 * t3[c]
                to_i[c] += through * from_j[c]
                to_j[c] += through * from_i[c]


@entry
def _set_products(
    knots: np.ndarray, weights: np.ndarray, pairs: np.ndarray, table: np.ndarray,
    left: np.ndarray, right: np.ndarray, products: np.ndarray, begin: int, end: int,
) -> None:  # fmt: skip
    width = left.shape[2]
    for frame in range(begin, end):
        for pair in range(len(pairs)):
            i, j = np.uint32(pairs[pair, 0]), np.uint32(pairs[pair, 1])
            knot, weight = np.uint32(knots[frame, pair]), weights[frame, pair]
            w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
            t0, t1 = table[knot], table[knot + np.uint32(1)]
            t2, t3 = table[knot + np.uint32(2)], table[knot + np.uint32(3)]
            left_i, left_j = left[frame, i], left[frame, j]
            right_i, right_j = right[frame, i], right[frame, j]
            product = w0 * 0  # of the kind of the weights
            for c in range(width):
                through = w0 * t0[c] + w1 * t1[c] + w2 * t2[c] + w3 * t3[c]
                product += through * (left_i[c] * right_j[c] + left_j[c] * right_i[c])
            products[frame, pair] = product


@entry
def _add_adjoint(
    knots: np.ndarray, weights: np.ndarray, pairs: np.ndarray, left: np.ndarray,
    right: np.ndarray, sums: np.ndarray, begin: int, end: int,
) -> None:  # fmt: skip
    width = left.shape[2]
    for frame in range(begin, end):
        for pair in range(len(pairs)):
            i, j = np.uint32(pairs[pair, 0]), np.uint32(pairs[pair, 1])
            knot, weight = np.uint32(knots[frame, pair]), weights[frame, pair]
            w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
            t0, t1 = sums[knot], sums[knot + np.uint32(1)]
            t2, t3 = sums[knot + np.uint32(2)], sums[knot + np.uint32(3)]
            left_i, left_j = left[frame, i], left[frame, j]
            right_i, right_j = right[frame, i], right[frame, j]
            for c in range(width):
                product = left_i[c] * right_j[c] + left_j[c] * right_i[c]
                t0[c] += w0 * product
                t1[c] += w1 * product
                t2[c] += w2 * product
                t3[c] += w3 * product
