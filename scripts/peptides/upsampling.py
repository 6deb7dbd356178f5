"""Upsampling judged against the dynamics whose frames it was not shown."""

import time
from typing import Any

import numpy as np

from trajgen.analysis.features import Feature
from trajgen.analysis.torsions import backbone_torsions, side_chain_torsions
from trajgen.analysis.upsampling import LAGS_PS, upsampling_measures
from trajgen.data.records import AtomFrames
from trajgen.progress import Progress
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.filling import upsample
from trajgen.surrogate.surrogate import Surrogate


def upsampling_scores(
    surrogate: Surrogate, fine: AtomFrames, factor: int, settings: RolloutSettings, seed: int,
    progress: Progress,
) -> tuple[dict[str, Any], AtomFrames]:  # fmt: skip
    """Upsample every ``factor``-th frame of dynamics, and compare with all of them."""
    step_ps = float(fine.time_step_ps or 0.0)
    known = fine.take(slice(None, None, factor))
    begin = time.perf_counter()
    rollouts = upsample(
        surrogate, known.positions_nm, factor, factor * step_ps, settings, seed, progress
    )
    seconds = time.perf_counter() - begin
    made = rollouts.to_atom_frames()
    joins = np.arange(factor, made.n_frames, factor)
    found: dict[str, Any] = {"frames": made.n_frames, "frames_per_s": made.n_frames / seconds}
    for name, of in (("backbone", backbone_torsions), ("side_chain", side_chain_torsions)):
        mine, theirs = of(made), of(fine)
        if not mine.labels:
            continue
        measures = upsampling_measures(
            mine, made.segments, joins, theirs, fine.segments, step_ps, factor, seed
        )
        found[name] = {
            "log_autocorrelation_error": _pair(measures.autocorrelation),
            "by_lag": {
                f"{lag:g} ps": _pair(measure)
                for lag, measure in zip(LAGS_PS, measures.lags, strict=True)
            },
            "power_error": _pair(measures.power),
            "power_ratio": _pair(measures.power_ratio),
            "joins": _pair(measures.joins),
        }
    return found, made


def straight_lines(fine: AtomFrames, factor: int) -> Feature:
    """Return backbone torsions on straight lines between known frames: what adds no motion."""
    feature = backbone_torsions(fine)
    known = np.unwrap(feature.values[::factor], axis=0)
    places = np.arange(len(feature.values)) / factor
    columns = [np.interp(places, np.arange(len(known)), column) for column in known.T]
    values = np.angle(np.exp(1j * np.stack(columns, axis=1)))
    return Feature(feature.name, feature.labels, feature.unit, values, feature.period)


def _pair(measure: Any) -> dict[str, Any]:
    return {"value": measure.value, "floor": measure.floor_mean, "reason": measure.reason}
