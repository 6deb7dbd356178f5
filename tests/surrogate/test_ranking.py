"""Paths come in the order of their validity and of their likelihood under the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_filling import any_lag
from test_forward import SETTINGS, STARTS
from toy_chain import LAG_PS, TOPOLOGY

from trajgen.data.records import Rollouts
from trajgen.progress import Progress, ProgressTask
from trajgen.seeding import torch_generator
from trajgen.surrogate.encoded_windows import WindowTimes
from trajgen.surrogate.filling import interpolate
from trajgen.surrogate.ranking import PathScore, ranked, score_path
from trajgen.surrogate.surrogate import Surrogate


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
    assert scores[3] == PathScore(0.0, None, None)


class Counted(Progress):
    """Remembers how many steps of how many were reported."""

    def task(self, label: str, total: int, done: int = 0, limit_s: float | None = None):
        self.total, self.done = total, done
        counter = self

        class Task(ProgressTask):
            def advance(self, steps: int = 1, status: str = "") -> None:
                counter.done += steps

        return Task()


def test_every_path_is_reported(surrogate: Surrogate):
    paths = interpolate(surrogate, STARTS[0], STARTS[1], 6, 3, LAG_PS, SETTINGS, 0)
    progress = Counted()
    ranked(surrogate, paths, LAG_PS, SETTINGS, 1, progress)
    assert progress.total == progress.done == 3


def test_likelihoods_are_told_with_how_far_they_are_known(surrogate: Surrogate):
    """Other probes give values that lie about each other by the errors that are said."""
    path = interpolate(surrogate, STARTS[0], STARTS[1], 6, 1, LAG_PS, SETTINGS, 0).positions_nm[0]
    scores = [score_path(surrogate, path, LAG_PS, SETTINGS, seed) for seed in range(24)]
    values = np.array([score.log_likelihood for score in scores])
    errors = np.array([score.log_likelihood_error for score in scores])
    assert (errors > 0).all()
    said = np.sqrt((errors**2).mean())
    assert 0.6 * said < values.std(ddof=1) < 1.6 * said


def test_paths_are_compared_by_the_same_probes(surrogate: Surrogate):
    """Other probes would find another error of a copy that was nudged by next to nothing."""
    path = interpolate(surrogate, STARTS[0], STARTS[1], 6, 1, LAG_PS, SETTINGS, 0).positions_nm
    nudged = path + np.float32(1e-5) * np.random.default_rng(0).normal(size=path.shape)
    both = Rollouts(
        surrogate.topology, np.concatenate([path, nudged.astype(np.float32)]),
        np.ones((2, 6), dtype=bool), LAG_PS,
    )  # fmt: skip
    _, (first, second) = ranked(surrogate, both, LAG_PS, SETTINGS, 1)
    assert first.log_likelihood_error == pytest.approx(second.log_likelihood_error, rel=1e-2)


def test_long_paths_are_judged_as_they_are_filled_in(surrogate: Surrogate):
    """The frames that say where a path crosses count, and then those between them."""
    model = any_lag(surrogate)
    path = interpolate(model, STARTS[0], STARTS[1], 16, 1, 1.0, SETTINGS, 0).positions_nm[0]
    crossing = score_path(model, path[::3], 3.0, SETTINGS, 1).log_likelihood
    between = [
        score_path(model, path[begin : begin + 4], 1.0, SETTINGS, 1).log_likelihood
        for begin in range(0, 15, 3)
    ]
    settings = SETTINGS.model_copy(update={"context": 1})  # gaps then see their ends alone
    alone = score_path(model, path, 1.0, settings, 1).log_likelihood
    # Probes differ, and with them the estimates.
    assert alone == pytest.approx(crossing + sum(between), rel=0.05)


def test_the_likelihood_does_not_change_when_frames_are_turned(surrogate: Surrogate):
    positions = torch.from_numpy(STARTS[None])
    known = torch.zeros(1, 5, TOPOLOGY.n_beads, dtype=torch.bool)
    known[:, 0] = True
    times = WindowTimes.even(1, 5, LAG_PS, 300.0, torch.device("cpu"))
    first = surrogate.log_likelihood(positions, known, times, 2, torch_generator(1), SETTINGS)
    turned = positions.flip(-1) * torch.tensor([1.0, 1.0, -1.0]) + 2.0
    second = surrogate.log_likelihood(turned, known, times, 2, torch_generator(1), SETTINGS)
    assert torch.allclose(first, second, rtol=1e-3)
