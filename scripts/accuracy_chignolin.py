"""How near the potential comes to the chignolin ensemble that it was trained on, and what it costs.

python scripts/accuracy_chignolin.py --data ../shared/data --out runs/accuracy --json accuracy.json

Trains on 13,000 weighted frames with forces for each seed, simulates 128 chains from native and 128
from other frames, which do not feel each other, and compares the second half of both with the
reference. Where the two runs disagree the simulation was too short, and its numbers are those of
its starts: the rows of the starts stand beside them. With --holdout the training sees a part of the
trajectories only, and the rest is measured against as well. Killed, the same command goes on at the
seed and stage where it was.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ensemble_rows import cells, fit_cost, floors, heads, measured, second_half
from potential_stages import fitted, simulated
from rich.console import Console
from rich.table import Table
from run_folder import require_same_arguments

from trajgen.analysis.evaluate import (
    EvaluationSettings,
    Reference,
    judge,
    read_reference,
    read_samples,
)
from trajgen.analysis.frame_table import FrameTable
from trajgen.analysis.kinetics.autocorrelation import decorrelation_time, lagged_sums
from trajgen.analysis.kinetics.transitions import core_transitions
from trajgen.analysis.nativeness import at_native, native_distances
from trajgen.analysis.wasserstein import wasserstein
from trajgen.console import configure_logging, exit_with_code
from trajgen.data.importing import FrameArrays, ImportSettings, import_arrays
from trajgen.data.readers import read_bead_structure
from trajgen.data.records import BeadFrames, Rollouts
from trajgen.data.splits import split_by_segment
from trajgen.data.starts import draw_starts
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.device import fix_threads
from trajgen.files import read_json, write_json
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.fit import FitSettings
from trajgen.seeding import derive_seed
from trajgen.settings import load_settings

#: Chains are in the folded core within the first RMSD of the structure, unfolded beyond the second.
FOLDED_NM, UNFOLDED_NM = 0.2, 0.45
NATIVE_CUTOFF_NM = 0.25
#: Share of the time of a fit that the steps of the optimizer may take; the readout takes the rest.
TRAINING_SHARE = 0.5
COLUMNS = ("tica_2d", "tica_0", "end_to_end", "bond", "angle", "dihedral")
GOALS = {
    "tica_2d": "≤ 0.20", "tica_0": "≤ 0.15", "end_to_end": "≤ 0.5", "bond": "≤ 0.0020",
    "angle": "≤ 0.02", "dihedral": "≤ 0.10", "native": "0.43 to 0.53", "mirror": "≤ 0.02",
}  # fmt: skip


def import_reference(data: Path, out: Path) -> Dataset:
    """Import the weighted frames, once."""
    if (out / "data").exists():
        return Dataset.open(out / "data")
    folder = data / "chignolin_ca_forces"
    settings = ImportSettings(
        temperature_K=350,
        hamiltonian="CHARMM22*/TIP3P",
        sequence="YYDPETGTWY",
        length_unit="angstrom",
        energy_unit="kcal/mol",
    )
    arrays = FrameArrays(
        forces=folder / "chignolin_ca_forces_first13000.npy",
        weights=folder / "msm_weights_first13000.npy",
        segments=folder / "trajectory_id_first13000.npy",
    )
    coords = folder / "chignolin_ca_coords_first13000.npy"
    return import_arrays(coords, out / "data", settings, arrays)


def split_dataset(dataset: Dataset, out: Path, holdout: float) -> tuple[Dataset, BeadFrames]:
    """Return a dataset of the trajectories to train on, and the frames of the others."""
    frames = dataset.read_all_beads()
    kept, held_out = split_by_segment(frames.segments, holdout, seed=0)
    folder = out / "data-training"
    if not folder.exists():
        training = Dataset.create(folder, DatasetHeader(frames.topology))
        training.append_beads(dataset.entries[0].label, frames.take(kept))
    return Dataset.open(folder), frames.take(held_out)


def starts_of(
    frames: BeadFrames, structure_nm: np.ndarray, native: bool, chains: int, seed: int
) -> np.ndarray:
    """Draw native starts, or only others, by weight."""
    chosen = at_native(native_distances(frames, structure_nm), NATIVE_CUTOFF_NM) == native
    return draw_starts(frames.take(chosen), chains, derive_seed(seed, f"starts native={native}"))


def motion(table: FrameTable, chains: int, steps_per_frame: int) -> dict[str, Any]:
    """Return transitions per chain and the decorrelation time of TIC 0 in steps."""
    rmsd_nm = table.features["rmsd"].values[:, 0]
    crossed = core_transitions(rmsd_nm, table.runs, FOLDED_NM, UNFOLDED_NM)
    found: dict[str, Any] = {"transitions_per_chain": float(crossed.sum()) / chains}
    if table.tics is not None and table.n_frames:
        longest = int(np.unique(table.runs, return_counts=True)[1].max())
        sums = lagged_sums(table.tics[:, :1], table.runs, table.blocks, max(longest // 2, 1))
        curve = sums.autocorrelation(np.ones(len(np.unique(table.blocks))))[:, 0]
        time_found = decorrelation_time(curve, float(steps_per_frame))
        found["tica_0_decorrelation_steps"] = time_found.value
        found["tica_0_decorrelation_reason"] = time_found.reason
    return found


def simulate_seed(
    seed: int, arguments: argparse.Namespace, training: Dataset, frames: BeadFrames,
    structure_nm: np.ndarray,
) -> dict[str, tuple[np.ndarray, Rollouts]]:  # fmt: skip
    """Train with one seed and simulate from native and from other starts."""
    out = arguments.out / f"seed-{seed}"
    settings = load_settings(
        FitSettings,
        None,
        [f"training.max_minutes={TRAINING_SHARE * arguments.minutes}", *arguments.set],
    )
    fitted(training, out, settings, seed)
    simulation = SimulationSettings(
        steps=arguments.steps,
        save_every=arguments.save_every,
        time_step_ps=arguments.time_step_ps,
        friction_per_ps=arguments.friction_per_ps,
    )
    chains = arguments.chains
    starts = np.concatenate(
        [starts_of(frames, structure_nm, native, chains, seed) for native in (True, False)]
    )
    both, _ = simulated("rollouts", starts, out, simulation, derive_seed(seed, "simulate"))
    parts = {"native": slice(0, chains), "other": slice(chains, None)}
    return {name: (starts[part], chains_of(both, part)) for name, part in parts.items()}


def chains_of(rollouts: Rollouts, part: slice) -> Rollouts:
    """Return some of the chains."""
    return Rollouts(
        rollouts.topology,
        rollouts.positions_nm[part],
        rollouts.alive[part],
        rollouts.time_step_ps,
        rollouts.time_step_cg_ps,
    )


def measure_seed(
    seed: int, runs: dict[str, tuple[np.ndarray, Rollouts]], reference: Reference,
    arguments: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Return the numbers of both runs of a seed, and of the frames that they started from."""
    row: dict[str, Any] = {"seed": seed, "starts": {}, "runs": {}}
    card = read_json(arguments.out / f"seed-{seed}" / "potential" / "card.json")
    row["fit"] = fit_cost(card)
    slowest = []
    for name, (starts, rollouts) in runs.items():
        late, lost = second_half(rollouts)
        table = read_samples(late, reference)
        begun = BeadFrames(rollouts.topology, starts, np.arange(len(starts), dtype=np.int64))
        row["starts"][name] = measured(judge(read_samples(begun, reference), reference), COLUMNS)
        row["runs"][name] = {
            **measured(judge(table, reference), COLUMNS),
            **motion(table, arguments.chains, arguments.save_every),
            **read_json(arguments.out / f"seed-{seed}" / "rollouts.json"),
            "steps": rollouts.positions_nm.shape[1] * arguments.save_every,
            "share_of_frames_lost": lost / max(lost + late.n_frames, 1),
        }
        if table.tics is not None and table.n_frames:
            slowest.append(table.tics[:, 0])
    row["tica_0_between_runs"] = wasserstein(*slowest) if len(slowest) == 2 else None
    return row


def print_table(rows: list[dict[str, Any]], floor: dict[str, Any], minutes: float) -> None:
    """Print the distances of both runs of each seed, the floor and the goals.

    Transitions, times and what was lost are those of the second half of the runs. Fits that took
    longer than so many minutes are named.
    """
    shares = ["native", "mirror"]
    shown = (*COLUMNS, *shares)
    table = Table("set", *heads(COLUMNS), *shares, "transitions", "TIC 0 time (steps)",
                  "fit (steps)", "fit (min)", "simulation (steps)", "simulation (s)", "lost",
                  "TIC 0 between runs")  # fmt: skip

    table.add_row("reference, halves", *cells(floor, shown))
    for row in rows:
        between = row.get("tica_0_between_runs")
        for name, run in row["runs"].items():
            table.add_row(f"seed {row['seed']}, {name} starts", *cells(row["starts"][name], shown))
            steps = run.get("tica_0_decorrelation_steps")
            moved = [
                f"{run['transitions_per_chain']:.2g}",
                "-" if steps is None else f"{steps:.0f}",
                f"{row['fit']['steps']}",
                f"{row['fit']['minutes']:.1f}",
                f"{run['steps']}",
                f"{run['seconds']:.0f}",
            ]
            lost = f"{run['share_of_frames_lost']:.2%}"
            apart = "-" if between is None else f"{between:.2g}"
            table.add_row(
                f"seed {row['seed']}, from {name}", *cells(run, shown), *moved, lost, apart
            )
    table.add_row(
        "goal",
        *(GOALS[name] for name in shown),
        "",
        "",
        "",
        f"≤ {minutes:g}",
        "",
        "",
        "0",
        "≤ 0.15",
    )
    console = Console(width=200)
    console.print(table)
    for row in rows:
        if (took := row["fit"]["minutes"]) > minutes:
            console.print(f"seed {row['seed']}: the fit took {took:.1f} minutes of {minutes:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with chignolin_ca_forces")
    parser.add_argument("--out", type=Path, required=True, help="folder of all results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=30.0, help="training time of a seed")
    parser.add_argument("--chains", type=int, default=128)
    parser.add_argument("--steps", type=int, default=600_000, help="steps of each simulation")
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--time-step-ps", type=float, default=0.008)
    parser.add_argument("--friction-per-ps", type=float, default=0.3)
    parser.add_argument("--holdout", type=float, default=0.0, help="share kept from the training")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args()
    fix_threads()
    require_same_arguments(arguments, free=("json", "seeds", "out", "data"))
    dataset = import_reference(arguments.data, arguments.out)
    frames = dataset.read_all_beads()
    native = arguments.data / "fastfolder_pdb" / "chignolin_cln025_ca.pdb"
    structure_nm = read_bead_structure(native, frames.topology).astype(float)
    settings = EvaluationSettings(tica_lag_frames=1, floor_splits=20, kinetics=None)
    training, judged_by = dataset, {"all": frames}
    if arguments.holdout:
        training, held_out = split_dataset(dataset, arguments.out, arguments.holdout)
        judged_by["held out"] = held_out
    runs = {
        seed: simulate_seed(seed, arguments, training, frames, structure_nm)
        for seed in arguments.seeds
    }
    result: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(arguments).items()}}
    for name, against in judged_by.items():
        known = read_reference(against, settings, 0, structure_nm)
        itself = floors(judge(read_samples(against, known), known), COLUMNS)
        rows = [measure_seed(seed, found, known, arguments) for seed, found in runs.items()]
        Console().print(f"reference: {name}, {against.n_frames} frames")
        print_table(rows, itself, arguments.minutes)
        result[name] = {"floor": itself, "rows": rows}
    if arguments.json is not None:
        write_json(arguments.json, result)


if __name__ == "__main__":
    configure_logging()
    with exit_with_code():
        main()
