import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from trajgen.geometry.frames import RigidFrames, chain_frames, frames_from_three_points
from trajgen.geometry.rotations import random_rotations


def random_frames(n: int, generator: torch.Generator) -> RigidFrames:
    origins = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return RigidFrames(random_rotations(n, generator, torch.float64), origins)


def test_apply_agrees_with_scipy(generator, points):
    frames = random_frames(12, generator)
    moved = frames[..., None].apply(points)
    for i in range(12):
        expected = Rotation.from_matrix(frames.rotations[i].numpy()).apply(points[i].numpy())
        np.testing.assert_allclose(moved[i].numpy(), expected + frames.origins[i].numpy())


def test_compose_and_invert_are_those_of_a_group(generator, points):
    f, g = random_frames(12, generator), random_frames(12, generator)
    x = points[:, 0]
    torch.testing.assert_close(f.compose(g).apply(x), f.apply(g.apply(x)))
    torch.testing.assert_close(f.invert().apply(f.apply(x)), x)
    torch.testing.assert_close(f.compose(f.invert()).origins, torch.zeros_like(x))


def test_indexing_keeps_the_last_dimensions(generator):
    frames = random_frames(12, generator)
    assert frames.shape == (12,)
    assert frames[2].shape == ()
    assert frames[2:5].shape == (3,)
    assert frames[None].shape == (1, 12)
    assert frames[..., None].shape == (12, 1)
    kept = frames[frames.origins[:, 0] > 0]
    torch.testing.assert_close(kept.origins, frames.origins[frames.origins[:, 0] > 0])


def test_frame_of_three_points_by_hand():
    a, b, c = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    frame = frames_from_three_points(a, b, c)
    torch.testing.assert_close(frame.rotations, torch.eye(3))
    torch.testing.assert_close(frame.origins, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chain_frames_move_with_the_chain(generator, points, dtype):
    points = points.to(dtype)
    R = random_rotations(1, generator, dtype)[0]
    shift = torch.tensor([1.0, -2.0, 3.0], dtype=dtype)
    moved = chain_frames(points @ R.mT + shift)
    expected = RigidFrames(R, shift).compose(chain_frames(points))
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(moved.rotations, expected.rotations, atol=tolerance, rtol=0)
    torch.testing.assert_close(moved.origins, expected.origins, atol=tolerance, rtol=0)


def test_chain_frames_of_ends(points):
    frames = chain_frames(points)
    inner = frames_from_three_points(points[:, 0], points[:, 1], points[:, 2]).rotations
    torch.testing.assert_close(frames.rotations[:, 0], inner)
    torch.testing.assert_close(frames.rotations[:, 1], inner)
    torch.testing.assert_close(frames.rotations[:, -1], frames.rotations[:, -2])
    torch.testing.assert_close(frames.origins, points)
    three = chain_frames(points[:, :3]).rotations
    torch.testing.assert_close(three, inner[:, None].expand_as(three))


@pytest.mark.parametrize("beads", [0, 1, 2])
def test_short_chains_are_refused(beads):
    with pytest.raises(ValueError, match=f"{beads} beads.*at least three"):
        chain_frames(torch.zeros(beads, 3))


GRID = arrays(np.float64, (5, 3), elements=st.sampled_from([0.0, 0.38, 0.76, 1.0]))


@settings(deadline=None)
@given(GRID)
def test_collinear_and_coincident_beads_give_rotations_and_finite_gradients(positions):
    for dtype in (torch.float64, torch.float32):
        x = torch.from_numpy(positions).to(dtype).requires_grad_()
        R = chain_frames(x).rotations
        tolerance = 100 * torch.finfo(dtype).eps
        eye = torch.eye(3, dtype=dtype).expand_as(R)
        torch.testing.assert_close(R @ R.mT, eye, atol=tolerance, rtol=0)
        assert (torch.linalg.det(R) > 0).all()
        (R * torch.arange(9.0, dtype=dtype).reshape(3, 3)).sum().backward()
        assert x.grad.isfinite().all()


def test_chain_frames_gradcheck(points):
    x = points[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: chain_frames(p).rotations, x)
