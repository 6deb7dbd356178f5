"""Plain all-atom dynamics from a named start."""

import shutil
import time
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import openmm

from al.molecule.chunks import CHUNK_PS, ChunkPlan, claim_scratch, record_in_chunks
from al.molecule.dynamics import draw_velocities, new_context, run_steps, set_positions
from al.molecule.molecule import Molecule, system_digest
from trajgen.data.frame_files import save_atom_frames
from trajgen.data.records import AtomFrames
from trajgen.files import whole_file
from trajgen.seeding import derive_seed


def sample_segment(arguments: dict[str, Any], out: Path) -> dict[str, Any]:
    """Run one replica and write ``frames.safetensors`` and ``trajectory.xtc`` into ``out``.

    Returns ``timed_ps``, what this process simulated within ``seconds``, beside ``oracle_ps``,
    which counts what one that was killed did too.

    Args:
        arguments: ``system`` (folder), ``start`` (name), ``seed``, ``ps`` (saved time),
            ``equilibration_ps`` (time before), ``save_interval_ps``; optionally ``scratch`` (a
            folder for chunks, which outlives a killed process and is left for the caller to
            remove), ``chunk_ps``, ``device``, and ``attempt`` (each retry halves the time step).
        out: folder for the result.

    Raises:
        InputError: the times do not fit each other, or the scratch folder is of another replica.
        WorkError: the dynamics failed.
    """
    began = time.monotonic()
    molecule = Molecule.load(Path(arguments["system"]))
    attempt = int(arguments.get("attempt", 0))
    settings = molecule.dynamics(arguments.get("device", "cpu"), attempt)
    step_ps, seed = settings.time_step_ps, int(arguments["seed"])
    plan = ChunkPlan.of(
        float(arguments["ps"]),
        float(arguments["save_interval_ps"]),
        step_ps,
        "ps",
        float(arguments.get("chunk_ps", CHUNK_PS)),
    )
    equilibration_steps = round(float(arguments["equilibration_ps"]) / step_ps)
    scratch = Path(arguments.get("scratch") or out / "chunks") / f"attempt-{attempt}"
    names = ("start", "seed", "ps", "equilibration_ps", "save_interval_ps", "chunk_ps")
    wanted = {name: arguments.get(name) for name in names}
    claim_scratch(scratch, {**wanted, "system": system_digest(Path(arguments["system"]))})

    def equilibrated() -> openmm.Context:
        """Return the dynamics from the start on, after the time that is not saved."""
        context = new_context(molecule.system, settings, derive_seed(seed, "equilibration"))
        # Starts are minimised when the system is built.
        set_positions(context, molecule.start(arguments["start"]))
        draw_velocities(context, settings.temperature_K, derive_seed(seed, "velocities"))
        run_steps(context, equilibration_steps)
        return context

    recorded = record_in_chunks(molecule, settings, plan, seed, equilibrated, scratch)
    save_atom_frames(out / "frames.safetensors", recorded.frames)
    write_xtc(out / "trajectory.xtc", recorded.frames)
    if not arguments.get("scratch"):
        shutil.rmtree(scratch.parent)
    timed_steps = recorded.frames_here * plan.steps_per_frame
    timed_steps += equilibration_steps * recorded.begun_here
    return {
        "frames": recorded.frames.n_frames,
        "oracle_ps": (equilibration_steps + plan.frames * plan.steps_per_frame) * step_ps,
        "seed": seed,
        "start": arguments["start"],
        "time_step_ps": step_ps,
        "timed_ps": timed_steps * step_ps,
        "seconds": time.monotonic() - began,
    }


def write_xtc(path: Path, frames: AtomFrames) -> None:
    """Write the positions of frames a fixed time apart as an XTC trajectory."""
    interval = frames.time_step_ps or 1.0
    with (
        whole_file(path) as temporary,
        mdtraj.formats.XTCTrajectoryFile(str(temporary), "w") as file,
    ):
        number = np.arange(1, frames.n_frames + 1, dtype=np.int32)
        file.write(frames.positions_nm, time=(number * interval).astype(np.float32), step=number)
