"""Paths come in the order of their validity and of their likelihood under the model."""

from dataclasses import replace

import numpy as np
import torch
from test_forward import SETTINGS, STARTS
from toy_chain import LAG_PS, TOPOLOGY

from trajgen.surrogate.filling import interpolate
from trajgen.surrogate.ranking import ranked, score_path
from trajgen.surrogate.surrogate import Surrogate, WindowTimes
from trajgen.surrogate.tokens import channel_count


def test_broken_and_unlikely_paths_come_last(surrogate: Surrogate):
    paths = interpolate(surrogate, STARTS[0], STARTS[1], 6, 4, LAG_PS, SETTINGS, 0)
    positions, alive = paths.positions_nm.copy(), paths.alive.copy()
    positions[0, 1:-1, 2] += 0.15  # bonds that no chain has
    positions[1, 1:], alive[1, 1:] = np.nan, False
    rng = np.random.default_rng(0)
    positions[2, 1:-1] += rng.normal(scale=0.008, size=positions[2, 1:-1].shape)
    spoilt = replace(paths, positions_nm=positions.astype(np.float32), alive=alive)
    best_first, scores = ranked(surrogate, spoilt, LAG_PS, SETTINGS, 1)
    assert np.array_equal(best_first.positions_nm[0], positions[3])
    assert np.array_equal(best_first.positions_nm[1], positions[2].astype(np.float32))
    assert np.array_equal(best_first.positions_nm[2], positions[0].astype(np.float32))
    assert not best_first.alive[3].all()
    assert scores[0].valid_share == scores[1].valid_share > scores[2].valid_share
    assert scores[0].log_likelihood > scores[1].log_likelihood
    assert (scores[3].valid_share, scores[3].log_likelihood) == (0, None)


def test_long_paths_are_judged_window_by_window(surrogate: Surrogate):
    path = np.concatenate([STARTS, STARTS[:3]])  # windows of six frames: 0 to 5, and 5 to 7
    settings = SETTINGS
    parts = [score_path(surrogate, path[a:b], LAG_PS, settings, 1) for a, b in ((0, 6), (5, 8))]
    whole = score_path(surrogate, path, LAG_PS, settings, 1)
    mean = np.mean([part.log_likelihood for part in parts])
    assert abs(whole.log_likelihood - mean) < 1e-3 * abs(mean)


def test_the_likelihood_does_not_change_when_frames_are_turned(surrogate: Surrogate):
    positions = torch.from_numpy(STARTS[None])
    known = torch.zeros(1, 5, TOPOLOGY.n_beads, dtype=torch.bool)
    known[:, 0] = True
    times = WindowTimes.even(1, 5, LAG_PS, 300.0, torch.device("cpu"))
    probe = torch.ones(1, 5, TOPOLOGY.n_beads, channel_count(0))
    first = surrogate.log_likelihood(positions, known, times, probe, SETTINGS)
    turned = positions.flip(-1) * torch.tensor([1.0, 1.0, -1.0]) + 2.0
    second = surrogate.log_likelihood(turned, known, times, probe, SETTINGS)
    assert torch.allclose(first, second, rtol=1e-3)
