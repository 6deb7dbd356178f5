"""Messages between beads through filters of their pairs, differentiable as often as one likes.

Of an unordered pair (i, j) both directions share the filter W, so that the messages are

    m_i = Σ_j W_ij ∘ s_j,

bilinear in filters and sources. With the products C(g, s)_ij = g_i ∘ s_j + g_j ∘ s_i the gradients
close upon themselves: of m, by W it is C(g, s) and by s the messages of g; of C, by either factor
it is the messages of the other one through the incoming gradient. Force matching differentiates
twice, and with these two functions no step of it makes a tensor of all ordered pairs.

On a CPU both are compiled loops over pairs; elsewhere, and as their twin in the tests, products and
sums of whole tensors.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function

from trajgen.potential.fast.compiling import entry
from trajgen.potential.frame_threads import run_in_threads, shares_of_frames


def pair_messages(
    filters: Float[Tensor, "*frames pairs width"],
    sources: Float[Tensor, "*frames beads width"],
    pairs: Int[Tensor, "pairs 2"],
) -> Float[Tensor, "*frames beads width"]:
    """Return the sum over the other beads of filter times source."""
    messages: Tensor = _Messages.apply(filters, sources, pairs)
    return messages


class _Bilinear(Function):
    """What both functions share: two factors, the pairs, and any number of leading dimensions."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)


class _Messages(_Bilinear):
    @staticmethod
    def forward(filters: Tensor, sources: Tensor, pairs: Tensor) -> Tensor:
        if filters.device.type == "cpu":
            return _compiled(_add_messages, filters, sources, pairs, sources.shape)
        return dense_messages(filters, sources, pairs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        filters, sources, pairs = ctx.saved_tensors
        by_filters, by_sources, _ = ctx.needs_input_grad
        return (
            _Products.apply(gradient, sources, pairs) if by_filters else None,
            _Messages.apply(filters, gradient, pairs) if by_sources else None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Tensor) -> tuple[Tensor, int]:
        return _Messages.apply(*_leading(info.batch_size, in_dims, *inputs)), 0


class _Products(_Bilinear):
    @staticmethod
    def forward(left: Tensor, right: Tensor, pairs: Tensor) -> Tensor:
        if left.device.type == "cpu":
            shape = (*left.shape[:-2], len(pairs), left.shape[-1])
            return _compiled(_set_products, left, right, pairs, shape)
        i, j = pairs.unbind(-1)
        return left[..., i, :] * right[..., j, :] + left[..., j, :] * right[..., i, :]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        left, right, pairs = ctx.saved_tensors
        by_left, by_right, _ = ctx.needs_input_grad
        return (
            _Messages.apply(gradient, right, pairs) if by_left else None,
            _Messages.apply(gradient, left, pairs) if by_right else None,
            None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Tensor) -> tuple[Tensor, int]:
        return _Products.apply(*_leading(info.batch_size, in_dims, *inputs)), 0


def dense_messages(filters: Tensor, sources: Tensor, pairs: Tensor) -> Tensor:
    """Return the messages by a tensor of all ordered pairs; the twin of the compiled loops."""
    n = sources.shape[-2]
    i, j = pairs.unbind(-1)
    pair_of = torch.full((n, n), len(pairs), device=pairs.device)
    pair_of[i, j] = pair_of[j, i] = torch.arange(len(pairs), device=pairs.device)
    # A row of zeros behind the pairs is the filter of a bead with itself.
    padded = torch.nn.functional.pad(filters, (0, 0, 0, 1))
    dense = padded.index_select(-2, pair_of.flatten()).unflatten(-2, (n, n))
    return (dense * sources[..., None, :, :]).sum(dim=-2)


def _leading(size: int, in_dims: Any, *inputs: Tensor) -> list[Tensor]:
    """Return the factors with the dimension that is mapped over in front, and the pairs."""
    *factors, pairs = inputs
    placed = [
        factor.expand(size, *factor.shape) if place is None else factor.movedim(place, 0)
        for factor, place in zip(factors, in_dims, strict=False)
    ]
    return [*placed, pairs]


def _compiled(
    loop: Callable[..., None], left: Tensor, right: Tensor, pairs: Tensor, shape: Any
) -> Tensor:
    """Run a loop over frames, in as many threads as torch has where there is enough to do."""
    first, second = (_flat(factor) for factor in (left, right))
    out = torch.empty(shape, dtype=left.dtype)
    flat, bonds = _flat(out), pairs.numpy()
    numbers = len(flat) * len(bonds) * flat.shape[-1]
    run_in_threads(
        loop,
        [(first, second, bonds, flat, *share) for share in shares_of_frames(len(flat), numbers)],
    )
    return out


def _flat(tensor: Tensor) -> np.ndarray:
    """Return the values as frames of rows, without a copy where they are contiguous."""
    frames = math.prod(tensor.shape[:-2])
    return tensor.detach().contiguous().reshape(frames, *tensor.shape[-2:]).numpy()


@entry
def _add_messages(
    filters: np.ndarray, sources: np.ndarray, pairs: np.ndarray, messages: np.ndarray,
    begin: int, end: int,
) -> None:  # fmt: skip
    width = sources.shape[2]
    for frame in range(begin, end):
        messages[frame] = 0
        for pair in range(len(pairs)):
            i, j = np.uint32(pairs[pair, 0]), np.uint32(pairs[pair, 1])
            through = filters[frame, pair]
            from_i, from_j = sources[frame, i], sources[frame, j]
            to_i, to_j = messages[frame, i], messages[frame, j]
            for c in range(width):
                to_i[c] += through[c] * from_j[c]
                to_j[c] += through[c] * from_i[c]


@entry
def _set_products(
    left: np.ndarray, right: np.ndarray, pairs: np.ndarray, products: np.ndarray,
    begin: int, end: int,
) -> None:  # fmt: skip
    width = left.shape[2]
    for frame in range(begin, end):
        for pair in range(len(pairs)):
            i, j = np.uint32(pairs[pair, 0]), np.uint32(pairs[pair, 1])
            left_i, left_j = left[frame, i], left[frame, j]
            right_i, right_j = right[frame, i], right[frame, j]
            product = products[frame, pair]
            for c in range(width):
                product[c] = left_i[c] * right_j[c] + left_j[c] * right_i[c]
