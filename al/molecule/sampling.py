"""Plain all-atom dynamics from a named start, in chunks that a killed process goes on from.

Each chunk begins from the saved state of the one before with a seed of its own, whether the
process was killed in between or not, so both end with the same bits.
"""

import logging
import shutil
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import openmm

from al.molecule.dynamics import (
    DynamicsSettings,
    draw_velocities,
    new_context,
    record,
    run_steps,
    set_positions,
    steps_in,
)
from al.molecule.molecule import Molecule, system_digest
from trajgen.data.frame_files import load_atom_frames, save_atom_frames
from trajgen.data.records import AtomFrames
from trajgen.errors import InputError
from trajgen.files import read_json, whole_file, write_json, write_text
from trajgen.seeding import derive_seed

logger = logging.getLogger(__name__)

#: Time in one chunk where the caller names none: minutes of work for a small protein, against
#: which the tenth of a second that a new context takes is nothing.
_CHUNK_PS = 100.0


@dataclass(frozen=True)
class _Plan:
    """A replica in counts."""

    equilibration_steps: int
    steps_per_frame: int
    frames: int
    frames_per_chunk: int

    @property
    def chunks(self) -> list[int]:
        """The number of frames in each chunk."""
        ends = [*range(0, self.frames, self.frames_per_chunk), self.frames]
        return [end - start for start, end in pairwise(ends)]


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
    plan = _plan(arguments, settings.time_step_ps)
    scratch = Path(arguments.get("scratch") or out / "chunks") / f"attempt-{attempt}"
    _claim(scratch, arguments)
    seed = int(arguments["seed"])
    state = scratch / "equilibrated.xml"
    timed_steps = 0
    if not state.is_file():
        timed_steps += plan.equilibration_steps
        start = molecule.start(arguments["start"])
        write_text(state, _equilibrate(molecule, start, settings, seed, plan.equilibration_steps))
    parts = []
    for chunk, frames in enumerate(plan.chunks):
        after = scratch / f"chunk-{chunk:05d}.xml"
        file = scratch / f"chunk-{chunk:05d}.safetensors"
        if not after.is_file():
            # The state is written last: where it stands, the frames of the chunk stand too.
            context = _context_from(molecule, state, settings, derive_seed(seed, "chunk", 0, chunk))
            recorded = record(context, frames, plan.steps_per_frame, molecule.topology.bonds)
            save_atom_frames(
                file,
                AtomFrames(
                    topology=molecule.topology,
                    positions_nm=recorded.positions_nm,
                    segments=np.zeros(frames, dtype=np.int64),
                    time_step_ps=float(arguments["save_interval_ps"]),
                    forces=recorded.forces,
                ),
            )
            write_text(after, _state_of(context))
            timed_steps += frames * plan.steps_per_frame
            logger.info("%s: chunk %d of %d", arguments["start"], chunk + 1, len(plan.chunks))
        state = after
        parts.append(file)
    whole = _joined(parts)
    save_atom_frames(out / "frames.safetensors", whole)
    write_xtc(out / "trajectory.xtc", whole)
    if not arguments.get("scratch"):
        shutil.rmtree(scratch.parent)
    steps = plan.equilibration_steps + plan.frames * plan.steps_per_frame
    return {
        "frames": whole.n_frames,
        "oracle_ps": steps * settings.time_step_ps,
        "seed": seed,
        "start": arguments["start"],
        "time_step_ps": settings.time_step_ps,
        "timed_ps": timed_steps * settings.time_step_ps,
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


def _plan(arguments: dict[str, Any], time_step_ps: float) -> _Plan:
    interval = float(arguments["save_interval_ps"])
    frames = steps_in(float(arguments["ps"]), interval, "ps (in save intervals)")
    if frames < 1:
        raise InputError(
            f"ps is {arguments['ps']}, shorter than one save interval of {interval} ps"
        )
    chunk_ps = float(arguments.get("chunk_ps", _CHUNK_PS))
    return _Plan(
        equilibration_steps=round(float(arguments["equilibration_ps"]) / time_step_ps),
        steps_per_frame=steps_in(interval, time_step_ps, "save_interval_ps"),
        frames=frames,
        frames_per_chunk=max(1, round(chunk_ps / interval)),
    )


def _claim(scratch: Path, arguments: dict[str, Any]) -> None:
    """Make the scratch folder, or see that the chunks in it are of the same replica."""
    names = ("start", "seed", "ps", "equilibration_ps", "save_interval_ps", "chunk_ps")
    wanted = {name: arguments.get(name) for name in names}
    wanted["system"] = system_digest(Path(arguments["system"]))
    file = scratch / "replica.json"
    if not file.is_file():
        scratch.mkdir(parents=True, exist_ok=True)
        write_json(file, wanted)
    elif read_json(file) != wanted:
        raise InputError(
            f"{scratch} holds the chunks of another replica; remove it, or name another"
        )


def _equilibrate(
    molecule: Molecule,
    start_nm: np.ndarray,
    settings: DynamicsSettings,
    seed: int,
    steps: int,
) -> str:
    context = new_context(molecule.system, settings, derive_seed(seed, "equilibration"))
    set_positions(context, start_nm)  # starts are minimised when the system is built
    draw_velocities(context, settings.temperature_K, derive_seed(seed, "velocities"))
    run_steps(context, steps)
    context.setTime(0.0)
    context.setStepCount(0)
    return _state_of(context)


def _context_from(
    molecule: Molecule, state: Path, settings: DynamicsSettings, seed: int
) -> openmm.Context:
    context = new_context(molecule.system, settings, seed)
    try:
        context.setState(openmm.XmlSerializer.deserialize(state.read_text(encoding="utf-8")))
    except (openmm.OpenMMException, ValueError) as error:
        raise InputError(f"{state} is damaged ({error}); remove its folder and repeat") from error
    return context


def _state_of(context: openmm.Context) -> str:
    # XML keeps every digit of positions and velocities; the thermostat's draws begin anew.
    state = context.getState(getPositions=True, getVelocities=True)
    return openmm.XmlSerializer.serialize(state)


def _joined(parts: list[Path]) -> AtomFrames:
    chunks = [load_atom_frames(part) for part in parts]
    return replace(
        chunks[0],
        positions_nm=np.concatenate([chunk.positions_nm for chunk in chunks]),
        forces=np.concatenate([chunk.forces for chunk in chunks if chunk.forces is not None]),
        segments=np.concatenate([chunk.segments for chunk in chunks]),
    )
