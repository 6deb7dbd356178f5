"""Recorded all-atom dynamics in chunks, from which a process that was killed goes on.

Each chunk begins from the saved state of the one before with a seed of its own, whether the
process was killed in between or not, so both end with the same bits.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openmm

from al.molecule.dynamics import DynamicsSettings, new_context, record, steps_in
from al.molecule.molecule import Molecule
from trajgen.data.frame_files import load_atom_frames, save_atom_frames
from trajgen.data.records import AtomFrames
from trajgen.errors import InputError
from trajgen.files import read_json, write_json, write_text
from trajgen.seeding import derive_seed

logger = logging.getLogger(__name__)

#: Time in one chunk where the caller names none: minutes of work for a small protein, against
#: which the tenth of a second that a new context takes is nothing.
CHUNK_PS = 100.0


@dataclass(frozen=True)
class ChunkPlan:
    """What is recorded, in counts.

    Attributes:
        frames: frames to save.
        steps_per_frame: steps between them.
        save_interval_ps: the same time, ps.
        frames_per_chunk: frames of a chunk; the last may have fewer.
    """

    frames: int
    steps_per_frame: int
    save_interval_ps: float
    frames_per_chunk: int

    @classmethod
    def of(
        cls,
        ps: float,
        save_interval_ps: float,
        time_step_ps: float,
        name: str,
        chunk_ps: float = CHUNK_PS,
    ) -> "ChunkPlan":
        """Return the plan for a recorded time; ``name`` says which time it is.

        Raises:
            InputError: the times are no multiples of each other, or no frame is saved.
        """
        frames = steps_in(ps, save_interval_ps, f"{name} (in save intervals)")
        if frames < 1:
            raise InputError(
                f"{name} is {ps:g}, shorter than one save interval of {save_interval_ps:g} ps"
            )
        return cls(
            frames,
            steps_in(save_interval_ps, time_step_ps, "save_interval_ps"),
            save_interval_ps,
            max(1, round(chunk_ps / save_interval_ps)),
        )

    @property
    def chunks(self) -> list[int]:
        """The number of frames in each chunk."""
        ends = [*range(0, self.frames, self.frames_per_chunk), self.frames]
        return [end - start for start, end in pairwise(ends)]


@dataclass(frozen=True)
class ChunkedRecord:
    """What is there at the end.

    Attributes:
        frames: all recorded frames.
        begun_here: whether this process made the state that the first chunk begins from.
        frames_here: frames that this process recorded; the others lay there.
    """

    frames: AtomFrames
    begun_here: bool
    frames_here: int


def claim_scratch(scratch: Path, wanted: dict[str, Any]) -> None:
    """Make a folder for chunks, or see that those in it are of the same work.

    Args:
        scratch: the folder.
        wanted: all that the chunks depend on, as JSON values.

    Raises:
        InputError: they are of another.
    """
    file = scratch / "replica.json"
    if not file.is_file():
        scratch.mkdir(parents=True, exist_ok=True)
        write_json(file, wanted)
    elif read_json(file) != wanted:
        raise InputError(
            f"{scratch} holds the chunks of other dynamics; remove it, or name another"
        )


def record_in_chunks(
    molecule: Molecule,
    settings: DynamicsSettings,
    plan: ChunkPlan,
    seed: int,
    begin: Callable[[], openmm.Context],
    scratch: Path,
) -> ChunkedRecord:
    """Record dynamics chunk by chunk; what lies in ``scratch`` is not done again.

    Args:
        molecule: what moves.
        settings: temperature, friction, step and device.
        plan: what is recorded.
        seed: base of the thermostat's draws.
        begin: gives a context where the record begins; called where no state lies there.
        scratch: a folder of this work alone, see ``claim_scratch``.

    Raises:
        InputError: a saved state is damaged.
        WorkError: the dynamics failed.
    """
    state = scratch / "begin.xml"
    begun_here = not state.is_file()
    if begun_here:
        context = begin()
        context.setTime(0.0)
        context.setStepCount(0)
        write_text(state, _state_of(context))
    parts, frames_here = [], 0
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
                    time_step_ps=plan.save_interval_ps,
                    forces=recorded.forces,
                ),
            )
            write_text(after, _state_of(context))
            frames_here += frames
            logger.info("%s: chunk %d of %d", scratch.parent.name, chunk + 1, len(plan.chunks))
        state = after
        parts.append(file)
    return ChunkedRecord(_joined(parts), begun_here, frames_here)


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
