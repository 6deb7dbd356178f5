"""What all-atom time was spent on, and what came of it."""

import numpy as np

from al.run_content import RunContent
from trajgen.analysis.report.figures import stacked_bars
from trajgen.analysis.report.sections import Section, Table


def budget_section(content: RunContent) -> Section:
    """Return the all-atom time by source, and what became of the chosen frames."""
    sources = ("sample", "oracle")
    names = [f"round {round}" for round in content.rounds]
    ps = {
        source: np.array(
            [
                sum(
                    entry.label.oracle_ps
                    for entry in content.dataset.entries
                    if entry.label.round == round and entry.label.source == source
                )
                for round in content.rounds
            ]
        )
        for source in sources
    }
    sampled = content.summaries[0, "sample"]
    of_reference = np.zeros(len(names))
    of_reference[0] = sampled["reference"]["oracle_ps"]
    ps["reference (never trained on)"] = of_reference
    figures = [
        stacked_bars(
            names,
            ps,
            "all-atom time (ps)",
            "All-atom time that gave frames, by round and source; failed segments and "
            "backmapping are not in it.",
        )
    ]
    rows: list[list[str]] = [
        [
            "0",
            f"failed replicas of the {group}",
            str(content.summaries[0, "sample"][group]["failed"]),
        ]
        for group in ("dataset", "reference")
    ]
    outcomes: dict[str, np.ndarray] = {}
    for place, round in enumerate(content.rounds):
        if round == 0 or (round, "append") not in content.summaries:
            continue
        for what, count in _outcomes(content, round).items():
            outcomes.setdefault(what, np.zeros(len(names)))[place] = count
            rows.append([str(round), what, str(count)])
        windows = content.summaries[round, "append"]["new_windows"]
        rows.append([str(round), "new windows for the surrogate", str(windows)])
    if outcomes:
        figures.append(stacked_bars(names, outcomes, "frames", "What became of the chosen frames."))
    tables = [Table("Chosen frames by outcome", ["round", "outcome", "count"], rows)]
    reasons = _failure_rows(content)
    if reasons:
        tables.append(Table("Reasons of failures", ["round", "frame", "reason"], reasons))
    return Section("All-atom budget and outcomes", tables=tables, figures=figures)


def _outcomes(content: RunContent, round: int) -> dict[str, int]:
    counts = {}
    for outcome, number in content.summaries[round, "backmap"]["outcomes"].items():
        if outcome != "accepted":
            counts[f"backmapping: {outcome}"] = number
    for row in content.summaries[round, "query"]["tasks"]:
        name = f"oracle: {row['outcome']}"
        counts[name] = counts.get(name, 0) + 1
    return counts


def _failure_rows(content: RunContent) -> list[list[str]]:
    rows = []
    for round in content.rounds:
        mapped = content.summaries.get((round, "backmap"), {"frames": []})
        for record in mapped["frames"]:
            if record["outcome"] != "accepted":
                reason = f"{record['outcome']}: {record['reason']}"
                rows.append([str(round), str(record["frame"]), reason])
        asked = content.summaries.get((round, "query"), {"tasks": []})
        for task in asked["tasks"]:
            if task["outcome"] != "done":
                rows.append([str(round), task["task"], task["reason"]])
    return rows
