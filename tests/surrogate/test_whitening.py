import pytest
import torch
from scipy.linalg import sqrtm
from toy_chain import TOPOLOGY, wobbling_chain

from trajgen.geometry.internal import distances
from trajgen.geometry.rotations import random_rotations
from trajgen.surrogate.conditioning import forward_mask
from trajgen.surrogate.resolutions import AlphaCarbons
from trajgen.surrogate.tokens import (
    TRANSLATION,
    Reference,
    channel_count,
    encode,
    reference_frames,
    superpose_on_reference,
)
from trajgen.surrogate.whitening import (
    Springs,
    measure_springs,
    second_neighbours,
    stretch_directions,
    whitening,
)

BONDS = torch.tensor(TOPOLOGY.bonds)
BEADS = TOPOLOGY.n_beads
BEAD_MODEL = AlphaCarbons(TOPOLOGY)


@pytest.fixture
def windows() -> torch.Tensor:
    return torch.from_numpy(wobbling_chain(120, 0)).view(20, 6, BEADS, 3)


def referenced(windows: torch.Tensor) -> tuple[torch.Tensor, Reference]:
    known = forward_mask(windows.shape[1], BEADS).expand(windows.shape[:3])
    reference = reference_frames(windows, known, windows[0, 0], BEAD_MODEL)
    return superpose_on_reference(windows, known, reference, BEAD_MODEL), reference


def springs_of(windows: torch.Tensor) -> Springs:
    aligned, reference = referenced(windows)
    asked = torch.ones(windows.shape[:2], dtype=torch.bool)
    asked[:, 0] = False
    return measure_springs(BONDS, aligned, reference, asked)


def test_stretch_directions_are_the_gradient_of_distances(windows: torch.Tensor):
    positions = windows[:3, 0].double().requires_grad_()
    pairs = torch.cat([BONDS, second_neighbours(BONDS, BEADS)])
    for column in range(len(pairs)):
        lengths = distances(positions, pairs)[:, column].sum()
        (gradient,) = torch.autograd.grad(lengths, positions)
        wanted = stretch_directions(positions.detach(), pairs)[:, column]
        assert torch.allclose(gradient.flatten(1), wanted, atol=1e-12)


def test_second_neighbours_of_a_chain_and_of_a_ring():
    assert second_neighbours(BONDS, BEADS).tolist() == [[0, 2], [1, 3], [2, 4]]
    triangle = torch.tensor([[0, 1], [1, 2], [0, 2]])
    assert second_neighbours(triangle, 3).tolist() == []


def test_whitening_comes_back_and_uses_the_matrix_root(windows: torch.Tensor):
    springs = springs_of(windows)
    aligned, reference = referenced(windows)
    change = whitening(reference, springs, torch.ones_like(reference.own))
    tokens = encode(aligned, reference, BEAD_MODEL)
    assert torch.allclose(change.colour(change.whiten(tokens)), tokens, atol=1e-5)
    along = stretch_directions(reference.positions_nm, springs.pairs)
    along = along / springs.spread_nm[:, None]
    stiffness = along.mT @ along + torch.eye(3 * BEADS) / springs.free_nm**2
    for window in range(3):
        wanted = torch.from_numpy(sqrtm(stiffness[window].double().numpy()).real).float()
        assert torch.allclose(change.inverse_root[window], wanted, rtol=1e-3, atol=1e-2)


def test_whitened_tokens_do_not_change_when_frames_are_turned(windows: torch.Tensor):
    springs = springs_of(windows)
    flat = windows.flatten(0, 1)
    turn = random_rotations(len(flat), torch.Generator().manual_seed(0))
    results = []
    for positions in (windows, (flat @ turn.mT + 1.0).view_as(windows)):
        aligned, reference = referenced(positions)
        change = whitening(reference, springs, torch.ones_like(reference.own))
        results.append(change.whiten(encode(aligned, reference, BEAD_MODEL)))
    assert (results[0] - results[1])[..., TRANSLATION].abs().max() < 1e-3


def test_normal_numbers_are_displacements_with_the_covariance_of_the_springs(
    windows: torch.Tensor,
):
    springs = springs_of(windows)
    _, reference = referenced(windows)
    change = whitening(reference, springs, torch.ones_like(reference.own))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20, 4000, BEADS, channel_count(0), generator=generator)
    positions = reference.frames[:, None].apply(change.colour(noise)[..., TRANSLATION])
    moves = (positions - change.centre_nm[:, None]).flatten(-2)[0]
    wanted = change.root[0] @ change.root[0]
    sampled = moves.T @ moves / len(moves)
    assert (sampled - wanted).abs().max() < 0.1 * wanted.diagonal().max()


def test_the_centre_relaxes_strained_bonds():
    rest = torch.full((4,), 0.38)
    springs = Springs(
        pairs=BONDS,
        rest_nm=rest,
        returned=torch.ones(4),
        spread_nm=torch.full((4,), 0.005),
        free_nm=torch.tensor(0.1),
    )
    windows = torch.from_numpy(wobbling_chain(3, 0)).view(1, 3, BEADS, 3)
    _, reference = referenced(windows)
    change = whitening(reference, springs, torch.ones_like(reference.own))
    before = (distances(reference.positions_nm, BONDS) - rest).abs().max()
    after = (distances(change.centre_nm, BONDS) - rest).abs().max()
    assert before > 0.02
    assert after < 0.2 * before


def test_residues_that_are_held_are_not_mixed_with_others(windows: torch.Tensor):
    springs = springs_of(windows)
    aligned, reference = referenced(windows)
    mobile = torch.ones_like(reference.own)
    mobile[:, [0, 3]] = False
    change = whitening(reference, springs, mobile)
    held = reference.positions_nm[:, [0, 3]]
    assert torch.allclose(change.centre_nm[:, [0, 3]], held, atol=1e-6)
    tokens = encode(aligned, reference, BEAD_MODEL)
    shifted = tokens.clone()
    shifted[:, :, [1, 2, 4], TRANSLATION] += 0.1
    first, second = change.whiten(tokens), change.whiten(shifted)
    assert torch.allclose(first[:, :, [0, 3]], second[:, :, [0, 3]], atol=1e-5)


def test_bonds_that_lose_their_strain_at_once_are_found_so():
    # Independent frames: a pair keeps nothing of its strain, and its spread is that of one frame.
    windows = torch.from_numpy(wobbling_chain(6000, 1, spread_nm=0.01, memory=0.0))
    springs = springs_of(windows.view(1000, 6, BEADS, 3))
    assert springs.returned.min() > 0.9
    assert abs(springs.spread_nm[0] / (0.01 * 2**0.5) - 1) < 0.1
