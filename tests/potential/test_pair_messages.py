"""Messages of pairs: the compiled loops are their plain twin, to the second derivative."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from trajgen.geometry.internal import all_pairs
from trajgen.potential import frame_threads
from trajgen.potential.pair_messages import dense_messages, pair_messages


def factors(*frames: int, beads: int = 4, width: int = 3, seed: int = 0, **kind: torch.dtype):
    random = torch.Generator().manual_seed(seed)
    pairs = all_pairs(beads)
    kind = kind or {"dtype": torch.float64}
    filters = torch.randn(*frames, len(pairs), width, generator=random, **kind)
    sources = torch.randn(*frames, beads, width, generator=random, **kind)
    return filters.requires_grad_(), sources.requires_grad_(), pairs


def second_order(messages, filters, sources, pairs):
    """Return messages, and the gradients of a loss of their gradients, as force matching takes."""
    found = messages(filters, sources, pairs)
    first = torch.autograd.grad(found.sin().sum(), (filters, sources), create_graph=True)
    loss = sum((gradient**2).sum() for gradient in first)
    return (found, *first, *torch.autograd.grad(loss, (filters, sources)))


@settings(deadline=None)
@given(
    frames=st.integers(0, 5),
    beads=st.integers(1, 7),
    width=st.integers(1, 9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_loops_are_the_dense_sums_to_second_order(frames, beads, width, dtype):
    given_factors = factors(frames, beads=beads, width=width, seed=1, dtype=dtype)
    ours = second_order(pair_messages, *given_factors)
    plain = second_order(dense_messages, *given_factors)
    for a, b in zip(ours, plain, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b, rtol=1e-4 if dtype == torch.float32 else 1e-12, atol=1e-4)


def test_gradients_are_those_of_differences():
    filters, sources, pairs = factors(2)

    def messages(w, s):
        return pair_messages(w, s, pairs)

    assert gradcheck(messages, (filters, sources))
    assert gradgradcheck(messages, (filters, sources))


def test_leading_dimensions_and_members_mapped_over_are_frames():
    filters, sources, pairs = factors(3, 2)
    each = torch.stack([pair_messages(w, s, pairs) for w, s in zip(filters, sources, strict=True)])
    torch.testing.assert_close(pair_messages(filters, sources, pairs), each)
    mapped = torch.func.vmap(lambda w, s: pair_messages(w, s, pairs))(filters, sources)
    torch.testing.assert_close(mapped, each)
    one = torch.func.vmap(lambda w: pair_messages(w, sources[0], pairs))(filters)
    torch.testing.assert_close(one[2], pair_messages(filters[2], sources[0], pairs))
    gradient = torch.func.vmap(
        torch.func.grad(lambda s, w: pair_messages(w, s, pairs).square().sum())
    )(sources, filters)
    (expected,) = torch.autograd.grad(each.square().sum(), sources)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_frames(monkeypatch, threads):
    monkeypatch.setattr(frame_threads, "_NUMBERS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    filters, sources, pairs = factors(7, beads=5)
    found = pair_messages(filters, sources, pairs)
    torch.testing.assert_close(found, dense_messages(filters, sources, pairs))


def test_what_is_not_contiguous_is_taken_as_it_is():
    filters, sources, pairs = factors(4)
    turned = filters.detach().transpose(0, 2).contiguous().transpose(0, 2)
    same = sources.detach()[:1].expand(4, -1, -1)
    torch.testing.assert_close(
        pair_messages(turned, same, pairs), dense_messages(filters, same, pairs)
    )
