"""Design judged by how often it finds the residues whose neighbours were seen to move."""

from collections.abc import Sequence
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
    """Design the inner residues of a peptide from the motion of its ends; count the right ones."""
    name = surrogate.beads.sequence
    known = np.zeros(len(name), dtype=bool)
    known[[0, -1]] = True
    interval_ps = float(dynamics.time_step_ps or surrogate.lags_ps[0])
    made = design(
        surrogate, dynamics.positions_nm, known, samples, interval_ps, settings, seed, progress
    )
    inner = np.flatnonzero(~known).tolist()
    found = sequence_recovery(
        made.sequences(name), name, inner, composition_of(list(trained_on)), seed
    )
    return {
        "recovery": found.overall.value,
        "recovery_interval": [found.overall.low, found.overall.high],
        "random": found.random,
        "most_frequent": found.most_frequent,
        "designs": found.n_designs,
        "distinct": found.n_distinct,
    }
