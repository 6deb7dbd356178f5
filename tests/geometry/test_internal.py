import mdtraj as md
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trajgen.geometry.internal import all_pairs, angles, consecutive, dihedrals, distances
from trajgen.geometry.rotations import random_rotations

ANGLE_LIKE = [
    (distances, lambda n: all_pairs(n)),
    (angles, lambda n: consecutive(n, 3)),
    (dihedrals, lambda n: consecutive(n, 4)),
]


def test_index_helpers():
    assert consecutive(4, 2).tolist() == [[0, 1], [1, 2], [2, 3]]
    assert consecutive(4, 4).tolist() == [[0, 1, 2, 3]]
    assert consecutive(2, 3).shape == (0, 3)
    assert all_pairs(4, 2).tolist() == [[0, 2], [0, 3], [1, 3]]
    assert all_pairs(5).shape == (10, 2)
    assert all_pairs(1).shape == (0, 2)
    with pytest.raises(ValueError, match="min_separation is 0"):
        all_pairs(4, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agreement_with_mdtraj(points, bead_topology, dtype):
    trajectory = md.Trajectory(points.numpy().astype(np.float32), bead_topology(7))
    x = points.to(dtype)
    pairs, triples, quadruples = all_pairs(7), consecutive(7, 3), consecutive(7, 4)
    for ours, theirs in (
        (distances(x, pairs), md.compute_distances(trajectory, pairs.numpy())),
        (angles(x, triples), md.compute_angles(trajectory, triples.numpy())),
        (dihedrals(x, quadruples), md.compute_dihedrals(trajectory, quadruples.numpy())),
    ):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-4)


def test_dihedral_sign_is_that_of_iupac():
    """Seen along the middle bond, the last bead is a quarter turn clockwise of the first."""
    x = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    assert dihedrals(x, consecutive(4, 4)).item() == pytest.approx(np.pi / 2)
    mirrored = x * torch.tensor([1.0, -1.0, 1.0])
    assert dihedrals(mirrored, consecutive(4, 4)).item() == pytest.approx(-np.pi / 2)


@pytest.mark.parametrize(("coordinate", "indices"), ANGLE_LIKE)
def test_rotation_and_translation_change_nothing(generator, points, coordinate, indices):
    R = random_rotations(12, generator, torch.float64)
    moved = points @ R.mT + torch.randn(12, 1, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(coordinate(moved, indices(7)), coordinate(points, indices(7)))


@pytest.mark.parametrize(("coordinate", "indices"), ANGLE_LIKE)
def test_gradients(points, coordinate, indices):
    x = points[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: coordinate(p, indices(7)), x)
    assert torch.autograd.gradgradcheck(lambda p: coordinate(p, indices(7)), x)


@pytest.mark.parametrize("bend", [1e-3, 1e-5])
def test_gradients_close_to_a_line(bend):
    x = torch.tensor(
        [[0.0, 0, 0], [1, 0, 0], [2, bend, 0], [3, 0, bend]], dtype=torch.float64
    ).requires_grad_()
    step = bend * 1e-3
    assert torch.autograd.gradcheck(lambda p: angles(p, consecutive(4, 3)), x, eps=step, atol=1e-4)
    assert torch.autograd.gradcheck(
        lambda p: bend * dihedrals(p, consecutive(4, 4)), x, eps=step, atol=1e-4
    )


def test_angles_keep_their_digits_at_zero_and_pi():
    for tilt in (1e-6, 1e-4):
        x = torch.tensor([[1.0, tilt, 0], [0, 0, 0], [1, 0, 0], [2, tilt, 0]], dtype=torch.float64)
        folded, straight = angles(x, consecutive(4, 3)).tolist()
        assert folded == pytest.approx(np.arctan(tilt), rel=1e-9)
        assert np.pi - straight == pytest.approx(np.arctan(tilt), rel=1e-8)


GRID = arrays(np.float64, (6, 3), elements=st.sampled_from([0.0, 0.38, 0.76, 1e-7, 1e-12]))


@settings(deadline=None)
@given(GRID)
def test_gradients_are_finite_at_collinear_and_coincident_beads(positions):
    for dtype in (torch.float64, torch.float32):
        for coordinate, indices in ANGLE_LIKE:
            x = torch.from_numpy(positions).to(dtype).requires_grad_()
            values = coordinate(x, indices(6))
            (gradient,) = torch.autograd.grad(values.sum(), x)
            assert values.isfinite().all()
            assert gradient.isfinite().all()


def test_second_gradients_are_finite_on_a_line():
    """Force matching differentiates the gradient."""
    line = 0.38 * torch.arange(5.0, dtype=torch.float64)[:, None] * torch.ones(3)
    for coordinate, indices in ANGLE_LIKE:
        x = line.clone().requires_grad_()
        energy = coordinate(x, indices(5)).square().sum()
        (gradient,) = torch.autograd.grad(energy, x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), x, allow_unused=True)
        assert second is None or second.isfinite().all()
