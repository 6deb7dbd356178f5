"""Upsampling judged against the dynamics whose frames it was not shown."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from peptides.sets import shuffled
from trajgen.analysis.features import Feature
from trajgen.analysis.measures import Measure
from trajgen.analysis.torsions import backbone_torsions, side_chain_torsions
from trajgen.analysis.upsampling import LAGS_PS, upsampling_measures
from trajgen.data.records import AtomFrames
from trajgen.progress import Progress
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.filling import upsample
from trajgen.surrogate.surrogate import Surrogate


def upsampling_scores(
    surrogate: Surrogate, fine: AtomFrames, other: AtomFrames, factor: int,
    settings: RolloutSettings, seed: int, progress: Progress,
) -> tuple[dict[str, Any], AtomFrames]:  # fmt: skip
    """Upsample every ``factor``-th frame of dynamics, and compare with all of them.

    Beside the surrogate stand straight lines between the known torsions, the dynamics of the other
    run, and its frames in random order. The second result are the frames of the surrogate that did
    not come apart.
    """
    step_ps = float(fine.time_step_ps or 0.0)
    known = fine.take(slice(None, None, factor))
    begin = time.perf_counter()
    rollouts = upsample(
        surrogate, known.positions_nm, factor, factor * step_ps, settings, seed, progress
    )
    seconds = time.perf_counter() - begin
    made, frames = rollouts.to_atom_frames(), rollouts.alive.shape[1]
    found: dict[str, Any] = {
        "frames": made.n_frames,
        "frames_per_s": made.n_frames / seconds,
        "lost": rollouts.n_lost,
    }
    lines: dict[str, Any] = {}
    dynamics: dict[str, Any] = {"frames": other.n_frames}
    mixed: dict[str, Any] = {"frames": other.n_frames}
    one_run, all_joins = np.zeros(frames, dtype=np.int64), np.arange(factor, frames, factor)
    its_joins = np.arange(factor, other.n_frames, factor)
    whole = np.zeros(other.n_frames, dtype=np.int64)
    joins = joins_of(rollouts.alive[0], factor)
    for name, of in (("backbone", backbone_torsions), ("side_chain", side_chain_torsions)):
        theirs = of(fine)
        if not theirs.labels:
            continue
        line = straight_lines(theirs, factor)
        found[name] = _compared(of(made), made.segments, joins, theirs, fine, factor, seed)
        lines[name] = _compared(line, one_run, all_joins, theirs, fine, factor, seed)
        for row, source in ((dynamics, other), (mixed, shuffled(other, seed))):
            row[name] = _compared(of(source), whole, its_joins, theirs, fine, factor, seed)
    rows = {"surrogate": found, "straight lines": lines}
    return {**rows, "independent run": dynamics, "its frames shuffled": mixed}, made


def joins_of(alive: Bool[np.ndarray, " frames"], factor: int) -> Int[np.ndarray, " joins"]:
    """Return which of the frames that are alive are known ones, but for the first of all."""
    numbers = np.flatnonzero(alive)
    return np.flatnonzero((numbers > 0) & (numbers % factor == 0))


def straight_lines(torsions: Feature, factor: int) -> Feature:
    """Return torsions on straight lines between every ``factor``-th frame: what adds no motion.

    They end with the last known frame.
    """
    known = np.unwrap(torsions.values[::factor], axis=0)
    places = np.arange(factor * (len(known) - 1) + 1) / factor
    columns = [np.interp(places, np.arange(len(known)), column) for column in known.T]
    return replace(torsions, values=np.angle(np.exp(1j * np.stack(columns, axis=1))))


def _compared(
    mine: Feature, segments: Int[np.ndarray, " frames"], joins: Int[np.ndarray, " joins"],
    theirs: Feature, fine: AtomFrames, factor: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    step_ps = float(fine.time_step_ps or 0.0)
    measures = upsampling_measures(
        mine, segments, joins, theirs, fine.segments, step_ps, factor, seed
    )
    return {
        "log_autocorrelation_error": _pair(measures.autocorrelation),
        "by_lag": {
            f"{lag:g} ps": _pair(measure)
            for lag, measure in zip(LAGS_PS, measures.lags, strict=True)
        },
        "power_error": _pair(measures.power),
        "power_ratio": _pair(measures.power_ratio),
        "joins": _pair(measures.joins),
    }


def _pair(measure: Measure) -> dict[str, Any]:
    return {"value": measure.value, "floor": measure.floor_mean, "reason": measure.reason}
