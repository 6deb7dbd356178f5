import mdtraj as md
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trajgen.geometry.rotations import random_rotations
from trajgen.geometry.superposition import nearest_rmsd, rmsd, rmsd_matrix


def twin(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """All RMSDs by singular value decomposition."""
    return torch.stack([rmsd(row, b) for row in a])


@pytest.mark.parametrize("beads", [3, 4, 10, 35])
def test_agreement_with_singular_values(generator, beads):
    a = torch.randn(20, beads, 3, generator=generator, dtype=torch.float64)
    b = a[:10] + 0.3 * torch.randn(10, beads, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(rmsd_matrix(a, b), twin(a, b), atol=1e-9, rtol=0)


def test_agreement_with_mdtraj_on_chignolin(chignolin, bead_topology):
    a, b = chignolin[::650], chignolin[::50]
    ours = rmsd_matrix(a.float(), b.float())
    assert ours.dtype == torch.float32
    trajectory = md.Trajectory(b.numpy().astype(np.float32), bead_topology(10))
    reference = md.Trajectory(a.numpy().astype(np.float32), bead_topology(10))
    theirs = np.stack([md.rmsd(trajectory, reference, i) for i in range(len(a))])
    # mdtraj works in single precision and loses digits where the RMSD is small.
    apart = theirs > 0.05
    np.testing.assert_allclose(ours.numpy()[apart], theirs[apart], atol=2e-5)
    torch.testing.assert_close(ours.double(), twin(a, b), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_frames_far_from_the_origin(generator, dtype):
    a = torch.randn(50, 10, 3, generator=generator, dtype=torch.float64)
    R = random_rotations(50, generator, torch.float64)
    shift = 5.0 * torch.randn(50, 1, 3, generator=generator, dtype=torch.float64)
    copy = (a @ R.mT + shift).to(dtype)
    error = rmsd_matrix(a.to(dtype), copy).diagonal().max()
    assert error < (1e-5 if dtype == torch.float32 else 1e-6)
    assert rmsd_matrix(copy, copy).diagonal().max() < 1e-6


def test_a_mirror_image_is_another_structure(chignolin):
    frames = chignolin[::1000]
    mirrored = frames * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    result = rmsd_matrix(frames, mirrored)
    assert result.diagonal().min() > 0.05
    torch.testing.assert_close(result, twin(frames, mirrored), atol=1e-9, rtol=0)


@pytest.mark.parametrize("thickness", [0.0, 1e-9, 1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("dimensions", [0, 1, 2])
def test_points_lines_and_planes(generator, thickness, dimensions):
    """Two eigenvalues coincide on a line, where a polynomial alone loses half of the digits."""
    flat = torch.full((3,), thickness, dtype=torch.float64)
    flat[:dimensions] = 1.0
    a = flat * torch.randn(15, 6, 3, generator=generator, dtype=torch.float64)
    b = flat * torch.randn(15, 6, 3, generator=generator, dtype=torch.float64)
    b[:5] = a[:5] @ random_rotations(5, generator, torch.float64).mT
    result = rmsd_matrix(a, b)
    torch.testing.assert_close(result, twin(a, b), atol=1e-6, rtol=0)


SMALL = arrays(np.float64, (2, 4, 3), elements=st.sampled_from([0.0, 0.3, -0.5, 1.0]))


@settings(deadline=None)
@given(SMALL)
def test_lattice_structures(pair):
    """Symmetric structures have coinciding roots of every kind."""
    a = torch.from_numpy(pair)
    torch.testing.assert_close(rmsd_matrix(a, a), twin(a, a), atol=1e-6, rtol=0)


def test_single_beads_and_empty_sets():
    one = torch.randn(3, 1, 3)
    assert torch.equal(rmsd_matrix(one, one), torch.zeros(3, 3))
    assert rmsd_matrix(one[:0], one).shape == (0, 3)
    assert rmsd_matrix(one, one[:0]).shape == (3, 0)


def test_the_chunk_changes_nothing(generator):
    a = torch.randn(13, 8, 3, generator=generator, dtype=torch.float64)
    b = torch.randn(29, 8, 3, generator=generator, dtype=torch.float64)
    whole = rmsd_matrix(a, b)
    for chunk in (1, 4, 13, 29, 1000):
        torch.testing.assert_close(rmsd_matrix(a, b, chunk), whole, atol=1e-9, rtol=0)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        rmsd_matrix(a, b, 0)


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_nearest_is_the_minimum_of_the_matrix(generator, chunk):
    a = torch.randn(23, 8, 3, generator=generator, dtype=torch.float64)
    b = torch.randn(31, 8, 3, generator=generator, dtype=torch.float64)
    b[17] = a[5] + 1.0
    values, index = nearest_rmsd(a, b, chunk)
    expected = rmsd_matrix(a, b).min(dim=1)
    torch.testing.assert_close(values, expected.values, atol=1e-7, rtol=0)
    assert torch.equal(index, expected.indices)
    assert index[5] == 17
    assert values[5] < 1e-6


def test_nan_is_flagged_and_is_nobodys_nearest(generator):
    a = torch.randn(6, 5, 3, generator=generator, dtype=torch.float64)
    b = a.clone()
    a[1, 2, 0] = torch.nan
    b[3] = torch.nan
    matrix = rmsd_matrix(a, b)
    assert matrix[1].isnan().all()
    assert matrix[:, 3].isnan().all()
    assert int(matrix.isnan().sum()) == 11
    values, index = nearest_rmsd(a, b)
    assert values[1].isnan()
    assert index[1] == -1
    assert index.tolist()[4] == 4
    assert values[3] > 0.1
    lost, nobody = nearest_rmsd(a, b[3:4])
    assert lost.isnan().all()
    assert (nobody == -1).all()
    with pytest.raises(ValueError, match="b has no structures"):
        nearest_rmsd(a, b[:0])
