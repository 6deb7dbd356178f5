"""The command ``trajgen``: thin entries that read settings and call one function of a room.

Heavy libraries load inside the commands, so that ``trajgen --help`` answers at once.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trajgen import __version__
from trajgen.console import choose_progress, configure_logging, exit_with_code, is_main_process
from trajgen.errors import InputError
from trajgen.processes import die_with_launcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import torch

    from trajgen.data.records import AtomFrames, BeadFrames, Rollouts
    from trajgen.surrogate.completing import RolloutSettings
    from trajgen.surrogate.surrogate import Surrogate

app = typer.Typer(
    name="trajgen",
    help="Coarse-grained trajectories: import data, fit a potential, train a surrogate, "
    "generate, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
generate_app = typer.Typer(
    help="Generate trajectories with a trained surrogate.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(generate_app, name="generate")

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.yaml", help="Settings file.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, dotted.key=value; repeatable."),
]
Seed = Annotated[int, typer.Option("--seed", help="Base of every random draw.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="Temperature, K.")]


def main() -> None:
    """Run the command; expected errors end with one sentence and an exit code."""
    die_with_launcher()
    configure_logging()
    with exit_with_code():
        app()


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"trajgen {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Coarse-grained trajectories: import, fit, simulate, train, generate, evaluate."""


@app.command("import")
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
        typer.Option("--forces", help="Forces .npy (frames, beads or atoms, 3)."),
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
        str | None, typer.Option("--sequence", help="One-letter codes of the beads.")
    ] = None,
    temperature: Temperature = None,
    time_step_ps: Annotated[
        float | None,
        typer.Option("--time-step-ps", help="Time between frames; leave out if unordered."),
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option("--resolution", help="ca stores beads, heavy the solute's atoms as well."),
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

    More settings (--set): hamiltonian, constraints (h-bonds or none), force_map.
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
            *_overrides(
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
        dataset = import_arrays(coords, out, settings, arrays)
    elif sources and coords is None:
        source_topology = topology or _own_topology(sources[0])
        dataset = import_trajectory(
            sources, source_topology, out, settings, arrays, choose_progress()
        )
    else:
        raise InputError("give either trajectories with --topology, or --coords; not both or none")
    _report(summarise_dataset(dataset), as_json)


@app.command()
def fit(
    dataset: Annotated[Path, typer.Argument(help="Dataset with forces.")],
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to make; must not exist.")],
    continue_from: Annotated[
        Path | None,
        typer.Option(
            "--continue-from",
            metavar="POTENTIAL",
            help="Begin with the weights of a potential fitted before the dataset grew.",
        ),
    ] = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Fit a CGSchNet potential to the forces and the ensemble of a dataset.

    The ensemble counts where the frames are an equilibrium sample; --set ensemble=null
    fits the forces alone. Goes on by itself where OUT.training was left by an
    interrupted run, and ends with a report of the fit.

    \b
    trajgen fit DATASET --out POTENTIAL --set training.max_minutes=25
    trajgen fit DATASET --out POTENTIAL --set committee=4
    trajgen fit DATASET --continue-from OLD --out POTENTIAL \\
        --set continuation.new_share=0.5
    """
    from trajgen.checkpoint import read_card
    from trajgen.data.store import Dataset
    from trajgen.potential.fit import FitSettings, fit_potential
    from trajgen.settings import load_settings

    settings = load_settings(FitSettings, config, sets or [])
    data, where = Dataset.open(dataset), _device(device)
    fit_potential(data, out, settings, seed, where, choose_progress(), continue_from)
    if is_main_process():
        _report_fit(read_card(out), as_json)


@app.command()
def simulate(
    potential: Annotated[Path, typer.Argument(help="Checkpoint written by trajgen fit.")],
    out: Annotated[
        Path, typer.Option("--out", help="SIM.npz, safetensors, xtc, trr, dcd, nc, h5, pdb.")
    ],
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="Draw starts of it by weight.")
    ] = None,
    starts: Annotated[
        Path | None,
        typer.Option("--starts", help=".npz, array 'positions', nm, chains x beads x 3."),
    ] = None,
    chains: Annotated[
        int | None,
        typer.Option("--chains", help="Chains; default one for each start, or 32 of a dataset."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Time steps of a chain.")] = None,
    save_every: Annotated[
        int | None, typer.Option("--save-every", help="Steps between saved frames.")
    ] = None,
    temperature: Temperature = None,
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Simulate many chains with a fitted potential, at the temperature of its data.

    Goes on by itself where OUT.simulation was left by an interrupted run. Times are
    cg_ps, the clock of coarse-grained dynamics, which is not that of real chains.

    \b
    trajgen simulate POTENTIAL --dataset DATASET --chains 64 --steps 100000 \\
        --save-every 100 --out SIM.npz
    trajgen simulate POTENTIAL --dataset DATASET --out SIM.npz \\
        --set tempering.replicas=4 --set tempering.highest_K=500

    More settings (--set): integrator (langevin or overdamped), time_step_ps,
    friction_per_ps, mass_amu, tempering.temperatures_K, tempering.exchange_every.
    """
    from trajgen.data.readers import read_starts
    from trajgen.data.starts import draw_starts, repeat_starts
    from trajgen.data.store import Dataset
    from trajgen.potential.dynamics.settings import SimulationSettings
    from trajgen.potential.dynamics.streaming import simulate_to_file
    from trajgen.potential.potential import Potential
    from trajgen.settings import load_settings

    flags = _overrides(steps=steps, save_every=save_every, temperature_K=temperature)
    settings = load_settings(SimulationSettings, config, [*(sets or []), *flags])
    model = Potential.load(potential, _device(device))
    if starts is not None and dataset is None:
        positions = repeat_starts(read_starts(starts, model.topology), chains)
    elif dataset is not None and starts is None:
        frames = Dataset.open(dataset)
        model.topology.require_same(
            frames.header.beads, f"potential {potential}", f"dataset {dataset}"
        )
        positions = draw_starts(frames.read_all_beads(), 32 if chains is None else chains, seed)
    else:
        raise InputError("give the starts as --dataset DATASET or as --starts X.npz, one of them")
    provenance = _provenance("simulate", potential, seed, settings.model_dump(mode="json"))
    report = simulate_to_file(model, positions, settings, seed, out, choose_progress(), provenance)
    _say_whole(report["chains"], report["chains_lost"], report["frames_lost"])


@app.command()
def train(
    datasets: Annotated[
        list[Path],
        typer.Argument(metavar="DATASET...", help="Datasets with consecutive frames."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to make; must not exist.")],
    config: Config = None,
    sets: Sets = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train a trajectory surrogate on datasets, one for each molecule.

    Of C-alpha beads, or of all heavy atoms of data that have them (model.resolution=heavy).
    Goes on by itself where OUT.training was left by an interrupted run.

    \b
    trajgen train DATASET --out MODEL --set training.max_minutes=25
    trajgen train A B C --out MODEL --set model.resolution=heavy
    accelerate launch -m trajgen.cli train DATASET --out MODEL
    """
    from trajgen.data.store import Dataset
    from trajgen.settings import load_settings
    from trajgen.surrogate.train import TrainSettings, train_surrogate

    settings = load_settings(TrainSettings, config, sets or [])
    data = [Dataset.open(dataset) for dataset in datasets]
    train_surrogate(data, out, settings, seed, _device(device), choose_progress())


LagPs = Annotated[
    float | None,
    typer.Option("--lag-ps", help="Time between frames, ps; default the shortest trained."),
]
Generated = Annotated[
    Path, typer.Option("--out", help="GEN.xtc, or npz, safetensors, trr, dcd, nc, h5, pdb.")
]
Model = Annotated[Path, typer.Argument(help="Checkpoint written by trajgen train.")]


@generate_app.command("forward")
def generate_forward(
    model: Model,
    start: Annotated[Path, typer.Option("--start", help="Structure (PDB), or starts .npz.")],
    frames: Annotated[int, typer.Option("--frames", help="Frames of a replica.")],
    out: Generated,
    lag_ps: LagPs = None,
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

    \b
    trajgen generate forward MODEL --start START.pdb --lag-ps 5 \\
        --frames 1000 --replicas 16 --out GEN.xtc
    """
    from trajgen.data.starts import repeat_starts
    from trajgen.data.writers import prepare_output
    from trajgen.surrogate.forward import forward

    surrogate, settings = _load_surrogate(model, start, config, sets, temperature, device)
    starts = repeat_starts(_read_start(start, surrogate), replicas)
    prepare_output(out, len(starts))
    lag = lag_ps or surrogate.lags_ps[0]
    rollouts = forward(surrogate, starts, frames, lag, settings, seed, choose_progress())
    _write_generated(out, rollouts, "forward", model, seed, settings, start=start)


@generate_app.command("interpolate")
def generate_interpolate(
    model: Model,
    start: Annotated[Path, typer.Option("--from", help="Structure (PDB) of the first frame.")],
    end: Annotated[Path, typer.Option("--to", help="Structure (PDB) of the last frame.")],
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
    scores are in the JSON file beside them.

    \b
    trajgen generate interpolate MODEL --from A.pdb --to B.pdb --lag-ps 5 \\
        --frames 16 --paths 8 --out PATHS.xtc
    """
    from trajgen.data.readers import read_sites
    from trajgen.data.writers import prepare_output
    from trajgen.surrogate.filling import interpolate
    from trajgen.surrogate.ranking import ranked

    surrogate, settings = _load_surrogate(model, start, config, sets, temperature, device)
    ends = [read_sites(path, surrogate.topology) for path in (start, end)]
    prepare_output(out, paths)
    lag = lag_ps or surrogate.lags_ps[0]
    rollouts = interpolate(
        surrogate, ends[0], ends[1], frames, paths, lag, settings, seed, choose_progress()
    )
    rollouts, scores = ranked(surrogate, rollouts, lag, settings, seed)
    values = {"from": start, "to": end, "scores": [score.to_dict() for score in scores]}
    _write_generated(out, rollouts, "interpolate", model, seed, settings, **values)


@generate_app.command("upsample")
def generate_upsample(
    model: Model,
    source: Annotated[Path, typer.Option("--input", help="Trajectory to fill in.")],
    factor: Annotated[int, typer.Option("--factor", help="Frames for each one, 2 to 100.")],
    out: Generated,
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Structure file of the trajectory.")
    ] = None,
    interval_ps: Annotated[
        float | None,
        typer.Option("--interval-ps", help="Time between its frames; default as it says."),
    ] = None,
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
    from trajgen.data.writers import prepare_output
    from trajgen.surrogate.filling import upsample

    surrogate, settings = _load_surrogate(
        model, topology or source, config, sets, temperature, device
    )
    known = _read_known(source, topology, surrogate)
    interval = _interval_ps(interval_ps, known, source)
    prepare_output(out, 1)
    rollouts = upsample(
        surrogate, known.positions_nm, factor, interval, settings, seed, choose_progress()
    )
    _write_generated(out, rollouts, "upsample", model, seed, settings, input=source, factor=factor)


@generate_app.command("inpaint")
def generate_inpaint(
    model: Model,
    known: Annotated[Path, typer.Option("--known", help="Trajectory of the known residues.")],
    residues: Annotated[
        str, typer.Option("--residues", help="Residues that are known, counted from 1: 1,4,6-9.")
    ],
    out: Generated,
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Structure file of the trajectory.")
    ] = None,
    interval_ps: Annotated[
        float | None,
        typer.Option("--interval-ps", help="Time between its frames; default as it says."),
    ] = None,
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
        --residues 1,4 --replicas 8 --out WHOLE.xtc
    """
    from trajgen.data.writers import prepare_output
    from trajgen.surrogate.inpaint import inpaint

    surrogate, settings = _load_surrogate(
        model, topology or known, config, sets, temperature, device
    )
    given = _read_known(known, topology, surrogate)
    interval = _interval_ps(interval_ps, given, known)
    prepare_output(out, replicas)
    rollouts = inpaint(
        surrogate,
        given.positions_nm,
        _read_residues(residues, surrogate.beads.n_beads),
        replicas,
        interval,
        settings,
        seed,
        start_known,
        choose_progress(),
    )
    values = {"known": known, "residues": residues, "start_known": start_known}
    _write_generated(out, rollouts, "inpaint", model, seed, settings, **values)


@generate_app.command("design")
def generate_design(
    model: Model,
    known: Annotated[Path, typer.Option("--known", help="Trajectory of the known residues.")],
    residues: Annotated[
        str, typer.Option("--residues", help="Residues that are known, counted from 1: 1,4,6-9.")
    ],
    out: Annotated[Path, typer.Option("--out", help="DESIGNS.json to write.")],
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Structure file of the trajectory.")
    ] = None,
    interval_ps: Annotated[
        float | None,
        typer.Option("--interval-ps", help="Time between its frames; default as it says."),
    ] = None,
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
        --residues 1,4 --samples 1000 --out DESIGNS.json
    """
    from collections import Counter

    from trajgen.files import require_output, write_json
    from trajgen.surrogate.design import LETTERS, design

    surrogate, settings = _load_surrogate(
        model, topology or known, config, sets, temperature, device
    )
    given = _read_known(known, topology, surrogate)
    interval = _interval_ps(interval_ps, given, known)
    require_output(out)
    mask = _read_residues(residues, surrogate.beads.n_beads)
    made = design(
        surrogate, given.positions_nm, mask, samples, interval, settings, seed, choose_progress()
    )
    counts = Counter(made.sequences(surrogate.beads.sequence)).most_common()
    values = {"known": str(known), "residues": residues, **settings.model_dump(mode="json")}
    chances = made.chances.mean(axis=0)
    write_json(
        out,
        {
            "sequences": [{"sequence": name, "designs": count} for name, count in counts],
            "amino_acids": LETTERS,
            "chances": {
                str(place + 1): chances[row].tolist()
                for row, place in enumerate(made.residues.nonzero()[0])
            },
            **_provenance("generate design", model, seed, values),
        },
    )
    for name, count in counts[:10]:
        typer.echo(f"{name}  {count} of {samples}")


@generate_app.command("ensemble")
def generate_ensemble(
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
    from trajgen.data.writers import prepare_output
    from trajgen.surrogate.ensemble import ensemble

    surrogate, settings = _load_surrogate(model, structure, config, sets, temperature, device)
    prepare_output(out, 1)
    rollouts = ensemble(surrogate, frames, settings, seed, choose_progress())
    _write_generated(out, rollouts, "ensemble", model, seed, settings)


@app.command()
def evaluate(
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
    from trajgen.analysis.evaluation_report import evaluate_to_folder
    from trajgen.data.mapping import bead_topology
    from trajgen.data.readers import read_bead_structure
    from trajgen.data.sources import open_samples
    from trajgen.files import read_json, require_output
    from trajgen.settings import load_settings

    settings = load_settings(EvaluationSettings, config, sets or [])
    require_output(out)
    judged_by = open_samples(reference, reference_topology or topology, resolution)
    beads = bead_topology(judged_by.topology)
    groups = [[path] for path in trajectories] if each else [trajectories]
    samples = {
        ", ".join(map(str, group)): open_samples(group, topology or beads, resolution)
        for group in groups
    }
    evaluate_to_folder(
        samples,
        judged_by,
        out,
        settings,
        seed,
        {"trajgen_version": __version__, "reference": ", ".join(map(str, reference))},
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


@app.command()
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
        _report_fit(values, as_json)
    else:
        _report(values, as_json)
    if values.get("damaged_files") or values.get("intact") is False:
        raise InputError(f"{path} is damaged: a file is not the one that was written; see above")


def _overrides(**flags: Any) -> list[str]:
    """Return the flags that were given in the form of --set, which they overrule."""
    return [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]


def _device(name: str) -> "torch.device":
    from trajgen.device import choose_device, fix_threads

    fix_threads()
    return choose_device(name)


def _own_topology(source: Path) -> Path:
    if source.suffix.lower() in (".pdb", ".h5"):
        return source
    raise InputError(f"{source} has no topology of its own; add --topology STRUCTURE.pdb")


def _read_start(path: Path, surrogate: "Surrogate") -> "np.ndarray":
    from trajgen.data.readers import read_sites, read_starts
    from trajgen.data.topology import BeadTopology

    topology = surrogate.topology
    if path.suffix.lower() == ".npz" and isinstance(topology, BeadTopology):
        return read_starts(path, topology)
    return read_sites(path, topology)[None]


def _load_surrogate(
    model: Path,
    structure: Path | None,
    config: Path | None,
    sets: list[str] | None,
    temperature: float | None,
    device: str,
) -> "tuple[Surrogate, RolloutSettings]":
    from trajgen.data.trajectories import STRUCTURE_SUFFIXES
    from trajgen.settings import load_settings
    from trajgen.surrogate.checkpoints import load_surrogate
    from trajgen.surrogate.completing import RolloutSettings

    flags = [*(sets or []), *_overrides(temperature_K=temperature)]
    settings = load_settings(RolloutSettings, config, flags)
    if structure is not None and structure.suffix.lower() not in STRUCTURE_SUFFIXES:
        structure = None
    return load_surrogate(model, _device(device), structure), settings


def _read_known(
    path: Path, topology: Path | None, surrogate: "Surrogate"
) -> "BeadFrames | AtomFrames":
    """Read a trajectory of what the surrogate moves, in its order of atoms."""
    from dataclasses import replace

    from trajgen.data.readers import places_of
    from trajgen.data.records import join_chunks
    from trajgen.data.sources import open_samples, read_trajectory
    from trajgen.data.topology import BeadTopology

    wanted = surrogate.topology
    if isinstance(wanted, BeadTopology):
        beads = read_trajectory(path, topology or wanted)
        wanted.require_same(beads.topology, "the surrogate", str(path))
        return beads
    chunks: list[Any] = list(open_samples([path], topology, "heavy").chunks())
    atoms = join_chunks(chunks)
    places = places_of(wanted, atoms.topology, path)
    return replace(atoms, topology=wanted, positions_nm=atoms.positions_nm[:, places], forces=None)


def _interval_ps(asked_ps: float | None, frames: "BeadFrames | AtomFrames", path: Path) -> float:
    """Return the time between frames: what was asked, else what they say."""
    interval_ps = asked_ps or frames.time_step_ps
    if interval_ps is None:
        raise InputError(f"{path} does not say how far its frames are apart; add --interval-ps")
    return interval_ps


def _read_residues(text: str, count: int) -> "np.ndarray":
    """Return a mask of residues from numbers and ranges such as 1,4,6-9."""
    import numpy as np

    known = np.zeros(count, dtype=bool)
    for part in text.split(","):
        ends = part.strip().split("-")
        if not 1 <= len(ends) <= 2 or not all(end.strip().isdigit() for end in ends):
            raise InputError(f"--residues has '{part}'; wanted are numbers and ranges: 1,4,6-9")
        first, last = int(ends[0]), int(ends[-1])
        if not 1 <= first <= last <= count:
            raise InputError(f"--residues has '{part}', but residues are counted from 1 to {count}")
        known[first - 1 : last] = True
    return known


def _write_generated(
    out: Path,
    rollouts: "Rollouts",
    task: str,
    model: Path,
    seed: int,
    settings: "RolloutSettings",
    **values: object,
) -> None:
    from trajgen.data.writers import write_rollouts

    said: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in values.items()
    }
    said |= {"lag_ps": rollouts.time_step_ps, **settings.model_dump(mode="json")}
    write_rollouts(out, rollouts, _provenance(f"generate {task}", model, seed, said))
    _say_lost(rollouts)


def _provenance(
    command: str, checkpoint: Path, seed: int, settings: dict[str, Any]
) -> dict[str, Any]:
    from trajgen.checkpoint import read_card

    return {
        "command": f"trajgen {command}",
        "trajgen_version": __version__,
        "checkpoint": str(checkpoint),
        "model_sha256": read_card(checkpoint).get("model_sha256"),
        "seed": seed,
        "settings": settings,
    }


def _say_lost(rollouts: "Rollouts") -> None:
    frozen = int((~rollouts.alive[:, -1]).sum())
    _say_whole(len(rollouts.alive), frozen, rollouts.n_lost)


def _say_whole(chains: int, lost: int, frames_lost: int) -> None:
    typer.echo(f"{chains - lost} of {chains} chains are whole; {frames_lost} frames lost")


def _report(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    for key, value in values.items():
        if isinstance(value, list):
            value = ", ".join(map(str, value)) if len(value) <= 8 else f"{len(value)} entries"
        typer.echo(f"{key.replace('_', ' '):20} {value}")


def _report_fit(card: dict[str, Any], as_json: bool) -> None:
    from trajgen.potential.fit_report import REPORT_KEYS, report_lines

    if as_json or any(key not in card for key in REPORT_KEYS):  # fitted before there were reports
        _report(card, as_json)
        return
    _report({key: value for key, value in card.items() if key not in REPORT_KEYS}, as_json)
    for line in report_lines(card):
        typer.echo(line)


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


def _reasons(evaluation: dict[str, Any]) -> "Iterator[str]":
    for distance, entry in evaluation["distances"].items():
        if entry["pooled"]["value"] is None:
            yield f"{distance} ({entry['pooled']['reason']})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    main()
