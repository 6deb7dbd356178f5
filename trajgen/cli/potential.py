"""Commands of the potential: fit and simulate."""

from pathlib import Path
from typing import Annotated

import typer

from trajgen.cli.options import Config, Device, Json, Seed, Sets, Temperature, device_of, overrides
from trajgen.cli.output import provenance, report_fit, say_whole
from trajgen.console import choose_progress, is_main_process
from trajgen.errors import InputError


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
    data, where = Dataset.open(dataset), device_of(device)
    fit_potential(data, out, settings, seed, where, choose_progress(), continue_from)
    if is_main_process():
        report_fit(read_card(out), as_json)


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
        typer.Option("--starts", help="Structure (PDB), or .npz with 'positions', nm."),
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
    trajgen simulate POTENTIAL --starts NATIVE.pdb --chains 64 --out SIM.npz
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

    flags = overrides(steps=steps, save_every=save_every, temperature_K=temperature)
    settings = load_settings(SimulationSettings, config, [*(sets or []), *flags])
    model = Potential.load(potential, device_of(device))
    if starts is not None and dataset is None:
        positions = repeat_starts(read_starts(starts, model.topology), chains)
    elif dataset is not None and starts is None:
        frames = Dataset.open(dataset)
        model.topology.require_same(
            frames.header.beads, f"potential {potential}", f"dataset {dataset}"
        )
        positions = draw_starts(frames.read_all_beads(), 32 if chains is None else chains, seed)
    else:
        raise InputError("give the starts as --dataset DATASET or as --starts X.pdb, one of them")
    said = provenance("simulate", potential, seed, settings.model_dump(mode="json"))
    done = simulate_to_file(model, positions, settings, seed, out, choose_progress(), said)
    say_whole(done["chains"], done["chains_lost"], done["frames_lost"])
