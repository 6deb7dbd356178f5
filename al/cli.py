"""The command ``al``: all-atom systems, all-atom dynamics, and the loop."""

import json
import logging
import time
from pathlib import Path
from typing import Annotated

import typer

from trajgen.console import (
    choose_progress,
    configure_logging,
    duration,
    exit_with_code,
    require_seed,
)

logger = logging.getLogger(__name__)

app = typer.Typer(
    help="All-atom systems, all-atom dynamics, and the active-learning loop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. seed=1; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command()
def build(
    system: Annotated[Path, typer.Argument(help="Settings of the system, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")],
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a ready OpenMM system from a sequence or a PDB file.

    Example: al build configs/systems/chignolin.yaml --out chignolin
    """
    from al.molecule.build import build_system
    from al.molecule.molecule import Molecule
    from al.molecule.settings import SystemSettings
    from trajgen.settings import load_settings

    settings = load_settings(SystemSettings, system, set_ or [])
    build_system(settings, out, system.parent)
    molecule = Molecule.load(out)
    facts = {
        "system": str(out),
        "atoms": molecule.topology.n_atoms,
        "residues": len(molecule.topology.residues),
        "chains": len(set(molecule.topology.chains)),
        "starts": list(molecule.starts),
        "hamiltonian": molecule.settings.hamiltonian,
    }
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        typer.echo(
            f"{out}: {facts['atoms']} atoms in {facts['residues']} residues of {facts['chains']} "
            f"chain{'s' if facts['chains'] != 1 else ''}, starts: {', '.join(molecule.starts)}; "
            f"{facts['hamiltonian']}"
        )


@app.command()
def sample(
    system: Annotated[Path, typer.Argument(help="A system folder written by al build.")],
    ps: Annotated[float, typer.Option(help="Length of each replica that is saved, ps.")],
    out: Annotated[Path, typer.Option(help="Dataset to write.")],
    replicas: Annotated[int, typer.Option(help="Independent runs, each in its own process.")] = 2,
    save_interval_ps: Annotated[float, typer.Option(help="Time between saved frames, ps.")] = 1.0,
    equilibration_ps: Annotated[float, typer.Option(help="Time before the saved part.")] = 20.0,
    force_map: Annotated[str, typer.Option(help="Force map: aggregate or slice.")] = "aggregate",
    workers: Annotated[int, typer.Option(help="Processes at a time; 0: one a core, or a GPU.")] = 0,
    seed: Annotated[
        int, typer.Option(callback=require_seed, help="Base of every random draw.")
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Run plain all-atom dynamics and write frames with forces; the same command resumes.

    Example: al sample chignolin --ps 1000 --replicas 4 --out data
    """
    from al.executor import ExecutorSettings, ProcessExecutor
    from al.molecule.gpus import usable_gpus
    from al.parts.sampler import SamplingSettings, sample_dataset
    from trajgen.settings import parse_settings

    values = {
        "replicas": replicas,
        "ps": ps,
        "save_interval_ps": save_interval_ps,
        "equilibration_ps": equilibration_ps,
        "force_map": force_map,
    }
    settings = parse_settings(SamplingSettings, values, "al sample")
    running = {"workers": workers, "device": device}
    chosen = parse_settings(ExecutorSettings, running, "al sample")
    executor = ProcessExecutor(chosen, usable_gpus(chosen.device))
    summary = sample_dataset(system, out, settings, executor, seed, choose_progress())
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        typer.echo(f"{out}: {summary['frames']} frames from {summary['replicas']} replicas")


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="Settings of the run, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Run folder; an unfinished run there goes on.")],
    set_: SetOption = None,
    seed: Annotated[int | None, typer.Option(help="Base of every random draw.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto, for both models.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the active-learning loop; killed at any moment, the same command goes on.

    Example: al run configs/quickstart.yaml --out runs/quickstart
    """
    from al.assembly import run_loop
    from al.run_settings import load_run_settings

    overrides = list(set_ or [])
    if seed is not None:
        overrides.append(f"seed={seed}")
    if device is not None:
        overrides += [f"learner.device={device}", f"exploration.device={device}"]
    begin = time.monotonic()
    verdict = run_loop(load_run_settings(config, overrides), out, choose_progress())
    logger.info("the run took %s", duration(time.monotonic() - begin))
    report = out / "report.html"
    if as_json:
        typer.echo(json.dumps({"report": str(report), "verdict": verdict}))
        return
    for line in verdict:
        typer.echo(line)
    typer.echo(f"Report: {report.resolve()}")


@app.command()
def status(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    watch: Annotated[bool, typer.Option("--watch", help="Show it live until it ends.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell where a run stands, from its folder alone.

    Example: al status runs/quickstart --watch
    """
    from rich.console import Console

    from al.status import read_status
    from al.watch import status_lines, watch_run
    from trajgen.errors import InputError

    if watch:
        if as_json:
            raise InputError("--watch and --json were both given; --json tells the state once")
        watch_run(run, Console())
        return
    now = read_status(run)
    if as_json:
        typer.echo(json.dumps(now.to_json()))
    else:
        typer.echo("\n".join(status_lines(now)))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder with at least round 0 evaluated.")],
    as_json: JsonOption = False,
) -> None:
    """Write report.html of a run again, also of one that is still on.

    Example: al report runs/quickstart
    """
    from al.assembly import write_report_of

    path = write_report_of(run).resolve()
    typer.echo(json.dumps({"report": str(path)}) if as_json else f"Report: {path}")


def main() -> None:
    """Run the command and turn errors into a sentence and an exit code."""
    configure_logging()
    with exit_with_code():
        app()


if __name__ == "__main__":
    main()
