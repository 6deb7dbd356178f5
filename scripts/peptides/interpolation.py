"""Transition paths judged by the Markov model of independent dynamics, beside those of dynamics."""

import time
from typing import Any

import numpy as np

from peptides.sets import first_ps
from trajgen.analysis.bridges import are_connected, sample_bridges
from trajgen.analysis.evaluate import Reference
from trajgen.analysis.frame_table import slow_coordinates
from trajgen.analysis.kinetics.markov import MarkovModel, block_counts, fit_markov
from trajgen.analysis.kinetics.states import StateModel, StatesFit
from trajgen.analysis.paths import PathMeasures, path_measures, rarest_flux_pair
from trajgen.data.records import AtomFrames
from trajgen.progress import Progress
from trajgen.seeding import derive_seed, numpy_generator
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.filling import interpolate
from trajgen.surrogate.ranking import ranked
from trajgen.surrogate.surrogate import Surrogate

#: Lags of the Markov model that a path takes.
PATH_LAGS = 10
#: Paths between each pair of ends.
PATHS_OF_A_PAIR = 10


def path_scores(
    surrogate: Surrogate, reference: Reference, states: StatesFit, judged_by: AtomFrames,
    training: AtomFrames, paths: int, ns_per_day: float | None, settings: RolloutSettings,
    seed: int, progress: Progress,
) -> tuple[dict[str, Any], AtomFrames | None]:  # fmt: skip
    """Generate paths between the two states that exchange most rarely; compare with dynamics.

    Dynamics give the paths of their own Markov model: those of the training, and, where
    ``ns_per_day`` is given, as much of them from the start on as that makes in the time that the
    paths took. Those of each pair of ends are ranked, and the better half of all pairs is measured
    for itself. The second result are the paths from the first pair of ends.
    """
    if states.model is None or reference.fit.model is None:
        return {"reason": states.reason or "the reference has no slow coordinates"}, None
    model = macrostate_model(judged_by, reference, states.model)
    if model is None:
        return {"reason": "the macrostates of the reference carry no Markov model"}, None
    transitions = _whole_matrix(model)
    pair = rarest_flux_pair(transitions, model.populations())
    if pair.start is None or pair.end is None:
        return {"reason": pair.reason}, None
    generator = numpy_generator(seed)
    of_frames = macrostates_of(judged_by, reference, states.model)
    pairs = max(1, paths // PATHS_OF_A_PAIR)
    ends = [
        judged_by.positions_nm[generator.choice(np.flatnonzero(of_frames == state), pairs)]
        for state in (pair.start, pair.end)
    ]
    interval_ps, stride = float(judged_by.time_step_ps or 1.0), reference.settings.tica_lag_frames
    length = 1 + PATH_LAGS * stride
    made, seconds, ranking_s = _paths_of_pairs(
        surrogate, ends, length, interval_ps, settings, seed, progress
    )
    walked = np.stack(
        [_states_of_path(path[::stride], judged_by, reference, states.model) for path in made]
    )
    found: dict[str, Any] = {
        "states": [pair.start, pair.end],
        "flux_per_lag": pair.flux,
        "frames_per_s": len(made) * (length - 2) / seconds,
        "ranked_per_s": len(made) / ranking_s,
        "generated": _measured(path_measures(walked, transitions, pair.start, pair.end, seed)),
    }
    better = walked[np.arange(len(walked)) % PATHS_OF_A_PAIR < PATHS_OF_A_PAIR // 2]
    found["better half"] = _measured(path_measures(better, transitions, pair.start, pair.end, seed))
    others = {"dynamics": training}
    if ns_per_day is not None:
        others["dynamics of equal time"] = first_ps(training, ns_per_day * 1000 * seconds / 86400)
    for name, dynamics in others.items():
        own_model = macrostate_model(dynamics, reference, states.model)
        bridges = _bridges_of(own_model, pair.start, pair.end, len(made), seed)
        measured = _measured(path_measures(bridges, transitions, pair.start, pair.end, seed))
        found[name] = {**measured, "length_ps": (dynamics.n_frames - 1) * interval_ps}
    shown = [path for path in made[:PATHS_OF_A_PAIR] if np.isfinite(path).all()]
    if not shown:
        return found, None
    segments = np.repeat(np.arange(len(shown)), length).astype(np.int64)
    return found, AtomFrames(judged_by.topology, np.concatenate(shown), segments, interval_ps)


def _paths_of_pairs(
    surrogate: Surrogate, ends: list[np.ndarray], length: int, interval_ps: float,
    settings: RolloutSettings, seed: int, progress: Progress,
) -> tuple[list[np.ndarray], float, float]:  # fmt: skip
    """Return the paths of each pair of ends, the best of them first.

    The other numbers are the seconds that it took to make them, and those to rank them.
    """
    made: list[np.ndarray] = []
    seconds = ranking_s = 0.0
    with progress.task("paths", total=len(ends[0])) as task:
        for number, (first, last) in enumerate(zip(*ends, strict=True)):
            own, begin = derive_seed(seed, "pair", index=number), time.perf_counter()
            rollouts = interpolate(
                surrogate, first, last, length, PATHS_OF_A_PAIR, interval_ps, settings, own
            )
            seconds += (between := time.perf_counter()) - begin
            best_first, _ = ranked(surrogate, rollouts, interval_ps, settings, own)
            ranking_s += time.perf_counter() - between
            made += list(best_first.positions_nm)
            task.advance()
    return made, seconds, ranking_s


def macrostates_of(frames: AtomFrames, reference: Reference, model: StateModel) -> np.ndarray:
    """Return the macrostate of each frame, −1 for none."""
    assert reference.fit.model is not None
    return model.macrostates(model.assign(slow_coordinates(reference.fit.model, frames)))


def macrostate_model(
    frames: AtomFrames, reference: Reference, model: StateModel
) -> MarkovModel | None:
    """Return the Markov model of the macrostates of dynamics, None where there is none."""
    found = macrostates_of(frames, reference, model)
    blocks, lag = np.zeros(len(found), dtype=np.int64), reference.settings.tica_lag_frames
    counts = block_counts(found, frames.segments, blocks, model.n_macrostates, lag)
    return fit_markov(counts[0], None).model


def _bridges_of(
    model: MarkovModel | None, start: int, end: int, paths: int, seed: int
) -> np.ndarray:
    """Return paths that a model of dynamics takes, none where it has none."""
    steps = 1 + PATH_LAGS
    if model is not None and are_connected(chances := _whole_matrix(model), start, end, steps):
        return sample_bridges(chances, start, end, steps, paths, seed)
    return np.zeros((0, steps), dtype=np.int64)


def _whole_matrix(model: MarkovModel) -> np.ndarray:
    """Return the transitions of all states; those that the model lacks lead nowhere."""
    transitions = model.all_transitions()
    absent = np.flatnonzero(transitions.sum(axis=1) == 0)
    transitions[absent, absent] = 1.0
    return transitions


def _states_of_path(
    positions_nm: np.ndarray, like: AtomFrames, reference: Reference, model: StateModel
) -> np.ndarray:
    """Return the state of each frame, −1 where the path fell apart."""
    whole = np.isfinite(positions_nm).all(axis=(1, 2))
    states = np.full(len(positions_nm), -1)
    if whole.any():
        segments = np.zeros(int(whole.sum()), dtype=np.int64)
        frames = AtomFrames(like.topology, positions_nm[whole], segments)
        states[whole] = macrostates_of(frames, reference, model)
    return states


def _measured(measures: PathMeasures) -> dict[str, Any]:
    return {
        "valid_paths": measures.valid_share.value,
        "probability": measures.mean_probability.value,
        "occupancy_distance": measures.occupancy_distance.value,
        "occupancy_floor": measures.occupancy_distance.floor_mean,
        "reference_probability": measures.bridge_probability,
        "paths": measures.n_paths,
        "reason": measures.valid_share.reason,
    }
