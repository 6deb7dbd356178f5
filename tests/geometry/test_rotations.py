import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from trajgen.geometry.rotations import (
    COLLINEAR_SINE,
    gram_schmidt,
    random_rotations,
    rotation_from_6d,
    rotation_to_6d,
)

NUMBERS = st.floats(-10, 10, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-20, 1e-8])
SIX = arrays(np.float64, (4, 6), elements=NUMBERS)


def assert_rotations(R: torch.Tensor) -> None:
    tolerance = 100 * torch.finfo(R.dtype).eps
    eye = torch.eye(3, dtype=R.dtype).expand_as(R)
    torch.testing.assert_close(R @ R.mT, eye, atol=tolerance, rtol=0)
    torch.testing.assert_close(
        torch.linalg.det(R), torch.ones_like(R[..., 0, 0]), atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_rotations_are_rotations_and_reproducible(dtype):
    first = random_rotations(100, torch.Generator().manual_seed(1), dtype)
    assert first.dtype == dtype
    assert_rotations(first)
    assert torch.equal(first, random_rotations(100, torch.Generator().manual_seed(1), dtype))


def test_random_rotations_are_uniform(generator):
    """Entries have mean 0 and variance 1/3; the angle has density (1 - cos θ)/π."""
    R = random_rotations(20000, generator, torch.float64)
    assert R.mean(dim=0).abs().max() < 0.02
    assert (R.square().mean(dim=0) - 1 / 3).abs().max() < 0.02
    angle = np.sort(Rotation.from_matrix(R.numpy()).magnitude())
    expected = (angle - np.sin(angle)) / np.pi
    assert np.abs(expected - (np.arange(angle.size) + 0.5) / angle.size).max() < 0.02


@settings(deadline=None)
@given(SIX)
def test_any_six_numbers_make_a_rotation_with_finite_gradients(six):
    for dtype in (torch.float64, torch.float32):
        x = torch.from_numpy(six).to(dtype).requires_grad_()
        R = rotation_from_6d(x)
        assert_rotations(R.detach())
        (R * torch.arange(9.0, dtype=dtype).reshape(3, 3)).sum().backward()
        assert x.grad.isfinite().all()


def test_six_numbers_round_trip(generator):
    R = random_rotations(50, generator, torch.float64)
    torch.testing.assert_close(rotation_from_6d(rotation_to_6d(R)), R)
    skewed = torch.cat((2 * R[..., 0], R[..., 1] - 3 * R[..., 0]), dim=-1)
    torch.testing.assert_close(rotation_from_6d(skewed), R)


def test_six_numbers_gradcheck_outside_and_inside_the_cone(generator):
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    near = torch.tensor([[1.0, 0.2, 0.3, 1.0, 0.2, 0.3 + 3e-4]], dtype=torch.float64)
    assert torch.autograd.gradcheck(rotation_from_6d, x.requires_grad_())
    assert torch.autograd.gradcheck(rotation_from_6d, near.requires_grad_(), eps=1e-9, atol=1e-2)


def test_gram_schmidt_is_continuous_on_the_border_of_the_cone():
    first = torch.tensor([[0.3, -0.5, 1.1]], dtype=torch.float64)
    first = first / first.norm()
    aside = torch.linalg.cross(first, torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64))
    aside = aside / aside.norm()
    inside, outside = (
        gram_schmidt(first, first + COLLINEAR_SINE * (1 + side) * aside) for side in (-1e-5, 1e-5)
    )
    torch.testing.assert_close(inside, outside, atol=1e-4, rtol=0)
    torch.testing.assert_close(outside[..., 1], aside)
