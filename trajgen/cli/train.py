"""The command that trains a surrogate."""

from pathlib import Path
from typing import Annotated

import typer

from trajgen.cli.options import Config, Device, Seed, Sets, device_of
from trajgen.console import choose_progress


def train_command(
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
    from trajgen.surrogate.train import train_surrogate
    from trajgen.surrogate.training_settings import TrainSettings

    settings = load_settings(TrainSettings, config, sets or [])
    data = [Dataset.open(dataset) for dataset in datasets]
    train_surrogate(data, out, settings, seed, device_of(device), choose_progress())
