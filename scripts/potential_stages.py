"""A fit and the simulations of it, each done once in a folder of results."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from run_folder import Stages

from trajgen.console import choose_progress
from trajgen.data.frame_files import load_rollouts, save_rollouts
from trajgen.data.records import Rollouts
from trajgen.data.store import Dataset
from trajgen.device import choose_device
from trajgen.files import read_json
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.fit import FitSettings, fit_potential
from trajgen.potential.potential import Potential


def fitted(dataset: Dataset, folder: Path, settings: FitSettings, seed: int) -> dict[str, Any]:
    """Fit the potential of a folder, once; return its card."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "potential"
    if not out.exists():
        fit_potential(dataset, out, settings, seed, choose_device("auto"), choose_progress())
    card: dict[str, Any] = read_json(out / "card.json")
    return card


def simulated(
    name: str,
    starts_nm: Float[np.ndarray, "chains beads 3"],
    folder: Path,
    settings: SimulationSettings,
    noise_seed: int,
) -> tuple[Rollouts, dict[str, Any]]:
    """Simulate chains by the potential of a folder, once; return them and how long that took."""
    file = folder / f"{name}.safetensors"

    def work() -> dict[str, Any]:
        potential = Potential.load(folder / "potential", choose_device("auto"))
        begin = time.perf_counter()
        rollouts = simulate(potential, starts_nm, settings, noise_seed, choose_progress())
        seconds = time.perf_counter() - begin
        save_rollouts(file, rollouts)
        return {"seconds": seconds}

    spent = Stages(folder)(name, work)
    return load_rollouts(file), spent
