"""Chains drawn anew by weight: as often as it says, and basins keep theirs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from potential_molecules import grow_chains

from trajgen.potential.chain_weights import WidestSpread, effective_number, systematic_draw


@given(
    raw=st.lists(st.floats(1e-6, 10), min_size=1, max_size=30),
    offset=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 99),
)
def test_each_chain_is_kept_as_often_as_its_weight_says(raw, offset, seed):
    weights = torch.tensor(raw, dtype=torch.float64)
    weights = weights / weights.mean()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(raw)))
    kept = systematic_draw(weights, order, offset).bincount(minlength=len(raw))
    assert kept.sum() == len(raw)
    assert (kept >= (weights - 1e-9).floor()).all()
    assert (kept <= (weights + 1e-9).ceil()).all()


def test_the_mean_over_draws_is_the_weighted_mean():
    weights = torch.tensor([0.1, 2.5, 0.9, 0.5], dtype=torch.float64)
    offsets = (np.arange(1000) + 0.5) / 1000
    kept = [systematic_draw(weights, torch.tensor([2, 0, 3, 1]), offset) for offset in offsets]
    counts = torch.cat(kept).bincount(minlength=4) / len(offsets)
    torch.testing.assert_close(counts, weights, atol=2e-3, rtol=0, check_dtype=False)


def test_basins_that_stand_together_keep_their_weight():
    random = np.random.default_rng(3)
    basin = torch.from_numpy(random.integers(0, 2, 200))
    weights = torch.from_numpy(random.exponential(size=200))
    weights = weights / weights.mean()
    true = float((weights * basin).mean())
    errors = {}
    for name, order in (("together", basin.argsort()), ("mixed", torch.arange(200))):
        drawn = [systematic_draw(weights, order, offset) for offset in random.random(300)]
        errors[name] = max(abs(float(basin[kept].double().mean()) - true) for kept in drawn)
    assert errors["together"] <= 1 / 200 + 1e-9
    assert errors["mixed"] > 2 / 200


def test_the_effective_number_is_that_of_equal_weights():
    assert effective_number(torch.ones(7)) == 7
    assert effective_number(torch.tensor([1.0, 0, 0, 0])) == 1
    assert effective_number(torch.tensor([1.0, 1, 0, 0])) == 2


@pytest.mark.parametrize("beads", [3, 10, 40])
def test_the_widest_spread_tells_folded_from_stretched(beads):
    compact = torch.from_numpy(grow_chains(30, beads, seed=1).astype(np.float32))
    stretched = compact * torch.tensor([1.0, 1.0, 3.0])
    both = torch.cat([compact, stretched])
    spread = WidestSpread.of(both)
    order = spread.order(both)
    folded = (order < 30).float()
    assert max(folded[:30].mean(), folded[30:].mean()) > 0.8
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    moved = both @ torch.from_numpy(turn.astype(np.float32)) + 2.0
    projected = [spread.order(frames) for frames in (both, moved)]
    assert (projected[0] == projected[1]).float().mean() > 0.9
