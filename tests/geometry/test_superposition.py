import mdtraj as md
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from trajgen.geometry.rotations import random_rotations
from trajgen.geometry.superposition import rmsd, superpose, superposed


def moved_copy(points: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    R = random_rotations(points.shape[0], generator, points.dtype)
    shift = torch.randn(points.shape[0], 1, 3, generator=generator, dtype=torch.float64)
    return points @ R.mT + shift.to(points.dtype)


@pytest.mark.parametrize("weighted", [False, True])
def test_agreement_with_scipy(generator, points, weighted):
    target = torch.randn(12, 7, 3, generator=generator, dtype=torch.float64)
    weights = torch.rand(12, 7, generator=generator, dtype=torch.float64) if weighted else None
    frames = superpose(points, target, weights)
    for i in range(12):
        w = np.ones(7) if weights is None else weights[i].numpy()
        centre_a = np.average(points[i].numpy(), axis=0, weights=w)
        centre_b = np.average(target[i].numpy(), axis=0, weights=w)
        expected, _ = Rotation.align_vectors(target[i] - centre_b, points[i] - centre_a, weights=w)
        np.testing.assert_allclose(frames.rotations[i], expected.as_matrix(), atol=1e-9)
        np.testing.assert_allclose(frames.apply(points[i, :1])[i], frames[i].apply(points[i, 0]))
        np.testing.assert_allclose(frames[i].apply(torch.from_numpy(centre_a)), centre_b)


def test_agreement_with_mdtraj(generator, points, bead_topology):
    target = torch.randn(12, 7, 3, generator=generator, dtype=torch.float64)
    for i in range(3):
        # Made anew each time: md.rmsd centres its arguments in place.
        mobile_md = md.Trajectory(points.numpy().astype(np.float32), bead_topology(7))
        target_md = md.Trajectory(target.numpy().astype(np.float32), bead_topology(7))
        mobile_md.superpose(target_md, i)
        np.testing.assert_allclose(superposed(points, target[i]), mobile_md.xyz, atol=1e-4)
        expected = md.rmsd(mobile_md, target_md, i)
        np.testing.assert_allclose(rmsd(points, target[i]), expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_moved_copy_comes_back(generator, points, dtype):
    points = points.to(dtype)
    copy = moved_copy(points, generator)
    back = superposed(copy, points)
    assert back.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(back, points, atol=tolerance, rtol=0)
    assert rmsd(copy, points).max() < tolerance
    assert (rmsd(points, points) < 1e-7).all()


def test_a_mirror_image_is_another_structure(points):
    mirrored = points * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    assert (rmsd(points, mirrored) > 0.01).all()
    determinants = torch.linalg.det(superpose(points, mirrored).rotations)
    torch.testing.assert_close(determinants, torch.ones_like(determinants))


SMALL = arrays(np.float64, (2, 4, 3), elements=st.sampled_from([0.0, 0.3, -0.5, 1.0]))


@settings(deadline=None)
@given(SMALL)
def test_degenerate_structures_get_a_proper_rotation(pair):
    a, b = torch.from_numpy(pair)
    R = superpose(a, b).rotations
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(R) > 0
    assert rmsd(a, b) >= 0
    torch.testing.assert_close(rmsd(a, b), rmsd(b, a), atol=1e-7, rtol=0)


def test_no_rotation_does_better(generator, points):
    """Random and neighbouring rotations all leave a larger deviation."""
    target = torch.randn(12, 7, 3, generator=generator, dtype=torch.float64)
    best = (superposed(points, target) - target).square().sum(dim=(-1, -2))
    centred = superposed(points, target) - target.mean(dim=1, keepdim=True)
    for R in random_rotations(200, generator, torch.float64):
        other = centred @ R.mT + target.mean(dim=1, keepdim=True)
        assert ((other - target).square().sum(dim=(-1, -2)) >= best - 1e-12).all()


def test_weights_are_checked(points):
    weights = torch.ones(12, 7, dtype=torch.float64)
    weights[3] = 0.0
    with pytest.raises(ValueError, match="weights"):
        superpose(points, points, weights)
    with pytest.raises(ValueError, match="weights"):
        superpose(points, points, weights - 2)


def test_nan_stays_in_its_frame(generator, points):
    broken = points.clone()
    broken[2, 0, 0] = torch.nan
    result = rmsd(broken, moved_copy(points, generator))
    assert result[2].isnan()
    assert result[torch.arange(12) != 2].max() < 1e-7


def test_gradients(generator, points):
    target = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
    a, b = points[:2].clone().requires_grad_(), target.requires_grad_()
    assert torch.autograd.gradcheck(rmsd, (a, b))
    assert torch.autograd.gradcheck(superposed, (a, b))
    (gradient,) = torch.autograd.grad(rmsd(a, a.detach()).sum(), a)
    assert gradient.isfinite().all()
