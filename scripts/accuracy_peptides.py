"""How true the surrogate is to the dynamics of tetrapeptides, and what it must beat.

python scripts/make_peptides.py --names EHFR YVTL ... --ps 20000 --out runs/peptides
python scripts/accuracy_peptides.py one --data runs/peptides --name EHFR --out runs/one
python scripts/accuracy_peptides.py transfer --data runs/peptides --train YVTL ... \
    --test EHFR ... --out runs/transfer

``one`` trains on a run of a peptide and is judged by an independent run of it: forward simulation
from frames spread over the training run at several numbers of evaluations, upsampling from 10 ps to
0.1 ps, and paths between the states that exchange most rarely. ``transfer`` trains on several
peptides, simulates others and designs their inner residues. Of these the surrogate is given one
structure and the first frame of a run, from which all replicas start; the two runs of them judge,
and are the floor. Each replica is as long as the run that judges, and one frame in so many counts,
so that as many frames are compared; what depends on time is that of the first replica. Beside each
stand an independent run, the same frames shuffled, a walk among fine states of that run, torsions
drawn from those that training shows of their residues at their places, which is what ignores
context (``transfer``), and dynamics of equal wall-clock (``--ns-per-day``), that of all frames that
were generated. Killed, the same command goes on at the stage where it was.
"""

import argparse
import logging
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

from peptides.forward import RATIOS, columns
from peptides.interpolation import path_scores
from peptides.judge import ForwardJudge
from peptides.models import FINE_PS, JUDGES, TRAINED, open_model, rollout_settings, trained
from peptides.pictures import forward_picture, path_picture, upsampling_picture
from peptides.places import residue_places
from peptides.redesign import design_scores
from peptides.round_trip import round_trip_scores
from peptides.sets import first_ps, read_run
from peptides.upsampling import upsampling_scores
from rich.console import Console
from rich.table import Table
from run_folder import Stages, require_same_arguments

from trajgen.console import choose_progress, configure_logging, exit_with_code
from trajgen.data.frame_files import load_atom_frames, save_atom_frames
from trajgen.device import fix_threads
from trajgen.errors import InputError
from trajgen.files import write_json
from trajgen.seeding import derive_seed

#: Below the name whose log lines are shown.
logger = logging.getLogger("trajgen.peptides")

#: One frame in so many is known where the others are filled in.
FACTOR = 100


def run_one(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train on one peptide and judge all tasks."""
    name, stages = arguments.name, Stages(arguments.out)
    shortest = f"model.shortest_lag_ps={FINE_PS}"
    trained(arguments, [name], [shortest])
    judge = ForwardJudge(arguments, stages, name, unseen=False)
    result: dict[str, Any] = {"forward": judge.rows()}
    count = arguments.evaluations[-1]
    settings = rollout_settings(arguments, count)

    def upsample() -> dict[str, Any]:
        fine, other = (
            first_ps(read_run(arguments.data, name, run, FINE_PS), arguments.upsampled_ps)
            for run in (JUDGES, TRAINED)
        )
        found, made = upsampling_scores(
            open_model(arguments, name), fine, other, FACTOR, settings,
            derive_seed(arguments.seed, "upsample"), choose_progress(),
        )  # fmt: skip
        save_atom_frames(stages.folder / f"{name}-upsampling-{count}.safetensors", made)
        return found

    def interpolate() -> dict[str, Any]:
        found, made = path_scores(
            open_model(arguments, name), judge.reference, judge.states, judge.judges, judge.other,
            arguments.paths, arguments.ns_per_day, settings, derive_seed(arguments.seed, "paths"),
            choose_progress(),
        )  # fmt: skip
        if made is not None:
            save_atom_frames(stages.folder / f"{name}-interpolation-{count}.safetensors", made)
        return found

    result["round_trip"] = stages(
        f"{name}-round-trip", lambda: round_trip_scores(open_model(arguments, name), judge.judges)
    )
    result["upsampling"] = stages(f"{name}-upsampling-{count}", upsample)
    speed = arguments.ns_per_day
    result["interpolation"] = stages(f"{name}-interpolation-{count}-{speed}", interpolate)
    if arguments.pictures is not None:
        draw(arguments, judge)
    return result


def draw(arguments: argparse.Namespace, judge: ForwardJudge) -> None:
    """Draw what the stages made beside dynamics."""
    name, folder, out = arguments.name, judge.stages.folder, arguments.pictures
    judges, known = judge.judges, judge.reference
    count = arguments.evaluations[-1]
    made = load_atom_frames(folder / f"{name}-forward-{count}.safetensors")
    forward_picture(out / "forward.png", judges, made, known)
    paths = folder / f"{name}-interpolation-{count}.safetensors"
    if paths.is_file():
        path_picture(out / "paths.png", judges, load_atom_frames(paths), known)
    filled = load_atom_frames(folder / f"{name}-upsampling-{count}.safetensors")
    fine = first_ps(read_run(arguments.data, name, JUDGES, FINE_PS), arguments.upsampled_ps)
    upsampling_picture(out / "upsampling.png", fine, filled, FACTOR)


def run_transfer(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train on several peptides, simulate others, and design their inner residues."""
    # The two tasks that are judged.
    others = [f"tasks.{task}=0" for task in ("interpolate", "upsample", "inpaint", "ensemble")]
    given = [f"model.shortest_lag_ps={arguments.interval_ps}", "tasks.design=0.25", *others]
    trained(arguments, arguments.train, given)
    stages = Stages(arguments.out)
    settings = rollout_settings(arguments, arguments.evaluations[-1])
    result: dict[str, Any] = {"trained_on": arguments.train, "forward": {}, "design": {}}
    for name in arguments.test:
        result["forward"][name] = ForwardJudge(arguments, stages, name, unseen=True).rows()

        def design(name: str = name) -> dict[str, Any]:
            judges = read_run(arguments.data, name, JUDGES, arguments.interval_ps)
            return design_scores(
                open_model(arguments, name), judges, arguments.train, arguments.designs, settings,
                derive_seed(arguments.seed, f"design {name}"), choose_progress(),
            )  # fmt: skip

        result["design"][name] = stages(f"{name}-design-{settings.evaluations}", design)
    result["mean_of_peptides"] = mean_rows(list(result["forward"].values()))
    return result


def mean_rows(tables: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the mean of each number over tables, where all of them have it.

    That of ratios is geometric: half as fast and twice as fast are as far off.
    """
    means: dict[str, dict[str, Any]] = {}
    for label in tables[0]:
        rows = [table[label] for table in tables]
        shared = [n for n in columns(rows) if all(row.get(n) is not None for row in rows)]
        means[label] = {
            name: (geometric_mean if name in RATIOS else fmean)(row[name] for row in rows)
            for name in shared
            if not isinstance(rows[0][name], list)
        }
    return means


def require_transferable(arguments: argparse.Namespace) -> None:
    """Refuse peptides that share what they must not, or lack what they need.

    A residue that training shows at other places alone is told of, not refused: its side chain is
    known, how it moves there is not.

    Raises:
        InputError: the two sets share a triple, a residue is in no training peptide, or a run is
            missing.
    """
    shared = sorted(triples(arguments.train) & triples(arguments.test))
    if shared:
        raise InputError(
            f"--test shares the triples {', '.join(shared)} with --train; choose others"
        )
    unknown = sorted(set("".join(arguments.test)) - set("".join(arguments.train)))
    if unknown:
        raise InputError(
            f"--test has the residues {', '.join(unknown)}, which no peptide of --train has: "
            "nothing says how these look and move; choose others"
        )
    known = residue_places(arguments.train)
    for name in arguments.test:
        new = sorted(f"{letter} ({place})" for letter, place in residue_places([name]) - known)
        if new:
            text = "%s has residues where no peptide of --train has them: %s"
            logger.warning(text, name, ", ".join(new))
    wanted = [(name, TRAINED) for name in (*arguments.train, *arguments.test)]
    for name, run in [*wanted, *((name, JUDGES) for name in arguments.test)]:
        folder = arguments.data / name / f"run-{run}"
        if not folder.is_dir():
            raise InputError(f"{folder} is missing; make it with scripts/make_peptides.py")


def triples(names: list[str]) -> set[str]:
    """Return the runs of three residues in sequences."""
    return {name[i : i + 3] for name in names for i in range(len(name) - 2)}


def print_forward(title: str, rows: dict[str, dict[str, Any]]) -> None:
    shown = columns(list(rows.values()))
    heads = (name.replace("jensen_shannon", "JSD").replace("_", " ") for name in shown)
    table = Table("set", *heads, title=title)
    for label, row in rows.items():
        table.add_row(label, *(cell(row.get(name)) for name in shown))
    Console(width=200).print(table)


def cell(value: float | list[float | None] | None) -> str:
    """Return a number, or an interval, as a table shows it."""
    if isinstance(value, list):
        return " to ".join(cell(end) for end in value)
    return "-" if value is None else f"{value:.3g}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("one", help="one peptide, all tasks")
    one.add_argument("--name", required=True)
    one.add_argument(
        "--upsampled-ps", type=float, default=1000.0, help="length of what is upsampled"
    )
    one.add_argument("--paths", type=int, default=200)
    one.add_argument("--pictures", type=Path, help="folder to draw three pictures into")
    transfer = commands.add_parser("transfer", help="train on some peptides, simulate others")
    transfer.add_argument("--train", nargs="+", required=True)
    transfer.add_argument("--test", nargs="+", required=True)
    transfer.add_argument("--designs", type=int, default=200, help="designs of each peptide")
    for command in (one, transfer):
        command.add_argument("--data", type=Path, required=True, help="what make_peptides.py made")
        command.add_argument("--out", type=Path, required=True, help="folder of all results")
        command.add_argument(
            "--interval-ps", type=float, default=10.0, help="between the frames that are judged"
        )
        command.add_argument(
            "--lag-ps", type=float, default=100.0, help="of slow coordinates and models of kinetics"
        )
        command.add_argument("--minutes", type=float, default=30.0, help="training time")
        command.add_argument(
            "--replicas", type=int, default=10,
            help="rollouts whose frames, together as many as those of the run that judges, count; "
            "each is as long as that run for transfer, and so many times shorter for one",
        )  # fmt: skip
        command.add_argument("--evaluations", type=int, nargs="+", default=[20])
        command.add_argument(
            "--restart", type=float, help="how far steps go back; by default as trajgen generate"
        )
        command.add_argument("--batch", type=int, default=64)
        command.add_argument(
            "--ns-per-day", type=float, required=command is transfer,
            help="speed of dynamics on all of this machine, for dynamics of equal wall-clock",
        )  # fmt: skip
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--device", default="auto", help="cpu, cuda or auto")
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
        command.add_argument("--json", type=Path, help="file to write the numbers to")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if odd := [count for count in arguments.evaluations if count < 2 or count % 2]:
        raise InputError(
            f"--evaluations has {odd[0]}; Heun's method takes two a step: give even numbers"
        )
    fix_threads()
    if arguments.command == "transfer":
        require_transferable(arguments)
    free = ("json", "data", "out", "evaluations", "pictures", "ns_per_day")
    require_same_arguments(arguments, free)
    if arguments.command == "one":
        result = run_one(arguments)
        print_forward(f"{arguments.name}, forward simulation", result["forward"])
        Console().print_json(data={k: v for k, v in result.items() if k != "forward"})
    else:
        result = run_transfer(arguments)
        for name, rows in result["forward"].items():
            print_forward(f"{name}, not trained on", rows)
        print_forward("mean of these", result["mean_of_peptides"])
        Console().print_json(data=result["design"])
    if arguments.json is not None:
        write_json(arguments.json, result)


if __name__ == "__main__":
    configure_logging()
    with exit_with_code():
        main()
