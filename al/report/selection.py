"""Which frames were chosen, from which, and what became of the others."""

import numpy as np
import torch

from al.parts.evaluator import MODELS
from al.run_content import RunContent
from trajgen.analysis.report.figures import RmsdRound, rmsd_histograms
from trajgen.analysis.report.sections import Section, Table
from trajgen.data.records import BeadFrames, concatenate
from trajgen.geometry.superposition import rmsd_matrix


def selection_section(content: RunContent) -> Section:
    """Return RMSD histograms of every round, and the candidates' outcomes."""
    panels, rows = [], []
    frame = content.dataset.read_all_beads().positions_nm[:1]
    for round in content.rounds:
        entries = [e for e in content.dataset.entries if e.label.round <= round]
        known = concatenate([content.dataset.read_beads(entry) for entry in entries])
        simulated = concatenate([content.settled(round, model) for model in MODELS])
        chosen = content.chosen(round + 1)
        if (round + 1, "select") in content.summaries:
            rows += _selection_rows(round + 1, content)
        panels.append(
            RmsdRound(
                f"round {round}",
                _rmsd_to(frame, known),
                _rmsd_to(frame, simulated),
                None if chosen is None else _rmsd_to(frame, chosen),
            )
        )
    figure = rmsd_histograms(
        panels,
        "RMSD to the first frame of the dataset: dataset of the round, frames that both models "
        "simulated with it, and the frames chosen from them.",
    )
    tables = []
    if rows:
        tables.append(Table("What became of the candidates", ["round", "outcome", "frames"], rows))
    rule = content.settings["selection"]["rule"]
    return Section("Selection", [f"Rule: {rule}."], tables=tables, figures=[figure])


def _selection_rows(round: int, content: RunContent) -> list[list[str]]:
    selected = content.summaries[round, "select"]
    sources = selected["sources"]
    rows = [
        [str(round), f"chosen, proposed by {source}", str(sources.count(source))]
        for source in sorted(set(sources))
    ]
    rows += [[str(round), reason, str(count)] for reason, count in selected["rejected"].items()]
    explored = content.summaries[round - 1, "explore"]
    for source, counts in explored.items():
        lost = f"never proposed: lost by failed chains of {source}"
        rows.append([str(round), lost, str(counts["frames_lost"])])
    return rows


def _rmsd_to(frame: np.ndarray, frames: BeadFrames) -> np.ndarray:
    return rmsd_matrix(torch.from_numpy(frames.positions_nm), torch.from_numpy(frame))[:, 0].numpy()
