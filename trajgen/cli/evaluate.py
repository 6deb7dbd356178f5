"""The command that compares trajectories with a reference."""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from trajgen.cli.options import Config, Json, Seed, Sets
from trajgen.console import choose_progress
from trajgen.errors import InputError


def evaluate_command(
    trajectories: Annotated[
        list[Path],
        typer.Argument(metavar="TRAJ...", help="Trajectories or datasets; pooled to one set."),
    ],
    reference: Annotated[
        list[Path],
        typer.Option("--reference", help="Dataset or trajectory to judge by; repeatable."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to make; must not exist.")],
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Structure file of the trajectories.")
    ] = None,
    reference_topology: Annotated[
        Path | None,
        typer.Option("--reference-topology", help="Of the reference; default --topology."),
    ] = None,
    resolution: Annotated[
        Literal["ca", "heavy"],
        typer.Option("--resolution", help="ca: C-alpha beads; heavy: atoms without hydrogens."),
    ] = "ca",
    structure: Annotated[
        Path | None,
        typer.Option("--structure", help="Measure the RMSD to it and to its mirror image (PDB)."),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Judge every file as a set of its own.")
    ] = False,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure how far trajectories are from a reference; writes metrics.json and report.html.

    \b
    trajgen evaluate SIM.npz --reference DATASET --out EVALUATION
    trajgen evaluate GEN_*.xtc --topology GEN.pdb --reference MD.xtc \\
        --reference-topology MD.pdb --out EVALUATION
    """
    from trajgen.analysis.evaluate import EvaluationSettings
    from trajgen.analysis.report.evaluation_folder import evaluate_to_folder
    from trajgen.data.mapping import bead_topology
    from trajgen.data.origins import origins
    from trajgen.data.readers import read_bead_structure
    from trajgen.data.sources import open_samples
    from trajgen.files import read_json, require_output
    from trajgen.settings import load_settings
    from trajgen.versions import versions

    settings = load_settings(EvaluationSettings, config, sets or [])
    require_output(out)
    judged_by = open_samples(reference, reference_topology or topology, resolution)
    beads = bead_topology(judged_by.topology)
    names = _short_names(trajectories)
    if each:
        groups = {name: [path] for name, path in zip(names, trajectories, strict=True)}
    else:
        groups = {_pooled_name(names): trajectories}
    samples = {
        name: open_samples(group, topology or beads, resolution) for name, group in groups.items()
    }
    evaluate_to_folder(
        samples,
        judged_by,
        out,
        settings,
        seed,
        {
            "reproduce": shlex.join(["trajgen", *sys.argv[1:]]),
            "versions": versions(),
            "reference": origins(reference),
            "sets": origins(trajectories),
        },
        choose_progress(),
        {name: found.left_out for name, found in samples.items()},
        None if structure is None else read_bead_structure(structure, beads),
    )
    metrics = read_json(out / "metrics.json")
    if as_json:
        typer.echo(json.dumps(metrics, indent=2))
    else:
        _print_distances(metrics)
        typer.echo(f"report: {out / 'report.html'}")


def _short_names(paths: list[Path]) -> list[str]:
    """Return the ends of paths, as long as it takes to tell them apart and from the reference."""
    if repeated := [str(path) for path in dict.fromkeys(paths) if paths.count(path) > 1]:
        raise InputError(f"TRAJ has {repeated[0]} more than once; give each file once")
    for length in range(1, max(len(path.parts) for path in paths)):
        ends = [str(Path(*path.parts[-length:])) for path in paths]
        if len({*ends, "reference"}) == len(ends) + 1:
            return ends
    return ["reference (samples)" if str(path) == "reference" else str(path) for path in paths]


def _pooled_name(names: list[str]) -> str:
    if len(names) <= 2:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more"


def _print_distances(metrics: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    for name, evaluation in metrics["samples"].items():
        table = Table("distance", "value", "95 % interval", "floor (halves)", "unit", title=name)
        for distance, entry in evaluation["distances"].items():
            pooled = entry["pooled"]
            table.add_row(
                distance,
                _number(pooled["value"]),
                f"{_number(pooled['low'])} to {_number(pooled['high'])}",
                f"{_number(pooled['floor_mean'])}, at most {_number(pooled['floor_max'])}",
                pooled["unit"],
            )
        Console().print(table)
        for reason in dict.fromkeys(_reasons(evaluation)):
            typer.echo(f"not measured: {reason}")


def _reasons(evaluation: dict[str, Any]) -> Iterator[str]:
    for distance, entry in evaluation["distances"].items():
        if entry["pooled"]["value"] is None:
            yield f"{distance} ({entry['pooled']['reason']})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
