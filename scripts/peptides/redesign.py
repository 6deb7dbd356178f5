"""Design judged by how often it finds the residues whose neighbours were seen to move."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trajgen.analysis.design import composition_of, sequence_recovery
from trajgen.data.records import AtomFrames
from trajgen.progress import Progress
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.design import design
from trajgen.surrogate.surrogate import Surrogate


def design_scores(
    surrogate: Surrogate, dynamics: AtomFrames, trained_on: Sequence[str], samples: int,
    settings: RolloutSettings, seed: int, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Design the inner residues of a peptide from the motion of its ends; count the right ones.

    Each sample alone names the likeliest residues; the mean of the chances over all samples names
    one design, which is the better guess where samples differ. Beside them stand residues drawn
    from those inside the training peptides, the most frequent of these, and a look-up: the inner
    residues of the training peptides with most ends in common.
    """
    name = surrogate.beads.sequence
    known = np.zeros(len(name), dtype=bool)
    known[[0, -1]] = True
    interval_ps = float(dynamics.time_step_ps or surrogate.lags_ps[0])
    made = design(
        surrogate, dynamics.positions_nm, known, samples, interval_ps, settings, seed, progress
    )
    inner = np.flatnonzero(~known).tolist()
    composition = composition_of([one[1:-1] for one in trained_on])
    found = sequence_recovery(made.sequences(name), name, inner, composition, seed)
    pooled = replace(made, chances=made.chances.mean(axis=0, keepdims=True))
    of_mean = sequence_recovery(pooled.sequences(name), name, inner, composition, seed)
    return {
        "recovery_of_single_samples": found.overall.value,
        "recovery_of_single_samples_interval": [found.overall.low, found.overall.high],
        "recovery_of_mean_chances": of_mean.overall.value,
        "uniform": 1 / 20,
        "random": found.random,
        "look_up": look_up(name, trained_on),
        "most_frequent": found.most_frequent,
        "designs": found.n_designs,
        "distinct": found.n_distinct,
    }


def look_up(name: str, trained_on: Sequence[str]) -> float:
    """Return the recovery of inner residues taken from the training peptides of the same ends.

    Ends alone tell which of few peptides is meant; a model that does no more recovers as much.
    """
    shared = [sum(one[end] == name[end] for end in (0, -1)) for one in trained_on]
    nearest = [one for one, count in zip(trained_on, shared, strict=True) if count == max(shared)]
    right = [a == b for one in nearest for a, b in zip(one[1:-1], name[1:-1], strict=True)]
    return float(np.mean(right))
