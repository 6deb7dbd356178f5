"""Relaxation of torsions beside that of a reference."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from trajgen.analysis.features import Feature
from trajgen.analysis.frame_table import FrameTable
from trajgen.analysis.kinetics.relaxation import torsion_relaxation
from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology

FRAMES, STEP_PS = 60_000, 10.0


def wandering(decays: tuple[float, ...], seed: int) -> np.ndarray:
    """Return angles about zero whose autocorrelations after k frames are decay^k."""
    noise = np.random.default_rng(seed).normal(size=(len(decays), FRAMES))
    columns = [
        0.3 * math.sqrt(1 - decay**2) * lfilter([1], [1, -decay], row)
        for decay, row in zip(decays, noise, strict=True)
    ]
    return np.stack(columns, axis=1)


def table(
    angles: np.ndarray, runs: int = 1, step_ps: float | None = STEP_PS, name: str = "backbone"
) -> FrameTable:
    """Return a table of frames with such torsions, in runs of one length."""
    frames = len(angles)
    labels = tuple(f"torsion {number}" for number in range(angles.shape[1]))
    numbers = np.repeat(np.arange(runs), frames // runs)
    topology = BeadTopology.from_residues(("GLY",))
    first = np.zeros(1, dtype=np.int64)
    return FrameTable(
        topology=topology,
        features={name: Feature(name, labels, "rad", angles, 2 * math.pi)},
        tics=None,
        contacts=np.zeros((1, 0)),
        contact_labels=(),
        failures={},
        segments=numbers,
        runs=numbers,
        blocks=numbers,
        weights=np.ones(frames),
        time_step_ps=step_ps,
        drawn=BeadFrames(topology, np.zeros((1, 1, 3), dtype=np.float32), first),
        drawn_rows=first,
        left_out={},
    )


def stuck(seed: int) -> np.ndarray:
    """Return an angle that is another in the second half, and shakes in both."""
    return np.repeat([[-1.0], [1.0]], FRAMES // 2, axis=0) + wandering((0.5,), seed)


def test_errors_do_not_cancel_as_ratios_do() -> None:
    mine, theirs = wandering((0.8, 0.9, 0.9), 0), wandering((0.9, 0.9, 0.8), 1)
    found = torsion_relaxation(table(mine), table(theirs))
    assert found.ratio.value == pytest.approx(1, rel=0.15)
    twice = math.log(math.log(0.8) / math.log(0.9))
    assert found.log_error.value == pytest.approx(2 / 3 * twice, rel=0.15)
    assert found.torsions == 3


def test_a_torsion_that_is_stuck_counts_with_the_longest_time() -> None:
    """In two runs each side of the step is seen alone, and never forgotten."""
    mine = np.concatenate([wandering((0.9,), 0), stuck(1)], axis=1)
    theirs = wandering((0.9, 0.9), 2)
    found = torsion_relaxation(table(mine, runs=2), table(theirs))
    longest_ps = FRAMES / 4 * STEP_PS
    bound = math.log(longest_ps / (-STEP_PS / math.log(0.9)))
    assert found.log_error.value == pytest.approx(bound / 2, rel=0.1)
    assert (found.torsions, found.one_sided) == (2, 1)
    swapped = torsion_relaxation(table(theirs, runs=2), table(mine, runs=2))
    assert swapped.log_error.value == pytest.approx(bound / 2, rel=0.1)


def test_a_torsion_that_is_stuck_on_both_sides_says_nothing() -> None:
    found = torsion_relaxation(table(stuck(0), runs=2), table(stuck(1), runs=2))
    assert found.ratio.value is None
    assert found.log_error.value is None
    assert found.not_measured == 1


def test_other_time_steps_and_single_frames_have_a_reason() -> None:
    angles = wandering((0.9,), 0)
    other = torsion_relaxation(table(angles, step_ps=100.0), table(angles))
    assert other.ratio.reason == "the time steps differ"
    alone = torsion_relaxation(table(angles, runs=FRAMES), table(angles))
    assert alone.log_error.reason == "no run has two frames"
    untimed = torsion_relaxation(table(angles, step_ps=None), table(angles))
    assert untimed.ratio.reason == "the frames have no time step"


def test_frames_without_torsions_have_a_reason() -> None:
    beads = table(wandering((0.9,), 0), name="dihedral")
    found = torsion_relaxation(beads, beads)
    assert found.ratio.reason == "there are no torsions"
