"""Relaxation of torsions beside that of a reference, and its mean over peptides."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accuracy_peptides import mean_rows
from peptides.relaxation import relaxation
from scipy.signal import lfilter

from trajgen.analysis.features import Feature

FRAMES, STEP_PS = 60_000, 10.0


def wandering(decays: tuple[float, ...], seed: int) -> np.ndarray:
    """Return angles about zero whose autocorrelations after k frames are decay^k."""
    noise = np.random.default_rng(seed).normal(size=(len(decays), FRAMES))
    columns = [
        0.3 * math.sqrt(1 - decay**2) * lfilter([1], [1, -decay], row)
        for decay, row in zip(decays, noise, strict=True)
    ]
    return np.stack(columns, axis=1)


def table(angles: np.ndarray, runs: int = 1, step_ps: float = STEP_PS) -> Any:
    """Return what is looked at of a table of frames, in runs of one length."""
    labels = tuple(f"torsion {number}" for number in range(angles.shape[1]))
    feature = Feature("backbone", labels, "rad", angles, 2 * math.pi)
    numbers = np.repeat(np.arange(runs), len(angles) // runs)
    return SimpleNamespace(features={"backbone": feature}, runs=numbers, time_step_ps=step_ps)


def stuck(seed: int) -> np.ndarray:
    """Return an angle that is another in the second half, and shakes in both."""
    return np.repeat([[-1.0], [1.0]], FRAMES // 2, axis=0) + wandering((0.5,), seed)


def test_errors_do_not_cancel_as_ratios_do() -> None:
    mine, theirs = wandering((0.8, 0.9, 0.9), 0), wandering((0.9, 0.9, 0.8), 1)
    found = relaxation(table(mine), table(theirs))
    assert found["relaxation_ratio"] == pytest.approx(1, rel=0.15)
    twice = math.log(math.log(0.8) / math.log(0.9))
    assert found["relaxation_log_error"] == pytest.approx(2 / 3 * twice, rel=0.15)
    assert found["relaxation_torsions"] == 3


def test_a_torsion_that_is_stuck_counts_with_the_longest_time() -> None:
    """In two runs each side of the step is seen alone, and never forgotten."""
    mine = np.concatenate([wandering((0.9,), 0), stuck(1)], axis=1)
    theirs = wandering((0.9, 0.9), 2)
    found = relaxation(table(mine, runs=2), table(theirs))
    longest_ps = FRAMES / 4 * STEP_PS
    bound = math.log(longest_ps / (-STEP_PS / math.log(0.9)))
    assert found["relaxation_log_error"] == pytest.approx(bound / 2, rel=0.1)
    assert (found["relaxation_torsions"], found["relaxation_one_sided"]) == (2, 1)
    swapped = relaxation(table(theirs, runs=2), table(mine, runs=2))
    assert swapped["relaxation_log_error"] == pytest.approx(bound / 2, rel=0.1)


def test_a_torsion_that_is_stuck_on_both_sides_says_nothing() -> None:
    found = relaxation(table(stuck(0), runs=2), table(stuck(1), runs=2))
    assert found["relaxation_ratio"] is None
    assert found["relaxation_log_error"] is None
    assert found["relaxation_not_measured"] == 1


def test_other_time_steps_and_single_frames_have_a_reason() -> None:
    angles = wandering((0.9,), 0)
    other = relaxation(table(angles, step_ps=100.0), table(angles))
    assert other["relaxation_reason"] == "the time steps differ"
    alone = relaxation(table(angles, runs=FRAMES), table(angles))
    assert alone["relaxation_reason"] == "no run has two frames"


def test_ratios_of_peptides_have_a_geometric_mean() -> None:
    rows = [{"surrogate": {"relaxation_ratio": ratio, "valid": valid}}
            for ratio, valid in ((0.5, 0.8), (2.0, 1.0))]  # fmt: skip
    means = mean_rows(rows)["surrogate"]
    assert means == {"relaxation_ratio": pytest.approx(1.0), "valid": pytest.approx(0.9)}
