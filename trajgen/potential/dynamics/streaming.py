"""Simulations whose frames go to disk, which a killed run goes on with."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from trajgen import __version__
from trajgen.data.writers import prepare_output, write_rollouts
from trajgen.errors import InputError, WorkError
from trajgen.files import read_json
from trajgen.potential.dynamics.frames import joined, joined_in_file
from trajgen.potential.dynamics.outcome import log_outcome, report_of, rollouts_of
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulation import Simulation
from trajgen.potential.dynamics.simulation_folder import SimulationFolder
from trajgen.potential.potential import Potential
from trajgen.progress import SILENT, Progress

#: A simulation is stored after this time and after so many bytes of frames, whichever comes first;
#: where it is stored changes no number. A shorter one never touches the disk before its end.
STORE_SECONDS = 30.0
STORE_BYTES = 64 * 2**20


def simulate_to_file(
    potential: Potential,
    starts_nm: Float32[np.ndarray, "chains beads 3"],
    settings: SimulationSettings,
    seed: int,
    out: Path,
    progress: Progress = SILENT,
    provenance: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Simulate chains like ``simulate`` and write them to ``out``, in constant memory.

    What is done so far lies in ``OUT.simulation``; a killed run goes on from there when it is
    called again with the same arguments, and ends with the same bytes on a CPU. While the final
    file is written the frames are on disk three times: as saved, in the order of chains, and in it.
    An ``.npz`` file is written in constant memory, ``.safetensors`` from memory, all others a chain
    at a time.

    Args:
        potential: the potential; it says the device and the precision.
        starts_nm: one start for each chain.
        settings: choices of the simulation.
        seed: base of all random numbers.
        out: the output; its suffix chooses the format, see ``write_rollouts``.
        progress: told the steps.
        provenance: JSON-able values for the file beside the output.

    Returns:
        The report that is written beside the output, see ``report_of``, with the ``device`` and the
        numbers of ``chains``, ``chains_lost`` and ``frames_lost``.

    Raises:
        InputError: as for ``simulate``; a name that is taken; or ``OUT.simulation`` is of another
            potential, start, setting, seed or version.
        WorkError: no chain lived to see a frame, and the file of the last good frames and the one
            beside it are all that was written; or the files did not reach the disk.
    """
    folder = SimulationFolder(out, _identity(potential, starts_nm, settings, seed))
    if folder.finished:
        folder.remove()
        report: dict[str, Any] = read_json(out.with_suffix(".json"))["simulation"]
        return report
    simulation = Simulation(potential, starts_nm, settings, seed)
    files = prepare_output(out, len(starts_nm), potential.topology)
    stored = folder.load()
    if stored is not None:
        step, tensors = stored
        if tensors.keys() != simulation.tensors().keys():
            raise InputError(
                f"{folder.path} holds the state of a simulation of another version of trajgen; "
                "remove the folder to begin anew"
            )
        simulation.restore(step, tensors)
    unsaved = _run(simulation, folder, progress)
    log_outcome(simulation)
    if simulation.frames_done == len(unsaved):
        frames_nm = joined(unsaved, starts_nm, settings.n_frames)
    else:
        _store(simulation, folder, unsaved)
        staged = folder.staging_file()
        frames_nm = joined_in_file(staged, folder.chunks(), starts_nm, settings.n_frames)
    rollouts = rollouts_of(simulation, frames_nm)
    report = {
        **report_of(simulation),
        "device": potential.device.type,
        "chains": len(starts_nm),
        "chains_lost": int((~rollouts.alive[:, -1]).sum()),
        "frames_lost": rollouts.n_lost,
    }
    with folder.publishing(files):
        written = write_rollouts(out, rollouts, {**(provenance or {}), "simulation": report})
    folder.remove()
    if not rollouts.alive.any():
        raise WorkError(
            f"all {len(starts_nm)} chains exploded before a frame was saved: {written[0]} holds "
            f"their last good frames, {written[-1]} the step and the reason of each; choose a "
            f"time_step_ps smaller than {settings.time_step_ps:g}, or a smaller save_every to see "
            "how they come apart"
        )
    return report


def _run(simulation: Simulation, folder: SimulationFolder, progress: Progress) -> list[np.ndarray]:
    """Go to the end, storing now and then, and return the frames that are not stored."""
    unsaved: list[np.ndarray] = []
    frame_bytes = simulation.base(simulation.state.positions_nm).numel() * 4
    last = time.monotonic()
    with progress.task("simulate", simulation.total_steps, simulation.step) as task:
        for frame in simulation.run(task):
            if frame is not None:
                unsaved.append(frame.numpy())
            late = time.monotonic() - last >= STORE_SECONDS
            if late or len(unsaved) * frame_bytes >= STORE_BYTES:
                _store(simulation, folder, unsaved)
                unsaved, last = [], time.monotonic()
    return unsaved


def _store(simulation: Simulation, folder: SimulationFolder, unsaved: list[np.ndarray]) -> None:
    first = simulation.frames_done - len(unsaved)
    folder.save(simulation.step, simulation.tensors(), unsaved, first)


def _identity(
    potential: Potential, starts_nm: np.ndarray, settings: SimulationSettings, seed: int
) -> dict[str, Any]:
    """Return what the path of the chains follows from."""
    weights = hashlib.sha256()
    for name, tensor in sorted(potential.state_dict().items()):
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    weights.update(json.dumps(potential.settings.model_dump(mode="json")).encode())
    return {
        "trajgen_version": __version__,
        "device": potential.device.type,
        "potential": weights.hexdigest(),
        "starts": hashlib.sha256(np.ascontiguousarray(starts_nm).tobytes()).hexdigest(),
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
    }
