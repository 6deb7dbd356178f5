"""How far the models of each round are from the reference."""

from collections.abc import Mapping
from typing import Any

from al.parts.evaluator import BURN_IN, MODELS
from al.parts.judge import DISTANCE_NAMES
from al.run_content import RunContent
from trajgen.analysis.kinetics.records import Kinetics
from trajgen.analysis.measures import Measure, compare_measures
from trajgen.analysis.report.cells import judgement_text, level_of
from trajgen.analysis.report.kinetics_report import kinetics_sections as sections_of
from trajgen.analysis.report.sections import Cell, Section, Table
from trajgen.files import read_json


def measures_section(content: RunContent) -> Section:
    """Return the distances of both models in every round, coloured by the floor."""
    first, last = content.rounds[0], content.rounds[-1]
    rows: list[list[str | Cell]] = []
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
                    *(_coloured(Measure(**entry[name])) for entry in distances),
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
            "Colours: blue within the largest floor, yellow up to three times it, orange beyond.",
            f"The first {100 * BURN_IN:.0f} % of every chain is left out: it remembers its start.",
        ],
        tables=[Table("Distances by model and round", header, rows)],
    )


def coverage_section(content: RunContent) -> Section:
    """Return the coverage both ways, of the models and of the dataset."""
    rows = []
    for round in content.rounds:
        evaluated = content.summaries[round, "evaluate"]
        covered = evaluated["dataset_coverage"]
        rows.append([str(round), "reference", "dataset", *_coverage_cells(covered)])
        for model in MODELS:
            for entry in evaluated["coverage"][model]:
                names = [entry["covered"], entry["by"]]
                named = [model if name == "samples" else name for name in names]
                # The halves of the reference are the same in every round and for every model.
                when = str(round) if "samples" in names else "every"
                rows.append([when, *named, *_coverage_cells(entry)])
    header = ["round", "covered", "by", "mean nearest RMSD (nm)", "95 % quantile (nm)"]
    header.append(f"share within {covered['cutoff_nm']:g} nm")
    return Section(
        title="Coverage",
        paragraphs=[
            "How far each frame of the first set is from its nearest frame of the second, after "
            "superposition. Reference by model asks what the model misses; model by reference asks "
            "what it makes that the reference does not have.",
        ],
        tables=[Table("Coverage both ways", header, list(dict.fromkeys(map(tuple, rows))))],
    )


def _coverage_cells(entry: Mapping[str, Any]) -> list[str]:
    share = entry["share_within"]
    return [
        _number(entry["mean_nm"]),
        _number(entry["quantile95_nm"]),
        "not measured" if share is None else f"{100 * share:.0f} %",
    ]


def kinetics_sections(content: RunContent) -> list[Section]:
    """Return states and time scales of the models of the last round, where they were measured."""
    last = content.rounds[-1]
    found = {}
    for model in MODELS:
        values = read_json(content.folder(last, "evaluate") / f"{model}.json").get("kinetics")
        if values is not None:
            found[f"{model}, round {last}"] = Kinetics.from_json(values)
    return sections_of(found)


def _coloured(measure: Measure) -> Cell:
    words = judgement_text(measure)
    return Cell(_with_interval(measure) + (words and f", {words}"), level_of(measure))


def _with_interval(measure: Measure) -> str:
    if measure.value is None:
        return f"not measured: {measure.reason}"
    if measure.low is None or measure.high is None:
        return _number(measure.value)
    return f"{_number(measure.value)} ({_number(measure.low)} to {_number(measure.high)})"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"
