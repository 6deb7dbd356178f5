"""Forward simulation judged against dynamics: ensembles, kinetics, validity, and novelty."""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from trajgen.analysis.atom_validity import AtomLimits, atom_validity
from trajgen.analysis.evaluate import EvaluationSettings, Reference, judge, read_samples
from trajgen.analysis.evaluation import Evaluation
from trajgen.analysis.fast_motions import in_order, join_ratios
from trajgen.analysis.frame_table import FrameTable
from trajgen.analysis.histograms import jensen_shannon_distance
from trajgen.analysis.kinetics.evaluate_kinetics import KineticsSettings
from trajgen.analysis.kinetics.relaxation import Relaxation, torsion_relaxation
from trajgen.analysis.kinetics.states import StatesFit, fit_states
from trajgen.analysis.measures import Distance
from trajgen.analysis.torsions import backbone_torsions
from trajgen.data.records import AtomFrames, Rollouts
from trajgen.geometry.superposition import nearest_rmsd
from trajgen.progress import Progress
from trajgen.surrogate.chaining import chained_windows
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.forward import forward
from trajgen.surrogate.surrogate import Surrogate

#: Frames whose nearest training frame is looked for.
NOVELTY_FRAMES = 500
#: Checks of a valid frame; dynamics has cis peptides and rare backbones too. At 350 K one frame of
#: dynamics in thirty breaks the limits for structures, and one in a thousand these.
LIMITS = AtomLimits(overlap_nm=0.06, polar_overlap_nm=0.08, planar_rad=math.radians(45))
VALID = ("explosion", "bond", "clash", "chirality", "peptide plane")
#: Columns of ratios, of which 1/2 and 2 are as far off.
RATIOS = ("relaxation_ratio", "joins")
#: Distances of torsions, and of slow coordinates.
TORSIONS, SLOW = ("torsions", "backbone", "side_chain"), ("tica_0", "tica_2d")


def evaluation_settings(interval_ps: float, lag_ps: float) -> EvaluationSettings:
    """Return what is measured, with the lag of slow coordinates and of models of kinetics."""
    return EvaluationSettings(
        tica_lag_frames=round(lag_ps / interval_ps),
        kinetics=KineticsSettings(lag_ps=lag_ps),
        floor_splits=5,
    )


def rollout(
    surrogate: Surrogate, starts: AtomFrames, replicas: int, frames: int,
    settings: RolloutSettings, seed: int, progress: Progress,
) -> tuple[Rollouts, dict[str, Any]]:  # fmt: skip
    """Simulate forward from frames spread over dynamics; return the rollouts and what they cost.

    Args:
        surrogate: the model.
        starts: dynamics that the starts are taken from.
        replicas: number of rollouts.
        frames: frames of each, its start included.
        settings: how windows are sampled.
        seed: base of the noise.
        progress: told of each generated window.
    """
    chosen = np.linspace(0, starts.n_frames - 1, replicas).astype(np.int64)
    interval_ps = float(starts.time_step_ps or surrogate.lags_ps[0])
    begin = time.perf_counter()
    rollouts = forward(
        surrogate, starts.positions_nm[chosen], frames, interval_ps, settings, seed, progress
    )
    seconds = time.perf_counter() - begin
    made = replicas * (frames - 1)
    cost = {
        "seconds": seconds,
        "frames_per_s": made / seconds,
        "lost": int((~rollouts.alive[:, -1]).sum()),
    }
    return rollouts, cost


def occupancy_states(reference: Reference) -> StatesFit:
    """Return the states that occupancies are compared on."""
    table = reference.table
    tics = np.zeros((table.n_frames, 0)) if table.tics is None else table.tics
    lag = reference.settings.tica_lag_frames
    kinetics = reference.settings.kinetics or KineticsSettings()
    return fit_states(tics, table.runs, None, lag, kinetics.states, reference.seed)


def scores(
    frames: AtomFrames,
    reference: Reference,
    states: StatesFit,
    training: AtomFrames | None,
    consecutive: AtomFrames | None = None,
) -> dict[str, Any]:
    """Return all numbers of a set of frames.

    Args:
        frames: the set.
        reference: what it is compared with.
        states: the states of occupancies.
        training: frames that a model could replay, None for none.
        consecutive: where the set has gaps, frames without, for all that depends on time.
    """
    table = read_samples(frames, reference)
    evaluation = judge(table, reference)
    timed, of_times = table, evaluation
    if consecutive is not None:
        timed = read_samples(consecutive, reference)
        of_times = judge(timed, reference)
    return {
        "frames": frames.n_frames,
        **distance_numbers(evaluation.divergences, (*TORSIONS, *SLOW)),
        "jensen_shannon_states": _occupancy_distance(table, reference.table, states),
        **_relaxation(torsion_relaxation(timed, reference.table)),
        **_kinetics(of_times),
        "valid": valid_share(frames),
        **novelty(frames, training),
    }


def distance_numbers(distances: Iterable[Distance], names: Sequence[str]) -> dict[str, Any]:
    """Return Jensen-Shannon distances with their intervals.

    A peptide of glycines and alanines has none of side chains.
    """
    found: dict[str, Any] = {}
    pooled = {distance.name: distance.pooled for distance in distances}
    for name in (f"jensen_shannon_{name}" for name in names):
        if name in pooled:
            found[name] = pooled[name].value
            found[f"{name}_interval"] = [pooled[name].low, pooled[name].high]
    return found


def _occupancy_distance(
    table: FrameTable, reference: FrameTable, states: StatesFit
) -> float | None:
    """Return the distance of the shares of frames in each macrostate, as MDGen has it."""
    if states.model is None or table.tics is None or reference.tics is None:
        return None
    model, counts = states.model, []
    for tics in (table.tics, reference.tics):
        found = model.macrostates(model.assign(tics))
        counts.append(np.bincount(found[found >= 0], minlength=model.n_macrostates).astype(float))
    return float(jensen_shannon_distance(counts[0][None], counts[1])[0])


def _relaxation(found: Relaxation) -> dict[str, Any]:
    reason = {} if found.ratio.reason is None else {"relaxation_reason": found.ratio.reason}
    return {
        "relaxation_ratio": found.ratio.value,
        "relaxation_log_error": found.log_error.value,
        "relaxation_torsions": found.torsions,
        "relaxation_one_sided": found.one_sided,
        "relaxation_not_measured": found.not_measured,
        **reason,
    }


def _kinetics(evaluation: Evaluation) -> dict[str, Any]:
    kinetics = evaluation.kinetics
    if kinetics is None or kinetics.reason is not None:
        return {"kinetics_reason": None if kinetics is None else kinetics.reason}
    found: dict[str, Any] = {}
    for name in ("flux_rank_correlation", "passage_error", "population_jsd"):
        if name in kinetics.comparison:
            found[name] = kinetics.comparison[name].value
    for prefix, side in (("", kinetics.samples), ("reference_", kinetics.reference)):
        scales = side.time_scales[0].time_scales if side.time_scales else ()
        if scales:
            found[f"{prefix}slowest_time_scale_ps"] = scales[0].value
            found[f"{prefix}slowest_time_scale_interval_ps"] = [scales[0].low, scales[0].high]
            found[f"{prefix}time_scales_ps"] = [[s.value, s.low, s.high] for s in scales]
    return found


def join_ratio(rollouts: Rollouts, surrogate: Surrogate, context: int) -> float | None:
    """Return how large steps of backbone torsions are over joins of windows, beside those within.

    Args:
        rollouts: simulated forward from single frames.
        surrogate: the model.
        context: frames that windows share.
    """
    length = surrogate.settings.window_frames
    windows = chained_windows(1, rollouts.alive.shape[1], length, context)
    begins = np.zeros(rollouts.alive.shape, dtype=bool)
    begins[:, [window.done for window in windows[1:]]] = True
    frames = rollouts.to_atom_frames()
    joins = np.flatnonzero(begins[rollouts.alive])
    series = in_order(backbone_torsions(frames), frames.segments, joins)
    ratios, count = join_ratios(series, np.ones((1, series.n_blocks)))
    return float(ratios[0].mean()) if count else None


def valid_share(frames: AtomFrames) -> float:
    """Return the share of frames whose bonds, contacts, chirality and peptide bonds are right."""
    found = atom_validity(frames, LIMITS)
    return float(1 - np.any([found.failed(name) for name in VALID], axis=0).mean())


def novelty(frames: AtomFrames, training: AtomFrames | None) -> dict[str, Any]:
    """Return the median distance of frames to the nearest training frame, nm; nothing of none."""
    if training is None:
        return {}
    rows = np.linspace(0, frames.n_frames - 1, min(NOVELTY_FRAMES, frames.n_frames)).astype(int)
    mine, theirs = (torch.from_numpy(x) for x in (frames.positions_nm[rows], training.positions_nm))
    nearest, _ = nearest_rmsd(mine, theirs)
    return {"nearest_training_rmsd_nm": float(nearest.median())}


def columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the columns of the table that any row has."""
    wanted = [
        "frames", "jensen_shannon_torsions", "jensen_shannon_backbone",
        "jensen_shannon_side_chain", "jensen_shannon_tica_0", "jensen_shannon_tica_2d",
        "jensen_shannon_states", "relaxation_ratio", "relaxation_log_error",
        "slowest_time_scale_ps", "slowest_time_scale_interval_ps", "flux_rank_correlation",
        "valid", "joins", "nearest_training_rmsd_nm", "frames_per_s",
    ]  # fmt: skip
    return [name for name in wanted if any(name in row for row in rows)]
