"""Inpainting and ensembles: what is known comes back, and noise belongs to a frame."""

import numpy as np
import pytest
import torch
from test_forward import SETTINGS, STARTS
from toy_chain import LAG_PS, TOPOLOGY, wobbling_chain

from trajgen.errors import InputError
from trajgen.geometry.rotations import random_rotations
from trajgen.surrogate.ensemble import ensemble
from trajgen.surrogate.inpaint import inpaint
from trajgen.surrogate.surrogate import Surrogate

KNOWN = np.array([True, True, False, False, True])


@pytest.mark.parametrize("start_known", [True, False])
def test_known_residues_come_back_and_the_others_differ(surrogate: Surrogate, start_known: bool):
    given = wobbling_chain(15, 2)
    rollouts = inpaint(surrogate, given, KNOWN, 3, LAG_PS, SETTINGS, 1, start_known)
    positions = rollouts.positions_nm
    assert positions.shape == (3, 15, TOPOLOGY.n_beads, 3)
    assert np.array_equal(positions[:, :, KNOWN], np.stack([given[:, KNOWN]] * 3))
    assert np.array_equal(positions[0, 0], given[0]) == start_known
    assert np.abs(positions[0, 1:] - positions[1, 1:])[:, ~KNOWN].max() > 1e-3
    other = given.copy()
    other[int(start_known) :, ~KNOWN] = 0.0
    again = inpaint(surrogate, other, KNOWN, 3, LAG_PS, SETTINGS, 1, start_known)
    assert np.array_equal(again.positions_nm, positions)


@pytest.mark.parametrize("start_known", [True, False])
def test_a_molecule_that_tumbles_is_completed_frame_by_frame(
    surrogate: Surrogate, start_known: bool
):
    """Frames keep the pose in which their known residues are given, and are whole in it."""
    given = wobbling_chain(15, 2)
    turns = random_rotations(15, torch.Generator().manual_seed(3)).numpy()
    shifts = np.random.default_rng(4).normal(size=(15, 1, 3)).astype(np.float32)

    def tumbled(positions: np.ndarray) -> np.ndarray:
        return positions @ turns.swapaxes(-1, -2) + shifts

    still = inpaint(surrogate, given, KNOWN, 3, LAG_PS, SETTINGS, 1, start_known)
    rolled = inpaint(surrogate, tumbled(given), KNOWN, 3, LAG_PS, SETTINGS, 1, start_known)
    assert np.array_equal(rolled.alive, still.alive)
    assert still.alive.all()
    np.testing.assert_allclose(rolled.positions_nm, tumbled(still.positions_nm), atol=2e-4)


def test_frames_of_an_ensemble_do_not_depend_on_each_other(surrogate: Surrogate):
    many = ensemble(surrogate, 12, SETTINGS, 4)
    assert many.positions_nm.shape == (1, 12, TOPOLOGY.n_beads, 3)
    assert many.time_step_ps is None
    few = ensemble(surrogate, 5, SETTINGS.model_copy(update={"batch": 2}), 4)
    assert np.abs(few.positions_nm - many.positions_nm[:, :5]).max() < 1e-4
    assert np.abs(np.diff(many.positions_nm, axis=1)).max() > 1e-3


def test_bad_requests_are_refused_with_what_is_wanted(surrogate: Surrogate):
    for residues in (np.zeros(5, dtype=bool), np.arange(5) < 2, np.ones(5, dtype=bool)):
        with pytest.raises(InputError, match="of 5 residues are known"):
            inpaint(surrogate, STARTS, residues, 1, LAG_PS, SETTINGS, 0)
    with pytest.raises(InputError, match="replicas is 0"):
        inpaint(surrogate, STARTS, KNOWN, 0, LAG_PS, SETTINGS, 0)
    with pytest.raises(InputError, match="frames is 0"):
        ensemble(surrogate, 0, SETTINGS, 0)
