"""Sets of heavy-atom frames: dynamics, parts of it, and the walk among its states to be beaten."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from trajgen.analysis.evaluate import Reference
from trajgen.analysis.frame_table import slow_coordinates
from trajgen.analysis.kinetics.states import StateSettings, fit_states
from trajgen.analysis.kinetics.synthetic import synthetic_trajectories
from trajgen.data.records import AtomFrames, Rollouts, join_chunks
from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.seeding import numpy_generator

#: States of the walk, and the slow coordinates that they are found in.
FINE_STATES = StateSettings(microstates=500, macrostates=1, tics=4)
#: Frames that the states of the walk are found in lie as far apart, ps.
WALK_INTERVAL_PS = 1.0


def read_run(data: Path, name: str, run: int, interval_ps: float) -> AtomFrames:
    """Read the heavy atoms of a run of a peptide, frames ``interval_ps`` apart."""
    dataset = Dataset.open(data / name / f"run-{run}")
    parts = []
    for entry in dataset.entries:
        step_ps = entry.label.save_interval_ps
        if step_ps is None or abs(interval_ps / step_ps - round(interval_ps / step_ps)) > 1e-6:
            raise InputError(f"{dataset.path} has no frames {interval_ps:g} ps apart")
        chosen = slice(None, None, round(interval_ps / step_ps))
        frames = dataset.read_atoms(entry, forces=False).take(chosen).without_hydrogens()
        parts.append(replace(frames, time_step_ps=interval_ps))
    return join_chunks(parts)


def first_ps(frames: AtomFrames, length_ps: float) -> AtomFrames:
    """Return as much of dynamics as so much time holds, two frames at least."""
    count = max(2, 1 + int(length_ps / (frames.time_step_ps or length_ps)))
    return frames.take(slice(count))


def thinned(rollouts: Rollouts, stride: int) -> AtomFrames:
    """Return the last of every ``stride`` frames of each rollout, as far as it is alive."""
    kept = slice(stride - 1, None, stride)
    step_ps = None if rollouts.time_step_ps is None else stride * rollouts.time_step_ps
    return replace(
        rollouts,
        positions_nm=rollouts.positions_nm[:, kept],
        alive=rollouts.alive[:, kept],
        time_step_ps=step_ps,
    ).to_atom_frames()


def at_most(frames: AtomFrames, count: int) -> AtomFrames:
    """Return so many frames at most, spread over all; they follow each other no more."""
    rows = np.linspace(0, frames.n_frames - 1, min(count, frames.n_frames)).round().astype(np.int64)
    return replace(frames.take(rows), time_step_ps=None)


def shuffled(frames: AtomFrames, seed: int) -> AtomFrames:
    """Return the same frames in random order: what has no kinetics."""
    return frames.take(numpy_generator(seed).permutation(frames.n_frames))


def walk_among_states(
    frames: AtomFrames,
    reference: Reference,
    lag_frames: int,
    replicas: int,
    length: int,
    seed: int,
) -> AtomFrames:
    """Return synthetic trajectories of a Markov model of dynamics, of so many frames a step.

    The slow coordinates are those of the reference, which favours the walk.

    Raises:
        InputError: the frames carry no slow coordinates, states or transitions.
    """
    if reference.fit.model is None:
        raise InputError(f"no slow coordinates to find states in: {reference.fit.reason}")
    tics = slow_coordinates(reference.fit.model, frames)
    fit = fit_states(tics, frames.segments, None, lag_frames, FINE_STATES, seed)
    if fit.model is None:
        raise InputError(f"no states for the walk: {fit.reason}")
    states = fit.model.assign(tics)
    starts = np.linspace(0, frames.n_frames - 1, replicas).astype(np.int64)
    chosen = synthetic_trajectories(states, frames.segments, lag_frames, starts, length, seed)
    walk = frames.take(chosen.ravel())
    return replace(
        walk,
        segments=np.repeat(np.arange(replicas), length).astype(np.int64),
        time_step_ps=lag_frames * (frames.time_step_ps or 1.0),
    )
