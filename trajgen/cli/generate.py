"""Commands that generate trajectories with a trained surrogate, one a task."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajgen.cli.options import Config, Device, Seed, Sets, Temperature
from trajgen.cli.surrogate_io import (
    Request,
    digest_of,
    generate_to_file,
    interval_ps_of,
    open_surrogate,
    read_end,
    read_known,
    read_residues,
    read_start,
)
from trajgen.console import choose_progress
from trajgen.errors import InputError

if TYPE_CHECKING:
    from trajgen.data.records import Rollouts
    from trajgen.work_folder import WorkFolder

    Made = tuple[Rollouts, dict[str, Any]]

LagPs = Annotated[
    float | None,
    typer.Option("--lag-ps", help="Time between frames, ps; default the shortest trained."),
]
Generated = Annotated[
    Path, typer.Option("--out", help="GEN.xtc, or npz, safetensors, trr, dcd, nc, h5, pdb.")
]
Model = Annotated[Path, typer.Argument(help="Checkpoint written by trajgen train.")]
TopologyFile = Annotated[
    Path | None, typer.Option("--topology", help="Structure file of the trajectory.")
]
IntervalPs = Annotated[
    float | None,
    typer.Option("--interval-ps", help="Time between its frames; default as it says."),
]
KnownFile = Annotated[Path, typer.Option("--known", help="Trajectory of the known residues.")]
KnownResidues = Annotated[
    str,
    typer.Option(
        "--residues", help="Residues that are known, counted from 1: 1,4,6-9; of beads three."
    ),
]


def forward_command(
    model: Model,
    frames: Annotated[int, typer.Option("--frames", help="Frames of a replica, its start too.")],
    out: Generated,
    start: Annotated[
        Path | None, typer.Option("--start", help="Structure (PDB), or starts .npz.")
    ] = None,
    after: Annotated[
        Path | None, typer.Option("--after", help="Trajectory to go on from, by its last frames.")
    ] = None,
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Structure file of that trajectory.")
    ] = None,
    lag_ps: Annotated[
        float | None,
        typer.Option(
            "--lag-ps", help="Time between frames, ps; default that of --after, or the shortest."
        ),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", help="Replicas; default one for each start.")
    ] = None,
    temperature: Temperature = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Simulate forward in time from a start; one file a replica where there are several.

    The start is a structure, or the last frames of a trajectory (--after, as many as
    the setting context says), which tell how fast the molecule moves; the output begins
    with them.

    \b
    trajgen generate forward MODEL --start START.pdb --lag-ps 5 \\
        --frames 1000 --replicas 16 --out GEN.xtc
    trajgen generate forward MODEL --after RUN.xtc --topology TOP.pdb \\
        --frames 1000 --replicas 16 --out GEN.xtc
    """
    from trajgen.data.starts import repeat_starts
    from trajgen.seeding import derive_seed
    from trajgen.surrogate.forward import forward

    if (start is None) == (after is None):
        raise InputError("give --start START.pdb or --after RUN.xtc, one of them")
    if start is not None and topology is not None:
        raise InputError("--topology is that of --after; a start needs none")
    structure = start or topology or after
    surrogate, settings = open_surrogate(model, structure, config, sets, temperature, device)
    if after is not None:
        starts, lag = read_end(after, topology, surrogate, settings.context, lag_ps)
    elif start is not None:
        starts = read_start(start, surrogate)
        lag = surrogate.lags_ps[0] if lag_ps is None else lag_ps
    starts = repeat_starts(starts, replicas)
    asked = {"start": start, "after": after, "frames": frames, "lag_ps": lag}
    # A run that goes on from one of the same seed must not meet the same noise again.
    own = seed if after is None else derive_seed(seed, f"after {digest_of(starts[:1])}")

    def run(work: "WorkFolder") -> "Made":
        progress = choose_progress()
        return forward(surrogate, starts, frames, lag, settings, own, progress, work), {}

    request = Request("forward", model, surrogate, settings, seed, asked, [starts])
    generate_to_file(out, len(starts), request, run)


def interpolate_command(
    model: Model,
    start: Annotated[Path, typer.Option("--from", help="Structure (PDB) of the first frame.")],
    end: Annotated[
        Path,
        typer.Option("--to", help="Structure (PDB) of the last frame; superposed on the first."),
    ],
    frames: Annotated[int, typer.Option("--frames", help="Frames of a path, ends included.")],
    out: Generated,
    lag_ps: LagPs = None,
    paths: Annotated[int, typer.Option("--paths", help="Paths to generate.")] = 1,
    temperature: Temperature = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Generate paths between two structures; one file a path where there are several.

    The best comes first: whole and without clashes, and likely under the model. The
    scores, and how far they are known, are in the JSON file beside them.

    \b
    trajgen generate interpolate MODEL --from A.pdb --to B.pdb --lag-ps 5 \\
        --frames 16 --paths 8 --out PATHS.xtc
    """
    from trajgen.data.readers import read_sites
    from trajgen.surrogate.filling import interpolate
    from trajgen.surrogate.ranking import ranked

    surrogate, settings = open_surrogate(model, start, config, sets, temperature, device)
    ends = [read_sites(path, surrogate.topology) for path in (start, end)]
    lag = surrogate.lags_ps[0] if lag_ps is None else lag_ps
    asked = {"from": start, "to": end, "frames": frames, "paths": paths, "lag_ps": lag}

    def run(work: "WorkFolder") -> "Made":
        progress = choose_progress()
        made = interpolate(
            surrogate, ends[0], ends[1], frames, paths, lag, settings, seed, progress, work
        )
        best_first, scores = ranked(surrogate, made, lag, settings, seed, progress)
        return best_first, {"scores": [score.to_dict() for score in scores]}

    request = Request("interpolate", model, surrogate, settings, seed, asked, ends)
    generate_to_file(out, paths, request, run)


def upsample_command(
    model: Model,
    source: Annotated[Path, typer.Option("--input", help="Trajectory to fill in.")],
    factor: Annotated[int, typer.Option("--factor", help="Frames for each one, 2 to 100.")],
    out: Generated,
    topology: TopologyFile = None,
    interval_ps: IntervalPs = None,
    temperature: Temperature = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Fill in frames between those of a trajectory, which stay as they are.

    \b
    trajgen generate upsample MODEL --input COARSE.xtc --topology TOP.pdb \\
        --factor 10 --out FINE.xtc
    """
    from trajgen.surrogate.filling import upsample

    surrogate, settings = open_surrogate(
        model, topology or source, config, sets, temperature, device
    )
    known = read_known(source, topology, surrogate)
    interval = interval_ps_of(interval_ps, known, source)
    asked = {"input": source, "factor": factor, "interval_ps": interval}

    def run(work: "WorkFolder") -> "Made":
        progress, given = choose_progress(), known.positions_nm
        return upsample(surrogate, given, factor, interval, settings, seed, progress, work), {}

    request = Request("upsample", model, surrogate, settings, seed, asked, [known.positions_nm])
    generate_to_file(out, 1, request, run)


def inpaint_command(
    model: Model,
    known: KnownFile,
    residues: KnownResidues,
    out: Generated,
    topology: TopologyFile = None,
    interval_ps: IntervalPs = None,
    start_known: Annotated[
        bool, typer.Option("--start-known", help="The first frame is known as a whole.")
    ] = False,
    replicas: Annotated[int, typer.Option("--replicas", help="Answers to generate.")] = 1,
    temperature: Temperature = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Generate the residues of a trajectory that are not known; one file an answer.

    \b
    trajgen generate inpaint MODEL --known T.xtc --topology TOP.pdb \\
        --residues 1-3,8 --replicas 8 --out WHOLE.xtc
    """
    from trajgen.surrogate.inpaint import inpaint

    surrogate, settings = open_surrogate(
        model, topology or known, config, sets, temperature, device
    )
    frames = read_known(known, topology, surrogate)
    given, interval = frames.positions_nm, interval_ps_of(interval_ps, frames, known)
    mask = read_residues(residues, surrogate.beads.n_beads)
    asked = {
        "known": known,
        "residues": residues,
        "start_known": start_known,
        "replicas": replicas,
        "interval_ps": interval,
    }

    def run(work: "WorkFolder") -> "Made":
        progress = choose_progress()
        made = inpaint(
            surrogate, given, mask, replicas, interval, settings, seed, start_known, progress, work
        )
        return made, {}

    request = Request("inpaint", model, surrogate, settings, seed, asked, [given])
    generate_to_file(out, replicas, request, run)


def design_command(
    model: Model,
    known: KnownFile,
    residues: KnownResidues,
    out: Annotated[Path, typer.Option("--out", help="DESIGNS.json to write.")],
    topology: TopologyFile = None,
    interval_ps: IntervalPs = None,
    samples: Annotated[int, typer.Option("--samples", help="Designs to make.")] = 100,
    temperature: Temperature = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Design residues whose neighbours shall move as a trajectory says.

    The model must be trained on several molecules with tasks.design above 0.

    \b
    trajgen generate design MODEL --known T.xtc --topology TOP.pdb \\
        --residues 1-3,8 --samples 1000 --out DESIGNS.json
    """
    from collections import Counter

    from trajgen.files import read_json, require_output, write_json
    from trajgen.surrogate.design import LETTERS, design
    from trajgen.work_folder import WorkFolder

    surrogate, settings = open_surrogate(
        model, topology or known, config, sets, temperature, device
    )
    given = read_known(known, topology, surrogate)
    interval = interval_ps_of(interval_ps, given, known)
    mask = read_residues(residues, surrogate.beads.n_beads)
    asked = {"known": known, "residues": residues, "samples": samples, "interval_ps": interval}
    request = Request("design", model, surrogate, settings, seed, asked, [given.positions_nm])
    folder = WorkFolder(out, request.identity(), "generation")
    if not folder.finished:
        require_output(out)
        made = design(
            surrogate, given.positions_nm, mask, samples, interval, settings, seed,
            choose_progress(), folder,
        )  # fmt: skip
        counts = Counter(made.sequences(surrogate.beads.sequence)).most_common()
        chances = made.chances.mean(axis=0)
        values = {
            "files": [out.name],
            "sequences": [{"sequence": name, "designs": count} for name, count in counts],
            "amino_acids": LETTERS,
            "chances": {
                str(place + 1): chances[row].tolist()
                for row, place in enumerate(made.residues.nonzero()[0])
            },
            **request.provenance(),
        }
        with folder.publishing([out]):
            write_json(out, values)
    folder.remove()
    for row in read_json(out)["sequences"][:10]:
        typer.echo(f"{row['sequence']}  {row['designs']} of {samples}")


def ensemble_command(
    model: Model,
    frames: Annotated[int, typer.Option("--frames", help="Frames to generate.")],
    out: Generated,
    structure: Annotated[
        Path | None,
        typer.Option("--structure", help="Of the molecule (PDB), where the model has several."),
    ] = None,
    temperature: Temperature = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Generate independent frames of the equilibrium ensemble, without a start.

    \b
    trajgen generate ensemble MODEL --frames 1000 --out ENSEMBLE.xtc
    """
    from trajgen.surrogate.ensemble import ensemble

    surrogate, settings = open_surrogate(model, structure, config, sets, temperature, device)
    asked = {"frames": frames, "structure": structure, "sequence": surrogate.beads.sequence}

    def run(work: "WorkFolder") -> "Made":
        return ensemble(surrogate, frames, settings, seed, choose_progress(), work), {}

    request = Request("ensemble", model, surrogate, settings, seed, asked)
    generate_to_file(out, 1, request, run)
