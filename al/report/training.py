"""How both models were trained in each round."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from al.run_content import RunContent
from trajgen.analysis.report.calibration_figure import calibration_figure
from trajgen.analysis.report.figures import Curve, training_curves
from trajgen.analysis.report.sections import Figure, Section, Table
from trajgen.files import read_json


def training_section(content: RunContent) -> Section:
    """Return the curves of every training, and the calibration of the committees."""
    figures, rows = [], []
    for model, loss in (
        ("potential", "force loss ((kJ/mol/nm)²)"),
        ("surrogate", "velocity loss (normalised tokens)"),
    ):
        curves = []
        for round in content.rounds:
            card = read_json(content.run / model / f"{round:03d}" / "card.json")
            curve = card["curve"]
            curves.append(
                Curve(
                    f"{model}, round {round}",
                    _column(curve, "step"),
                    _column(curve, "train"),
                    _column(curve, "validation"),
                    card["prior_only_loss"]["validation"] if model == "potential" else None,
                )
            )
            rows.append([model, str(round), _size(card), f"{card['wall_seconds']:.0f}"])
        caption = f"Loss of the {model}, on training data and on segments held out."
        figures.append(training_curves(curves, loss, caption))
    header = ["model", "round", "trained on", "seconds"]
    calibration, note = _calibration(content)
    return Section("Training", note, [Table("Trainings", header, rows)], [*figures, *calibration])


def _calibration(content: RunContent) -> tuple[list[Figure], list[str]]:
    """Return how the disagreement of the potential's committee goes with its error, or why not."""
    committees, reasons = [], []
    for round in content.rounds:
        card = read_json(content.run / "potential" / f"{round:03d}" / "card.json")
        # Runs that were begun with an older version have none.
        found = card.get("calibration", {"groups": [], "reason": "not measured then"})
        if found["groups"]:
            floor = card["noise_floor"]["value"]
            committees.append((f"potential, round {round}", found["groups"], floor))
        else:
            reasons.append(found["reason"])
    if not committees:
        return [], [f"Uncertainty of the potential: {reasons[-1]}."]
    return [calibration_figure(committees)], []


def _size(card: Mapping[str, Any]) -> str:
    if card["kind"] == "potential":
        frames = card["n_frames"]
        return f"{frames['train']} frames, {frames['validation']} held out"
    return f"{card['n_windows']} windows, {card['n_validation_windows']} held out"


def _column(curve: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([np.nan if row.get(name) is None else row[name] for row in curve], dtype=float)
