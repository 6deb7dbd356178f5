"""How near the potential comes to two molecules that its defaults were not settled on.

python scripts/accuracy_molecules.py --data ../shared/data --out runs/molecules \
    --json molecules.json

The defaults of the fit were settled on chignolin. ``ala2`` is alanine dipeptide: 10,000 frames of
five backbone atoms with forces of a public data set. ``trpcage`` is Trp-cage: all-atom dynamics
that is made here from the deposited structure, replicas of ``--ps`` each. Chains are simulated from
frames of the data, those of Trp-cage also from the deposited structure alone, and the second half
of each simulation is compared with all of the data.

Distances are exact Wasserstein-1, means over terms; that of the RMSD has two terms, the structure
and its mirror image. The floor is the same between random halves of the data: of ten stretches of
time for alanine dipeptide, whose neighbouring frames are correlated, and of the replicas for
Trp-cage. Killed, the same command goes on at the molecule, seed and stage where it was.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ensemble_rows import cells, fit_cost, floors, heads, largest_floors, measured, second_half
from potential_stages import fitted, simulated
from rich.console import Console
from rich.table import Column, Table
from run_folder import require_same_arguments

from al.executor import ExecutorSettings, ProcessExecutor
from al.molecule.build import build_system
from al.molecule.settings import SystemSettings
from al.parts.sampler import SamplingSettings, sample_dataset
from trajgen.analysis.evaluate import (
    EvaluationSettings,
    Reference,
    judge,
    read_reference,
    read_samples,
)
from trajgen.console import choose_progress, configure_logging, exit_with_code
from trajgen.data.importing import FrameArrays, ImportSettings, import_arrays
from trajgen.data.readers import load_array, read_bead_structure
from trajgen.data.records import BeadFrames
from trajgen.data.starts import draw_starts, repeat_starts
from trajgen.data.store import Dataset
from trajgen.device import fix_threads
from trajgen.errors import InputError
from trajgen.files import write_json
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.fit import FitSettings
from trajgen.seeding import derive_seed
from trajgen.settings import load_settings, parse_settings


@dataclass(frozen=True)
class Molecule:
    """What is fixed of a molecule.

    Attributes:
        fit: settings of the fit that are not the defaults.
        steps: steps of each simulation where ``--steps`` does not say.
        time_step_ps: their length.
        arrays: files of coordinates and of forces to import; empty where dynamics is made here.
        structure: the deposited structure that dynamics starts from, None where there are arrays.
    """

    fit: tuple[str, ...]
    steps: int
    time_step_ps: float
    arrays: tuple[str, ...] = ()
    structure: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files that ``--data`` must hold."""
        return self.arrays if self.structure is None else (self.structure,)

    @property
    def starts(self) -> tuple[str, ...]:
        """What simulations start from, one for each."""
        return ("data",) if self.structure is None else ("data", "structure")

    @property
    def columns(self) -> tuple[str, ...]:
        """The distances that are measured."""
        return DISTANCES if self.structure is None else (*DISTANCES, "rmsd")


DISTANCES = (
    "tica_2d", "tica_0", "end_to_end", "radius_of_gyration", "bond", "angle", "dihedral",
)  # fmt: skip
MOLECULES = {
    "ala2": Molecule(
        fit=("training.steps=2000", "ensemble.readout.steps=60000"),
        steps=50_000,
        time_step_ps=0.003,
        arrays=("ala2_cgnet/ala2_coordinates.npy", "ala2_cgnet/ala2_forces.npy"),
    ),
    "trpcage": Molecule(
        fit=(
            "training.max_minutes=22",
            "ensemble.chains=64",
            "ensemble.readout.steps=100000",
        ),
        steps=60_000,
        time_step_ps=0.007,
        structure="fastfolder_pdb/trpcage_2jof.pdb",
    ),
}
SAVE_EVERY = 100
#: Neighbouring frames of alanine dipeptide are correlated, ten stretches of 10 ns hardly.
STRETCHES = 10
FRAME_INTERVAL_PS = 10.0
#: A letter for each of the five backbone atoms; it only tells them apart.
BACKBONE = "ACDEF"
#: One run of all-atom dynamics serves the fits of all seeds.
REPLICAS, SAVE_INTERVAL_PS, DYNAMICS_SEED = 4, 0.2, 0
WITHIN = ("at most the mean floor", "at most the largest floor", "above both", "not measured")


def require_input(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work before any of it is done.

    Raises:
        InputError: a file of the data is missing, or a setting is wrong.
    """
    executor_settings(arguments)
    sampling_settings(arguments)
    if arguments.chains < 1:
        raise InputError(f"--chains is {arguments.chains}; wanted is at least 1")
    for name in arguments.molecules:
        fit_settings(MOLECULES[name], arguments)
        if simulation_settings(MOLECULES[name], arguments).n_frames < 1:
            raise InputError(
                f"--steps is {arguments.steps}, but a frame is saved every {SAVE_EVERY} steps; "
                "wanted are at least so many"
            )
        for file in MOLECULES[name].files:
            if not (arguments.data / file).is_file():
                raise InputError(
                    f"--data {arguments.data} has no {file}, which {name} is made of; name the "
                    "folder that holds it, or leave the molecule out with --molecules"
                )


def executor_settings(arguments: argparse.Namespace) -> ExecutorSettings:
    return parse_settings(ExecutorSettings, {"workers": arguments.workers}, "executor")


def sampling_settings(arguments: argparse.Namespace) -> SamplingSettings:
    values = {"replicas": REPLICAS, "ps": arguments.ps, "save_interval_ps": SAVE_INTERVAL_PS}
    return parse_settings(SamplingSettings, values, "sampling")


def fit_settings(molecule: Molecule, arguments: argparse.Namespace) -> FitSettings:
    return load_settings(FitSettings, None, [*molecule.fit, *arguments.set])


def simulation_settings(molecule: Molecule, arguments: argparse.Namespace) -> SimulationSettings:
    values = {
        "steps": molecule.steps if arguments.steps is None else arguments.steps,
        "save_every": SAVE_EVERY,
        "time_step_ps": molecule.time_step_ps,
    }
    return parse_settings(SimulationSettings, values, "simulation")


def import_molecule(molecule: Molecule, folder: Path, arguments: argparse.Namespace) -> Dataset:
    """Import the arrays of a molecule, in stretches of time, once."""
    out = folder / "data"
    if out.exists():
        return Dataset.open(out)
    coords, forces = (arguments.data / file for file in molecule.arrays)
    n_frames = len(load_array(coords))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "stretches.npy", np.arange(n_frames) * STRETCHES // n_frames)
    settings = ImportSettings(
        temperature_K=300,
        hamiltonian="ff99SB-ILDN/explicit",
        time_step_ps=FRAME_INTERVAL_PS,
        sequence=BACKBONE,
        length_unit="angstrom",
        energy_unit="kcal/mol",
    )
    arrays = FrameArrays(forces=forces, segments=folder / "stretches.npy")
    return import_arrays(coords, out, settings, arrays)


def sample_molecule(molecule: Molecule, folder: Path, arguments: argparse.Namespace) -> Dataset:
    """Build the system of a molecule and run its all-atom dynamics, once."""
    system, out = folder / "system", folder / "data"
    if not system.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        settings = SystemSettings(name=folder.name, pdb=molecule.structure, temperature_K=350.0)
        build_system(settings, system, arguments.data)
    if not out.exists():
        executor = ProcessExecutor(executor_settings(arguments))
        sampling = sampling_settings(arguments)
        sample_dataset(system, out, sampling, executor, DYNAMICS_SEED, choose_progress())
    return Dataset.open(out)


def starts_of(
    start: str, frames: BeadFrames, structure_nm: np.ndarray | None, chains: int, seed: int
) -> np.ndarray:
    """Return a start for each chain: frames of the data, or the structure again and again."""
    if start == "structure":
        return repeat_starts(structure_nm[None], chains)
    return draw_starts(frames, chains, seed)


def measure_seed(
    molecule: Molecule, seed: int, dataset: Dataset, frames: BeadFrames, reference: Reference,
    folder: Path, arguments: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Fit with one seed, simulate, and return the numbers of each simulation."""
    out = folder / f"seed-{seed}"
    card = fitted(dataset, out, fit_settings(molecule, arguments), seed)
    row: dict[str, Any] = {"seed": seed, "runs": {}}
    row["fit"] = {**fit_cost(card), "explained_variance": card["explained_variance"]}
    for start in molecule.starts:
        starts_nm = starts_of(start, frames, reference.structure_nm, arguments.chains, seed)
        settings = simulation_settings(molecule, arguments)
        noise = derive_seed(seed, f"simulate from {start}")
        rollouts, spent = simulated(f"from-{start}", starts_nm, out, settings, noise)
        late, _ = second_half(rollouts)
        row["runs"][start] = {
            **measured(judge(read_samples(late, reference), reference), molecule.columns),
            **spent,
            "steps": rollouts.alive.shape[1] * SAVE_EVERY,
            "chains": len(rollouts.alive),
            "chains_lost": int((~rollouts.alive[:, -1]).sum()),
        }
    return row


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Do all stages of a molecule; return its floor and a row for each seed."""
    molecule, folder = MOLECULES[name], arguments.out / name
    make = import_molecule if molecule.structure is None else sample_molecule
    dataset = make(molecule, folder, arguments)
    frames = dataset.read_all_beads()
    structure_nm = None
    if molecule.structure is not None:
        structure_nm = read_bead_structure(arguments.data / molecule.structure, frames.topology)
    reference = read_reference(frames, EvaluationSettings(kinetics=None), 0, structure_nm)
    itself = judge(read_samples(frames, reference), reference)
    floor = {
        "mean": floors(itself, molecule.columns),
        "largest": largest_floors(itself, molecule.columns),
    }
    rows = [
        measure_seed(molecule, seed, dataset, frames, reference, folder, arguments)
        for seed in arguments.seeds
    ]
    for row in rows:
        for run in row["runs"].values():
            run["against_floor"] = against_floor(run, floor, molecule.columns)
    return {"frames": frames.n_frames, "floor": floor, "rows": rows}


def against_floor(
    run: dict[str, Any], floor: dict[str, dict[str, Any]], columns: tuple[str, ...]
) -> dict[str, str]:
    """Say of each distance how it stands to those between halves of the data."""
    mean, largest, above, unknown = WITHIN
    said = {}
    for name in columns:
        value = run[name]
        if value is None or floor["mean"][name] is None:
            said[name] = unknown
        elif value <= floor["mean"][name]:
            said[name] = mean
        else:
            said[name] = largest if value <= floor["largest"][name] else above
    return said


def print_molecule(name: str, result: dict[str, Any]) -> None:
    """Print the distances of each simulation beside the floor, and how they stand to it."""
    columns = MOLECULES[name].columns
    title = f"{name}, {result['frames']} frames; of simulations the second half"
    table = Table(Column("set", no_wrap=True), *heads(columns), "chains lost",
                  "run (steps)", "run (s)", "fit (steps)", "fit (min)", "explains loss (%)",
                  "explains mean force (%)", title=title)  # fmt: skip
    for kind, floor in result["floor"].items():
        table.add_row(f"halves, {kind}", *cells(floor, columns))
    lines = []
    for row in result["rows"]:
        fit = row["fit"]
        explained = cells(fit["explained_variance"], ("of_loss_percent", "of_mean_force_percent"))
        if reason := fit["explained_variance"].get("reason"):
            lines.append(f"seed {row['seed']}, share of the mean force that is explained: {reason}")
        for start, run in row["runs"].items():
            label = f"seed {row['seed']}, from {start}"
            table.add_row(
                label,
                *cells(run, columns),
                f"{run['chains_lost']} of {run['chains']}",
                f"{run['steps']}",
                f"{run['seconds']:.0f}",
                f"{fit['steps']}",
                f"{fit['minutes']:.1f}",
                *explained,
            )
            lines.append(f"{label}: {floor_line(run['against_floor'])}")
    console = Console(width=200)
    console.print(table)
    for line in lines:
        console.print(line)


def floor_line(said: dict[str, str]) -> str:
    """Return what is said of each distance, gathered in a line."""
    groups = {kind: [name for name in said if said[name] == kind] for kind in WITHIN}
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in groups.items() if names)


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the reference data")
    parser.add_argument("--out", type=Path, required=True, help="folder of all results")
    parser.add_argument("--molecules", nargs="+", choices=list(MOLECULES), default=list(MOLECULES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a fit for each")
    parser.add_argument("--ps", type=float, default=250.0, help="length of each all-atom replica")
    parser.add_argument("--workers", type=int, default=2, help="processes of all-atom dynamics")
    parser.add_argument("--chains", type=int, default=64, help="chains of each simulation")
    parser.add_argument("--steps", type=int, help="steps of each simulation")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="setting of all fits"
    )
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    arguments = parse_arguments(words)
    fix_threads()
    require_input(arguments)
    require_same_arguments(arguments, ("json", "data", "out", "molecules", "seeds", "workers"))
    result: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(arguments).items()}}
    for name in arguments.molecules:
        result[name] = measure(name, arguments)
        print_molecule(name, result[name])
    if arguments.json is not None:
        write_json(arguments.json, result)


if __name__ == "__main__":
    configure_logging()
    with exit_with_code():
        main()
