"""Paths and upsampling: ends and known frames come back, gaps are filled in levels, no joins."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from test_forward import SETTINGS, STARTS, narrowing
from toy_chain import LAG_PS, TOPOLOGY, wobbling_chain

from trajgen.errors import InputError
from trajgen.geometry.superposition import rmsd, superpose
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.filling import interpolate, upsample
from trajgen.surrogate.poses import posed_between
from trajgen.surrogate.surrogate import Surrogate


def any_lag(surrogate: Surrogate) -> Surrogate:
    """Return the model as if it had been trained at all lags."""
    molecule = replace(surrogate.molecule, lags_ps=(0.01, 100.0))
    return Surrogate(surrogate.network, surrogate.settings, molecule)


@pytest.mark.parametrize("frames", [3, 5, 6])
def test_paths_begin_and_end_where_they_should(surrogate: Surrogate, frames: int):
    start, end = STARTS[0], STARTS[4]
    rollouts = interpolate(surrogate, start, end, frames, 4, LAG_PS, SETTINGS, 3)
    positions = torch.from_numpy(rollouts.positions_nm)
    assert positions.shape == (4, frames, TOPOLOGY.n_beads, 3)
    assert torch.equal(positions[:, 0], torch.from_numpy(start).expand_as(positions[:, 0]))
    assert rmsd(positions[:, -1], torch.from_numpy(end)).max() < 1e-5
    assert (positions[1:, 1:-1] - positions[:-1, 1:-1]).abs().amax(dim=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize("frames", [7, 18, 40])
def test_paths_longer_than_a_window_are_filled_in_levels(surrogate: Surrogate, frames: int):
    model = any_lag(surrogate)
    rollouts = interpolate(model, STARTS[0], STARTS[4], frames, 2, 1.0, SETTINGS, 3)
    positions = torch.from_numpy(rollouts.positions_nm)
    assert positions.shape == (2, frames, TOPOLOGY.n_beads, 3)
    assert positions.isfinite().all()
    assert rollouts.alive.all()
    assert rmsd(positions[:, -1], torch.from_numpy(STARTS[4])).max() < 1e-5
    again = interpolate(model, STARTS[0], STARTS[4], frames, 3, 1.0, SETTINGS, 3)
    assert np.abs(again.positions_nm[:2] - rollouts.positions_nm).max() < 1e-4


@pytest.mark.parametrize(("factor", "context"), [(2, 1), (5, 2), (7, 2), (13, 1), (100, 2)])
def test_known_frames_come_back_and_the_rest_lies_between(
    surrogate: Surrogate, factor: int, context: int
):
    known = wobbling_chain(4, 3)
    settings = SETTINGS.model_copy(update={"context": context})
    rollouts = upsample(any_lag(surrogate), known, factor, 2.0, settings, 5)
    positions = rollouts.positions_nm
    assert positions.shape == (1, 3 * factor + 1, TOPOLOGY.n_beads, 3)
    assert np.array_equal(positions[0, ::factor], known)
    assert rollouts.alive.all()
    assert rollouts.time_step_ps == 2.0 / factor


def test_a_molecule_that_tumbles_and_drifts_goes_on_doing_so_evenly(surrogate: Surrogate):
    turn = Rotation.from_rotvec([0.0, 0.0, 0.6]).as_matrix().astype(np.float32)
    known = [STARTS[0]]
    for _ in range(4):
        known.append(known[-1] @ turn.T + np.float32(0.5))
    found = upsample(any_lag(surrogate), np.stack(known), 20, 2.0, SETTINGS, 5).positions_nm[0]
    first, second = torch.from_numpy(found[:-1]), torch.from_numpy(found[1:])
    turns = Rotation.from_matrix(superpose(first, second).rotations.double().numpy())
    # The molecule moves too; poses alone would turn by 0.03 a frame.
    assert turns.magnitude().max() < 0.2
    pure = posed_between(
        torch.from_numpy(np.stack(known[:1] * 3))[None],
        torch.from_numpy(known[0])[None],
        torch.from_numpy(known[1])[None],
        torch.tensor([0.0, 0.5, 1.0]),
        torch.ones(TOPOLOGY.n_beads),
    )[0]
    assert np.abs(pure[[0, 2]].numpy() - np.stack(known[:2])).max() < 1e-5
    half = Rotation.from_matrix(superpose(pure[0], pure[1]).rotations.double().numpy())
    np.testing.assert_allclose(half.as_rotvec(), [0.0, 0.0, 0.3], atol=1e-5)
    nowhere = torch.full((1, TOPOLOGY.n_beads, 3), torch.nan)
    lost = posed_between(pure[None], nowhere, pure[:1], torch.ones(3), torch.ones(TOPOLOGY.n_beads))
    assert lost.isnan().all()
    centres = pure.mean(dim=1)
    assert torch.allclose(centres[1], centres[[0, 2]].mean(dim=0), atol=1e-5)


def test_there_is_no_join_at_known_frames(surrogate: Surrogate):
    """Frames drawn independently about their key frame: all steps are alike but those out of it.

    With one shared frame the steps at known frames stand out; that they are the only ones says
    that levels and halves leave no other mark.
    """
    model = narrowing(surrogate)
    known = np.repeat(STARTS[:1], 200, axis=0)
    settings = RolloutSettings(evaluations=20, batch=400, context=1)
    positions = upsample(model, known, 5, 2.0, settings, 0).positions_nm[0]
    steps = rmsd(torch.from_numpy(positions[1:]), torch.from_numpy(positions[:-1]))
    mean = steps[: 5 * 199].view(199, 5).mean(dim=0)
    assert torch.allclose(mean[1:4], mean[1:4].mean(), rtol=0.1)
    assert torch.allclose(mean[[0, 4]], mean[[0, 4]].mean(), rtol=0.1)


def test_bad_requests_are_refused_with_what_is_wanted(surrogate: Surrogate):
    ends = STARTS[0], STARTS[1]
    with pytest.raises(InputError, match="a path of 2 frames has none between"):
        interpolate(surrogate, *ends, 2, 1, LAG_PS, SETTINGS, 0)
    with pytest.raises(InputError, match="a gap needs frames 4 ps apart"):
        interpolate(surrogate, *ends, 7, 1, LAG_PS, SETTINGS, 0)
    with pytest.raises(InputError, match="paths is 0"):
        interpolate(surrogate, *ends, 5, 0, LAG_PS, SETTINGS, 0)
    with pytest.raises(InputError, match="one frame has nothing between"):
        upsample(surrogate, STARTS[:1], 2, LAG_PS, SETTINGS, 0)
    with pytest.raises(InputError, match="factor is 101; wanted is 2 to 100"):
        upsample(surrogate, STARTS, 101, LAG_PS, SETTINGS, 0)
