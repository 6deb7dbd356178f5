"""The runs of a peptide, and the surrogate that is trained on some and opened for any."""

import argparse
from pathlib import Path

from trajgen.console import choose_progress
from trajgen.data.store import Dataset
from trajgen.device import choose_device
from trajgen.settings import load_settings, parse_settings
from trajgen.surrogate.checkpoints import load_surrogate
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.surrogate import Surrogate
from trajgen.surrogate.train import train_surrogate
from trajgen.surrogate.training_settings import TrainSettings

#: Run that is trained on, and the independent one that judges.
TRAINED, JUDGES = 0, 1
#: Time between saved frames, ps.
FINE_PS = 0.1
#: More optimizer steps than any training has time for: its minutes decide.
MOST_STEPS = 1_000_000_000


def trained(arguments: argparse.Namespace, names: list[str], more: list[str]) -> Path:
    """Train on the first runs of peptides, once.

    Args:
        arguments: those of the command; what its ``--set`` says prevails.
        names: the peptides.
        more: settings of the training, ``dotted.key=value``.
    """
    out: Path = arguments.out / "model"
    if not out.exists():
        time = [f"training.max_minutes={arguments.minutes}", f"training.steps={MOST_STEPS}"]
        given = ["model.resolution=heavy", "training.backward=true", *time, *more, *arguments.set]
        settings = load_settings(TrainSettings, None, given)
        datasets = [Dataset.open(arguments.data / name / f"run-{TRAINED}") for name in names]
        device = choose_device(arguments.device)
        train_surrogate(datasets, out, settings, arguments.seed, device, choose_progress())
    return out


def open_model(arguments: argparse.Namespace, name: str) -> Surrogate:
    """Load the surrogate for a peptide."""
    structure = arguments.data / name / "system" / "topology.pdb"
    device = choose_device(arguments.device)
    return load_surrogate(arguments.out / "model", device, structure)


def rollout_settings(arguments: argparse.Namespace, evaluations: int) -> RolloutSettings:
    """Return how windows are sampled with a number of evaluations.

    Raises:
        InputError: steps cannot go back so far.
    """
    values = {
        "evaluations": evaluations,
        "batch": arguments.batch,
        "restart": arguments.restart,
    }
    return parse_settings(RolloutSettings, values, "--evaluations, --batch and --restart")
