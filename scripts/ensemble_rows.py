"""Rows of tables that compare simulated ensembles with a reference, and say what they cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trajgen.analysis.evaluation import Evaluation
from trajgen.data.records import BeadFrames, Rollouts

#: Factor and unit of each column; lengths in angstrom as in published tables.
UNITS = {
    "tica_2d": (1.0, "TIC"),
    "tica_0": (1.0, "TIC"),
    "end_to_end": (10.0, "Å"),
    "radius_of_gyration": (10.0, "Å"),
    "bond": (10.0, "Å"),
    "angle": (1.0, "rad"),
    "dihedral": (1.0, "rad"),
    "rmsd": (10.0, "Å"),
}


def heads(columns: Sequence[str]) -> list[str]:
    """Return the names of columns with their units, in words that can stand below each other."""
    return [f"{name.replace('_', ' ')} ({UNITS[name][1]})" for name in columns]


def measured(evaluation: Evaluation, columns: Sequence[str]) -> dict[str, Any]:
    """Return the distances of a set and their intervals, and its shares at a structure."""
    row = _pooled(evaluation, columns, "value")
    for name in columns:
        factor, pooled = UNITS[name][0], evaluation.distance(name).pooled
        row[f"{name}_interval"] = [
            None if end is None else factor * end for end in (pooled.low, pooled.high)
        ]
    for share in evaluation.shares:
        if share.name in ("native", "mirror"):
            row[share.name] = share.samples.value
    return row


def floors(evaluation: Evaluation, columns: Sequence[str]) -> dict[str, Any]:
    """Return the mean distance between halves of the reference, and its own shares."""
    row = _pooled(evaluation, columns, "floor_mean")
    for share in evaluation.shares:
        if share.name in ("native", "mirror"):
            row[share.name] = share.reference.value
    return row


def largest_floors(evaluation: Evaluation, columns: Sequence[str]) -> dict[str, Any]:
    """Return the largest distance between halves of the reference."""
    return _pooled(evaluation, columns, "floor_max")


def _pooled(evaluation: Evaluation, columns: Sequence[str], number: str) -> dict[str, Any]:
    """Return one number of each distance, the mean over its terms, in the unit of its column."""
    row: dict[str, Any] = {}
    for name in columns:
        value = getattr(evaluation.distance(name).pooled, number)
        row[name] = None if value is None else UNITS[name][0] * value
    return row


def cells(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """Return numbers as a table shows them."""
    values = (row.get(name) for name in columns)
    return ["-" if value is None else f"{value:.3g}" for value in values]


def second_half(rollouts: Rollouts) -> tuple[BeadFrames, int]:
    """Return the frames of the second half that are alive, and the number that are not."""
    begin = rollouts.alive.shape[1] // 2
    late = Rollouts(
        rollouts.topology,
        np.ascontiguousarray(rollouts.positions_nm[:, begin:]),
        rollouts.alive[:, begin:],
        rollouts.time_step_ps,
    )
    return late.to_frames(), late.n_lost


def fit_cost(card: dict[str, Any]) -> dict[str, Any]:
    """Return the steps and the minutes of a fit, those of the readout among them."""
    readout = card["readout"] or {"wall_seconds": 0.0}
    minutes = (card["wall_seconds"] + readout["wall_seconds"]) / 60
    return {"steps": card["steps"], "readout": readout, "minutes": minutes}
