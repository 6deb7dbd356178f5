"""Each weight is moved by one optimizer, and matrices that features go through by Muon."""

import pytest
import torch
from torch import nn

from trajgen.surrogate.optimizers import RATES, make_optimizers, set_learning_rate
from trajgen.surrogate.transformer import DIMENSIONS, TrajectoryTransformer


@pytest.fixture
def network() -> TrajectoryTransformer:
    torch.manual_seed(0)
    return TrajectoryTransformer(DIMENSIONS["tiny"], 7)


def held_by(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [weights for group in optimizer.param_groups for weights in group["params"]]


def test_every_weight_is_in_one_optimizer(network: TrajectoryTransformer):
    optimizers = make_optimizers(network, weight_decay=0.01)
    held = [id(weights) for optimizer in optimizers.values() for weights in held_by(optimizer)]
    assert sorted(held) == sorted(id(weights) for weights in network.parameters())
    # Four matrices of attention over residues and frames, and two of the feed-forward part.
    assert len(held_by(optimizers["muon"])) == 6 * len(network.blocks)


def test_a_step_moves_a_matrix_alike_in_all_directions(network: TrajectoryTransformer):
    """However few features the gradient asks for, and by so many steps of AdamW."""
    optimizers = make_optimizers(network, weight_decay=0.0)
    set_learning_rate(optimizers, 0.01)
    matrix = network.blocks[0].feed_forward[0].weight
    before = matrix.detach().clone()
    generator = torch.Generator().manual_seed(1)
    matrix.grad = torch.randn(matrix.shape, generator=generator)
    matrix.grad[:, 0] *= 20.0
    optimizers["muon"].step()
    moved = before - matrix.detach()
    sizes = torch.linalg.svdvals(moved)
    assert sizes[0] / sizes[-1] < 2.5
    assert torch.linalg.svdvals(matrix.grad)[0] / torch.linalg.svdvals(matrix.grad)[-1] > 20
    # The root mean square of steps of AdamW is near 0.2 learning rates (Liu et al., section 2.2).
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.2 * RATES["muon"] * 0.01, rel=0.2)


def test_rates_follow_that_of_the_settings(network: TrajectoryTransformer):
    optimizers = make_optimizers(network, weight_decay=0.01)
    for rate in (0.004, 0.001):
        set_learning_rate(optimizers, rate)
        for name, optimizer in optimizers.items():
            assert [group["lr"] for group in optimizer.param_groups] == [RATES[name] * rate]
