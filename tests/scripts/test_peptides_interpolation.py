"""Paths are judged by the model of independent dynamics, beside those of other dynamics."""

from dataclasses import replace
from typing import Any

import numpy as np
import peptides.interpolation
import pytest
import torch
from peptides.forward import evaluation_settings, occupancy_states
from peptides.interpolation import PATH_LAGS, PATHS_OF_A_PAIR, path_scores
from toy_peptide import peptide

from trajgen.analysis.evaluate import Reference, read_reference
from trajgen.data.records import AtomFrames, Rollouts
from trajgen.progress import SILENT
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.resolutions import AllHeavyAtoms

FRAMES, INTERVAL_PS, LAG_PS = 3000, 1.0, 2.0
#: What ψ of the second residue turns by in each state, and how often it leaves one, per frame.
STATES_RAD, LEAVING = (0.0, 2.0, -2.0), 0.02


def switching_peptide(seed: int) -> AtomFrames:
    """Return dynamics of a peptide of which one torsion jumps between three values."""
    topology, start_nm = peptide()
    model = AllHeavyAtoms.measure(topology, start_nm[None])
    rng = np.random.default_rng(seed)
    states, state = np.zeros(FRAMES, np.int64), 0
    for frame in range(FRAMES):
        if rng.random() < LEAVING:
            state = (state + rng.integers(1, 3)) % 3
        states[frame] = state
    torsions = model.torsions(start_nm[None]).expand(FRAMES, -1, -1).clone()
    shake = rng.normal(scale=0.1, size=torsions.shape)
    shake[..., 0] = 0
    shake[:, 1, 2] += np.array(STATES_RAD)[states]
    torsions += torch.from_numpy(shake) * model.has_torsion
    positions_nm = model.geometry.build(model.chains[0].build(torsions), torsions)
    segments = np.zeros(FRAMES, np.int64)
    return AtomFrames(topology, positions_nm.numpy().astype(np.float32), segments, INTERVAL_PS)


@pytest.fixture(scope="module")
def judges() -> AtomFrames:
    return switching_peptide(1)


@pytest.fixture(scope="module")
def reference(judges: AtomFrames) -> Reference:
    settings = evaluation_settings(INTERVAL_PS, LAG_PS)
    kinetics = settings.kinetics
    assert kinetics is not None
    few = replace_states(kinetics)
    return read_reference(judges, settings.model_copy(update={"kinetics": few}), 0)


def replace_states(kinetics: Any) -> Any:
    states = kinetics.states.model_copy(update={"microstates": 10, "macrostates": 3})
    return kinetics.model_copy(update={"states": states})


def scored(
    judges: AtomFrames, reference: Reference, monkeypatch: pytest.MonkeyPatch,
    whole: int, ns_per_day: float | None,
) -> dict[str, Any]:  # fmt: skip
    """Score paths that wait at one end and then jump to the other; the last ones are ``whole``."""

    def interpolate(_: Any, first: Any, last: Any, frames: int, paths: int, *__: Any) -> Rollouts:
        half = frames // 2
        path = np.concatenate([np.repeat(first[None], half, 0), np.repeat(last[None], half + 1, 0)])
        made = np.repeat(path[None], paths, 0)
        alive = np.ones(made.shape[:2], dtype=bool)
        alive[: paths - whole, half] = False
        made[~alive] = np.nan
        return Rollouts(judges.topology, made, alive, INTERVAL_PS)

    def ranked(_: Any, paths: Rollouts, *__: Any) -> tuple[Rollouts, None]:
        order = np.argsort(~paths.alive.all(axis=1), kind="stable")
        return replace(
            paths, positions_nm=paths.positions_nm[order], alive=paths.alive[order]
        ), None

    monkeypatch.setattr(peptides.interpolation, "interpolate", interpolate)
    monkeypatch.setattr(peptides.interpolation, "ranked", ranked)
    surrogate: Any = None
    found, _ = path_scores(
        surrogate, reference, occupancy_states(reference), judges, switching_peptide(2), 20,
        ns_per_day, RolloutSettings(), 0, SILENT,
    )  # fmt: skip
    return found


def test_a_jump_between_the_states_is_a_path_and_one_that_came_apart_is_none(
    judges: AtomFrames, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scored(judges, reference, monkeypatch, PATHS_OF_A_PAIR, ns_per_day=None)
    assert found["generated"]["paths"] == 20
    assert found["generated"]["valid_paths"] == 1
    assert found["generated"]["probability"] > 0
    assert found["dynamics"]["valid_paths"] == 1
    assert found["dynamics"]["length_ps"] == FRAMES - 1
    assert "dynamics of equal time" not in found
    lost = scored(judges, reference, monkeypatch, 0, ns_per_day=None)
    assert (lost["generated"]["valid_paths"], lost["generated"]["probability"]) == (0, 0)


def test_the_better_half_of_each_pair_is_measured_beside_all(
    judges: AtomFrames, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scored(judges, reference, monkeypatch, 6, ns_per_day=None)
    assert (found["generated"]["paths"], found["generated"]["valid_paths"]) == (20, 0.6)
    assert (found["better half"]["paths"], found["better half"]["valid_paths"]) == (10, 1.0)
    found = scored(judges, reference, monkeypatch, 2, ns_per_day=None)
    assert found["better half"]["valid_paths"] == 0.4


def test_dynamics_of_equal_time_have_the_paths_that_they_had_time_for(
    judges: AtomFrames, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than two frames of dynamics lead nowhere; all of them are the dynamics themselves."""
    brief = scored(judges, reference, monkeypatch, PATHS_OF_A_PAIR, ns_per_day=1e-6)
    assert brief["dynamics of equal time"]["length_ps"] == INTERVAL_PS
    assert brief["dynamics of equal time"]["valid_paths"] == 0
    long = scored(judges, reference, monkeypatch, PATHS_OF_A_PAIR, ns_per_day=1e12)
    assert long["dynamics of equal time"] == long["dynamics"]


def test_the_path_has_as_many_lags_as_it_says(
    judges: AtomFrames, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is walked are the frames a lag apart, both ends with them."""
    walks: list[np.ndarray] = []
    measures = peptides.interpolation.path_measures

    def recorded(walked: np.ndarray, *values: Any) -> Any:
        walks.append(walked)
        return measures(walked, *values)

    monkeypatch.setattr(peptides.interpolation, "path_measures", recorded)
    found = scored(judges, reference, monkeypatch, PATHS_OF_A_PAIR, ns_per_day=None)
    assert walks[0].shape == (20, 1 + PATH_LAGS)
    assert set(walks[0][:, 0]) == {found["states"][0]}
    assert set(walks[0][:, -1]) == {found["states"][1]}
