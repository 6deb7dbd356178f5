"""Ledger and metrics of a run to the plain sections that ``trajgen.analysis.report`` renders."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from al.parts.evaluator import BURN_IN, MODELS
from al.parts.judge import DISTANCE_NAMES
from al.run_content import RunContent
from trajgen import __version__
from trajgen.analysis.evaluate import EvaluationSettings
from trajgen.analysis.features import (
    Feature,
    bend_angles,
    bond_lengths,
    dihedral_angles,
    end_to_end_distances,
)
from trajgen.analysis.figures import (
    Curve,
    Ensemble,
    RmsdRound,
    Surface,
    distributions,
    free_energy_surfaces,
    rmsd_histograms,
    stacked_bars,
    training_curves,
)
from trajgen.analysis.frame_table import fit_reference_tica, slow_coordinates
from trajgen.analysis.measures import Measure, compare_measures
from trajgen.analysis.report import Section, Table
from trajgen.analysis.tica import TicaModel
from trajgen.data.frame_files import load_bead_frames, load_rollouts
from trajgen.data.records import BeadFrames, concatenate
from trajgen.files import read_json
from trajgen.geometry.superposition import rmsd_matrix
from trajgen.settings import parse_settings

_PACKAGES = ("torch", "openmm", "mdtraj", "deeptime", "numpy", "scipy", "pulchra")


def report_sections(content: RunContent) -> list[Section]:
    """Return all sections of a run's report."""
    return [
        _measures_section(content),
        _coverage_section(content),
        _surfaces_section(content),
        _distributions_section(content),
        _selection_section(content),
        _training_section(content),
        _budget_section(content),
    ]


def provenance(content: RunContent) -> dict[str, Any]:
    """Return versions, seeds, settings and hashes."""
    models = {
        f"round {round}": {
            f"{model}_sha256": content.summaries[round, "train"][f"{model}_sha256"]
            for model in MODELS
        }
        for round in content.rounds
    }
    return {
        "reproduce": "al run settings.yaml --out RUN, with the settings below",
        "versions": {
            "trajgen": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        "dataset_sha256": content.dataset.digest(),
        "models": models,
        "settings": content.settings,
    }


def _measures_section(content: RunContent) -> Section:
    first, last = content.rounds[0], content.rounds[-1]
    rows = []
    for model in MODELS:
        distances = [content.summaries[r, "evaluate"]["distances"][model] for r in content.rounds]
        for name, begin in distances[0].items():
            before, after = Measure(**begin), Measure(**distances[-1][name])
            verdict = compare_measures(before, after) if last > first else "one round only"
            rows.append(
                [
                    model,
                    DISTANCE_NAMES.get(name, name),
                    before.unit,
                    f"{_number(before.floor_mean)} ({_number(before.floor_max)})",
                    *(_with_interval(Measure(**entry[name])) for entry in distances),
                    verdict,
                ]
            )
    header = ["model", "distance", "unit", "floor, mean (largest)"]
    header += [*(f"round {r}" for r in content.rounds), f"round {last} against {first}"]
    return Section(
        title="Distance to the reference",
        paragraphs=[
            "Exact Wasserstein-1 distances, circular for dihedrals, pooled as the mean over the "
            "terms; smaller is better. In brackets the 95 % interval of a block bootstrap over "
            "chains.",
            f"The reference is {content.reference.n_frames} frames of independent all-atom runs "
            "made before round 0 and never trained on. The floor is the same distance between "
            "random halves of the reference: no model can be told from it below that.",
            f"The first {100 * BURN_IN:.0f} % of every chain is left out: it remembers its start.",
        ],
        tables=[Table("Distances by model and round", header, rows)],
    )


def _coverage_section(content: RunContent) -> Section:
    rows = []
    for round in content.rounds:
        evaluated = content.summaries[round, "evaluate"]
        covered = evaluated["dataset_coverage"]
        rows.append([str(round), "reference", "dataset", *_coverage_cells(covered)])
        for model in MODELS:
            for entry in evaluated["coverage"][model]:
                names = [entry["covered"], entry["by"]]
                named = [model if name == "samples" else name for name in names]
                if model == MODELS[0] or "samples" in names:
                    rows.append([str(round), *named, *_coverage_cells(entry)])
    header = ["round", "covered", "by", "mean nearest RMSD (nm)", "95 % quantile (nm)"]
    header.append(f"share within {covered['cutoff_nm']:g} nm")
    return Section(
        title="Coverage",
        paragraphs=[
            "How far each frame of the first set is from its nearest frame of the second, after "
            "superposition. Reference by model asks what the model misses; model by reference asks "
            "what it makes that the reference does not have.",
        ],
        tables=[Table("Coverage both ways", header, rows)],
    )


def _surfaces_section(content: RunContent) -> Section:
    settings = parse_settings(EvaluationSettings, content.settings["evaluation"], "evaluation")
    fit = fit_reference_tica(content.reference, settings.tica_lag_frames)
    if fit.model is None or fit.model.projection.shape[1] < 2:
        reason = fit.reason or "the reference varies along one slow coordinate only"
        return Section("Free-energy surfaces", [f"There are none: {reason}."])
    model = fit.model
    reference = Surface("reference", _tics(model, content.reference), content.reference.weights)
    figures = []
    for name in MODELS:
        panels = [reference]
        for round in content.rounds:
            marks, paths = {}, []
            chosen = content.folder(round + 1, "select") / "chosen.safetensors"
            if (round + 1, "select") in content.summaries:
                marks["chosen next"] = _tics(model, load_bead_frames(chosen))
            between = content.folder(round, "explore") / "interpolation.safetensors"
            if name == "surrogate" and between.is_file():
                whole = load_rollouts(between).to_frames()
                for path in np.unique(whole.segments)[:4]:
                    paths.append(_tics(model, whole.take(whole.segments == path)))
            tics = _tics(model, content.settled(round, name))
            panels.append(Surface(f"{name}, round {round}", tics, None, marks, paths))
        caption = (
            f"Free energy (kT) of the {name} in the first two TICA coordinates of the reference; "
            "dots are the frames chosen for the oracle in the next round"
        )
        caption += (
            ", lines are generated paths between two known frames." if name == MODELS[1] else "."
        )
        figures.append(free_energy_surfaces(panels, caption))
    return Section(
        "Free-energy surfaces",
        [f"TICA on all pair distances of the reference, lag {settings.tica_lag_frames} frames."],
        figures=figures,
    )


def _tics(model: TicaModel, frames: BeadFrames) -> np.ndarray:
    return slow_coordinates(model, frames)[:, :2]


def _distributions_section(content: RunContent) -> Section:
    sets: dict[str, BeadFrames] = {"reference": content.reference}
    for round in sorted({content.rounds[0], content.rounds[-1]}):
        for model in MODELS:
            sets[f"{model}, round {round}"] = content.settled(round, model)
    computes = {
        "end-to-end distance": end_to_end_distances,
        "bond length": bond_lengths,
        "angle": bend_angles,
        "dihedral": dihedral_angles,
    }
    figures = []
    for quantity, compute in computes.items():
        features: dict[str, Feature] = {name: compute(frames) for name, frames in sets.items()}
        first = features["reference"]
        if not first.labels:
            continue
        lines = [
            Ensemble(name, feature.values, sets[name].weights) for name, feature in features.items()
        ]
        caption = f"Distribution of each {quantity}, reference against both models."
        figures.append(
            distributions(lines, first.labels, quantity, first.unit, caption, first.period)
        )
    return Section("Distributions", figures=figures)


def _selection_section(content: RunContent) -> Section:
    panels, rows = [], []
    frame = content.dataset.read_all_beads().positions_nm[:1]
    for round in content.rounds:
        entries = [e for e in content.dataset.entries if e.label.round <= round]
        known = concatenate([content.dataset.read_beads(entry) for entry in entries])
        simulated = concatenate([content.settled(round, model) for model in MODELS])
        chosen = None
        if (round + 1, "select") in content.summaries:
            chosen = load_bead_frames(content.folder(round + 1, "select") / "chosen.safetensors")
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


def _training_section(content: RunContent) -> Section:
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
    return Section("Training", tables=[Table("Trainings", header, rows)], figures=figures)


def _size(card: Mapping[str, Any]) -> str:
    if card["kind"] == "potential":
        frames = card["n_frames"]
        return f"{frames['train']} frames, {frames['validation']} held out"
    return f"{card['n_windows']} windows, {card['n_validation_windows']} held out"


def _column(curve: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([np.nan if row.get(name) is None else row[name] for row in curve], dtype=float)


def _budget_section(content: RunContent) -> Section:
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
    tables = (
        [Table("Chosen frames by outcome", ["round", "outcome", "count"], rows)] if rows else []
    )
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


def _coverage_cells(entry: Mapping[str, Any]) -> list[str]:
    share = entry["share_within"]
    return [
        _number(entry["mean_nm"]),
        _number(entry["quantile95_nm"]),
        "not measured" if share is None else f"{100 * share:.0f} %",
    ]


def _with_interval(measure: Measure) -> str:
    if measure.value is None:
        return f"not measured: {measure.reason}"
    if measure.low is None or measure.high is None:
        return _number(measure.value)
    return f"{_number(measure.value)} ({_number(measure.low)} to {_number(measure.high)})"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"
