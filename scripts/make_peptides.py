"""All-atom dynamics of tetrapeptides: data to train a surrogate on and to judge it by.

python scripts/make_peptides.py --names EHFR YVTL --ps 20000 --out runs/peptides
python scripts/make_peptides.py --split 4AA_implicit_test.csv --count 3 --out runs/peptides

Peptides are built from their sequence with free, charged termini at pH 7, in Amber ff14SB with the
implicit solvent GBn2: Langevin dynamics at 350 K with a friction of 0.3 per ps and rigid bonds to
hydrogens of 3 amu, which carry a step of 4 fs. The runs of each start from the extended chain with
velocities of their own; after 100 ps that are not kept, a frame is saved every 0.1 ps. The datasets
are PEPTIDE/run-0, PEPTIDE/run-1 and so on. Killed, the same command goes on where it was; runs that
are there and have another length, save interval or seed than is asked are refused.
"""

import argparse
import csv
import math
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from al.executor import ExecutorSettings, ProcessExecutor, Task, TaskResult
from al.molecule.build import build_system
from al.molecule.dynamics import Device
from al.molecule.gpus import usable_gpus
from al.molecule.molecule import Molecule
from al.molecule.settings import SystemSettings
from al.parts.sampler import SamplingSettings, append_samples, require_same_order, sampling_tasks
from trajgen.console import choose_progress, configure_logging, exit_with_code
from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.files import write_json

EQUILIBRATION_PS = 100.0


def read_names(split: Path, first: int, count: int) -> list[str]:
    """Return names of a split, a CSV file with a column ``name``."""
    with split.open(encoding="utf-8", newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    if len(names) < first + count:
        raise InputError(f"{split} has {len(names)} names; {first + count} were asked for")
    return names[first : first + count]


def build(name: str, folder: Path) -> Path:
    """Build the system of a peptide, once."""
    system = folder / "system"
    if not system.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        settings = SystemSettings(
            name=name, sequence=name, temperature_K=350.0, friction_per_ps=0.3, solvent="gbn2"
        )
        build_system(settings, system, Path("/"))
    return system


def missing_tasks(folder: Path, settings: SamplingSettings, seed: int, scratch: Path) -> list[Task]:
    """Return the tasks of the runs of a peptide that are not there yet, in their order.

    Raises:
        InputError: a run is there and is not what was asked for.
    """
    system = build(folder.name, folder)
    tasks = sampling_tasks(
        system, folder.name, settings.replicas, settings.ps, settings, seed, scratch
    )
    return [task for task in tasks if not is_whole(run_of(folder, task.name), task)]


def run_of(folder: Path, task_name: str) -> Path:
    """Return the dataset of a run, whose task ends with its number."""
    return folder / f"run-{int(task_name.rpartition('-')[2])}"


def is_whole(run: Path, task: Task) -> bool:
    """Say whether a run is there; a process may be killed before its frames are in the dataset.

    Raises:
        InputError: what is there has another length, save interval or seed than the task.
    """
    entries = Dataset.open(run).entries if run.is_dir() else ()
    if not entries:
        return False
    found, wanted = entries[0].label, task.arguments
    found_ps, found_interval_ps = found.oracle_ps - EQUILIBRATION_PS, found.save_interval_ps or 0.0
    others = []
    if not math.isclose(found_ps, wanted["ps"], rel_tol=1e-6):
        others.append(f"--ps {found_ps:g} instead of {wanted['ps']:g}")
    if not math.isclose(found_interval_ps, wanted["save_interval_ps"], rel_tol=1e-6):
        others.append(
            f"--save-interval-ps {found_interval_ps:g} instead of {wanted['save_interval_ps']:g}"
        )
    if found.seed != wanted["seed"]:
        others.append("another --seed")
    if others:
        raise InputError(
            f"{run} is of {', of '.join(others)}; ask for what is there, or name another --out"
        )
    return True


def keep(folder: Path, result: TaskResult, settings: SamplingSettings) -> dict[str, Any]:
    """Write a run of a peptide as a dataset, once, and return what it was."""
    run, system = run_of(folder, result.name), folder / "system"
    append_samples(run, system, [result], settings)
    molecule = Molecule.load(system)
    timed_ps, seconds = result.value["timed_ps"], result.value["seconds"]
    return {
        "peptide": folder.name,
        "run": int(run.name.removeprefix("run-")),
        "atoms": molecule.topology.n_atoms,
        "frames": result.value["frames"],
        "ps": result.value["oracle_ps"],
        "ns_per_day": 86.4 * timed_ps / seconds,
        "hamiltonian": molecule.settings.hamiltonian,
    }


def sample(
    out: Path, names: list[str], settings: SamplingSettings, executor: ProcessExecutor, seed: int
) -> list[dict[str, Any]]:
    """Run what is missing of the peptides, and return what each new run was."""
    scratch = out / "sampling"
    scratch.mkdir(parents=True, exist_ok=True)
    # How many runs there are does not change any of them.
    require_same_order(scratch, {"seed": seed, **settings.model_dump(exclude={"replicas"})})
    tasks = {name: missing_tasks(out / name, settings, seed, scratch) for name in names}
    together = [task for group in tasks.values() for task in group]
    results = executor.run(together, scratch, "all-atom dynamics", choose_progress(), limited=False)
    by_name = {result.name: result for result in results}
    rows = [
        keep(out / name, by_name[task.name], settings)
        for name, group in tasks.items()
        for task in group
    ]
    shutil.rmtree(scratch)  # all of it is in the datasets by now
    return rows


def choose_platform(asked: str) -> Device:
    """Return the device of the dynamics: GPUs where OpenMM sees any, unless one was asked for."""
    if asked != "auto":
        return "cuda" if asked == "cuda" else "cpu"
    try:
        usable_gpus("cuda")
    except InputError:
        return "cpu"
    return "cuda"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--names", nargs="+", metavar="SEQUENCE", help="one-letter codes")
    chosen.add_argument("--split", type=Path, help="CSV file with a column 'name'")
    parser.add_argument("--first", type=int, default=0, help="names of the split left out before")
    parser.add_argument("--count", type=int, default=1, help="names of the split")
    parser.add_argument("--runs", type=int, default=2, help="independent runs of each peptide")
    parser.add_argument("--ps", type=float, default=20_000.0, help="length of each run")
    parser.add_argument("--save-interval-ps", type=float, default=0.1)
    parser.add_argument("--out", type=Path, required=True, help="folder of all peptides")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a core, or a GPU")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: GPUs, where any are",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the table to")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    names = arguments.names or read_names(arguments.split, arguments.first, arguments.count)
    settings = SamplingSettings(
        replicas=arguments.runs,
        ps=arguments.ps,
        equilibration_ps=EQUILIBRATION_PS,
        save_interval_ps=arguments.save_interval_ps,
    )
    device = choose_platform(arguments.device)
    running = ExecutorSettings(workers=arguments.workers, device=device)
    executor = ProcessExecutor(running, usable_gpus(device))
    rows = sample(arguments.out, names, settings, executor, arguments.seed)
    if not rows:
        Console().print(f"all of {', '.join(names)} are there")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(
            *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values())
        )
    Console(width=140).print(table)
    if arguments.json is not None:
        write_json(arguments.json, rows)


if __name__ == "__main__":
    configure_logging()
    with exit_with_code():
        main()
