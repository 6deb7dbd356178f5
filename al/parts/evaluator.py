"""The evaluator: the rollouts of a round against the reference, and what the dataset covers."""

from pathlib import Path
from typing import Any

import numpy as np

from trajgen.analysis.coverage import coverage
from trajgen.analysis.evaluate import EvaluationSettings, judge, read_reference, read_samples
from trajgen.data.frame_files import load_rollouts
from trajgen.data.records import BeadFrames, Rollouts
from trajgen.data.store import Dataset
from trajgen.files import read_json, write_json
from trajgen.seeding import derive_seed

#: The two models by the name of their rollouts.
MODELS = ("potential", "surrogate")

#: This share of each chain is left out: it still remembers its start, a frame of the dataset.
BURN_IN = 0.5


class ReferenceEvaluator:
    """Measures against all-atom dynamics that no model was ever trained on."""

    def __init__(self, reference: Path, settings: EvaluationSettings, seed: int) -> None:
        self.reference = reference
        self.settings = settings
        # One seed for all rounds: their numbers then differ by the models alone.
        self.seed = derive_seed(seed, "evaluate")

    def evaluate(
        self, round: int, exploration: Path, dataset: Dataset, folder: Path
    ) -> dict[str, Any]:
        """Write a full evaluation of each model; return the pooled numbers."""
        reference = Dataset.open(self.reference).read_all_beads()
        judged_by = read_reference(reference, self.settings, self.seed)
        known = dataset.read_all_beads()
        summary: dict[str, Any] = {"distances": {}, "coverage": {}}
        for model in MODELS:
            file = folder / f"{model}.json"
            if not file.is_file():
                rollouts = load_rollouts(exploration / f"{model}.safetensors")
                samples, lost = settled_frames(rollouts)
                left_out = {"chain failed": lost} if lost else {}
                measured = judge(read_samples(samples, judged_by), judged_by, left_out)
                write_json(file, measured.to_json())
            content = read_json(file)
            summary["distances"][model] = {
                name: entry["pooled"] for name, entry in content["distances"].items()
            }
            summary["coverage"][model] = content["coverage"]
        covered = coverage(
            reference,
            known,
            ("reference", "dataset"),
            self.settings.coverage_frames,
            self.settings.coverage_cutoff_nm,
            self.seed,
        )
        summary["dataset_coverage"] = {
            "share_within": covered.share_within,
            "mean_nm": covered.mean_nm,
            "quantile95_nm": covered.quantile95_nm,
            "cutoff_nm": covered.cutoff_nm,
        }
        return summary


def settled_frames(rollouts: Rollouts) -> tuple[BeadFrames, int]:
    """Return the frames after the burn-in that are alive, and the number that are not."""
    begin = int(rollouts.alive.shape[1] * BURN_IN)
    late = Rollouts(
        topology=rollouts.topology,
        positions_nm=np.ascontiguousarray(rollouts.positions_nm[:, begin:]),
        alive=rollouts.alive[:, begin:],
        time_step_ps=rollouts.time_step_ps,
    )
    return late.to_frames(), late.n_lost
