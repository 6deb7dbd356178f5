"""The judge: what the rounds gained, in sentences, and only beyond the noise."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from al.parts.evaluator import MODELS
from trajgen.analysis.measures import Measure, compare_measures

#: Names of the distances in sentences.
DISTANCE_NAMES = {
    "tica_2d": "TICA plane",
    "tica_0": "first TICA component",
    "end_to_end": "end-to-end distance",
    "radius_of_gyration": "radius of gyration",
    "bond": "bond length",
    "angle": "angle",
    "dihedral": "dihedral",
}


class NoiseJudge:
    """Compares the last round with round 0 by intervals and by the floor of the reference."""

    def judge(self, history: Sequence[dict[str, Any]]) -> list[str]:
        """Return five lines: both models, the dataset, the oracle, and what a run can show."""
        first, last = history[0], history[-1]
        lines = [self._model_line(model, first, last) for model in MODELS]
        before, after = first["dataset_coverage"], last["dataset_coverage"]
        lines.append(
            f"Dataset: {first['dataset_frames']} to {last['dataset_frames']} frames; within "
            f"{after['cutoff_nm']:g} nm RMSD it covers {_percent(after['share_within'])} of the "
            f"reference ({_percent(before['share_within'])} in round 0)."
        )
        accepted = sum(entry["oracle_accepted"] for entry in history)
        spent = last["oracle_ps"] - first["oracle_ps"]
        windows = ", ".join(str(entry["new_windows"]) for entry in history[1:]) or "none"
        lines.append(
            f"Oracle: {accepted} all-atom segments, {spent:.0f} ps beyond the first "
            f"{first['oracle_ps']:.0f} ps; new surrogate windows by round: {windows}."
        )
        lines.append(
            "A run of this length shows that the loop works, not that it has converged; segments "
            "grown from chosen frames teach transitions, not populations."
        )
        return lines

    def _model_line(self, model: str, first: dict[str, Any], last: dict[str, Any]) -> str:
        groups: dict[str, list[str]] = defaultdict(list)
        for name, before in first["distances"][model].items():
            after = last["distances"][model][name]
            verdict = compare_measures(Measure(**before), Measure(**after))
            groups[verdict].append(DISTANCE_NAMES.get(name, name))
        order = ("better", "worse", "within noise", "not measured")
        parts = [f"{verdict}: {', '.join(groups[verdict])}" for verdict in order if groups[verdict]]
        return (
            f"{model.capitalize()}, round {last['round']} against round {first['round']}: "
            f"{'; '.join(parts)}."
        )


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:.0f} %"
