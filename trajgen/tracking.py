"""Curves of a training beside its card: TensorBoard, through the trackers of accelerate."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trajgen.errors import InputError


def tracker_arguments(out: Path) -> dict[str, Any]:
    """Return what ``Accelerator`` is told for curves in ``OUT.tensorboard``.

    Raises:
        InputError: no package that writes them is installed.
    """
    if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise InputError(
            "training.tensorboard needs a package that is not installed; pip install tensorboard, "
            "or leave it out"
        )
    return {"log_with": "tensorboard", "project_dir": out.parent}


def tracker_name(out: Path) -> str:
    """Return the name of the folder of curves beside ``out``."""
    return f"{out.name}.tensorboard"
