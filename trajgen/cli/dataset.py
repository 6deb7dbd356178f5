"""Commands about data: import and info."""

from pathlib import Path
from typing import Annotated

import typer

from trajgen.cli.options import Config, Json, Sets, Temperature, overrides
from trajgen.cli.output import report, report_fit
from trajgen.console import choose_progress
from trajgen.errors import InputError


def import_data(
    out: Annotated[Path, typer.Option("--out", help="Dataset to make; must not exist.")],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[TRAJ]...", help="Atom trajectories: xtc, trr, dcd, nc, h5, pdb."),
    ] = None,
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Structure file of the trajectories.")
    ] = None,
    coords: Annotated[
        Path | None,
        typer.Option("--coords", help="Bead coordinates .npy (frames, beads, 3), no TRAJ then."),
    ] = None,
    forces: Annotated[
        Path | None,
        typer.Option(
            "--forces", help="Forces .npy (frames, N, 3): N beads of --coords, N atoms of TRAJ."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Weight of each frame, .npy.")
    ] = None,
    segments: Annotated[
        Path | None,
        typer.Option("--segments", help="Whole number of the run each frame is of, .npy."),
    ] = None,
    length_unit: Annotated[
        str | None, typer.Option("--length-unit", help="Unit of --coords: nm or angstrom.")
    ] = None,
    energy_unit: Annotated[
        str | None,
        typer.Option("--energy-unit", help="kJ/mol or kcal/mol; forces are in it per length unit."),
    ] = None,
    sequence: Annotated[
        str | None, typer.Option("--sequence", help="One-letter codes of the beads of --coords.")
    ] = None,
    temperature: Temperature = None,
    time_step_ps: Annotated[
        float | None,
        typer.Option("--time-step-ps", help="Time between frames; leave out if unordered."),
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option("--resolution", help="Of TRAJ: ca stores beads, heavy the atoms too."),
    ] = None,
    config: Config = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Make a dataset of bead arrays or of atom trajectories.

    \b
    trajgen import --coords X.npy --forces F.npy --length-unit angstrom \\
        --energy-unit kcal/mol --sequence GYDPETGTWG --temperature 350 --out D
    trajgen import MD.xtc --topology MD.pdb --time-step-ps 1 \\
        --temperature 300 --resolution heavy --out D

    More settings (--set): hamiltonian, constraints (h-bonds or none), force_map,
    trust_times (false where the times in a trajectory file are wrong).
    """
    from trajgen.data.importing import (
        FrameArrays,
        ImportSettings,
        import_arrays,
        import_trajectory,
    )
    from trajgen.data.summary import summarise_dataset
    from trajgen.settings import load_settings

    settings = load_settings(
        ImportSettings,
        config,
        [
            *(sets or []),
            *overrides(
                temperature_K=temperature,
                time_step_ps=time_step_ps,
                sequence=sequence,
                length_unit=length_unit,
                energy_unit=energy_unit,
                resolution=resolution,
            ),
        ],
    )
    arrays = FrameArrays(forces, weights, segments)
    if coords is not None and not sources:
        if topology is not None:
            raise InputError(
                f"--topology {topology} is for trajectories, and --sequence names the beads of "
                "--coords; leave --topology out"
            )
        dataset = import_arrays(coords, out, settings, arrays)
    elif sources and coords is None:
        source_topology = topology or _own_topology(sources[0])
        dataset = import_trajectory(
            sources, source_topology, out, settings, arrays, choose_progress()
        )
    else:
        raise InputError("give either trajectories with --topology, or --coords; not both or none")
    report(summarise_dataset(dataset), as_json)


def info(
    path: Annotated[Path, typer.Argument(help="Dataset, checkpoint or trajectory.")],
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Structure file of a trajectory.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a dataset, a checkpoint or a trajectory holds.

    \b
    trajgen info DATASET
    trajgen info GEN.xtc --topology GEN.pdb --json
    """
    from trajgen.data.summary import summarise

    values = summarise(path, topology)
    if values.get("kind") == "potential":
        report_fit(values, as_json)
    else:
        report(values, as_json)
    if values.get("damaged_files") or values.get("intact") is False:
        raise InputError(f"{path} is damaged: a file is not the one that was written; see above")


def _own_topology(source: Path) -> Path:
    if source.suffix.lower() in (".pdb", ".h5"):
        return source
    raise InputError(f"{source} has no topology of its own; add --topology STRUCTURE.pdb")
