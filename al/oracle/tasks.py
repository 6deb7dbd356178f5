"""The task of the oracle: relax with held alpha carbons, release, sample."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openmm

from al.molecule.chunks import ChunkPlan, claim_scratch, record_in_chunks
from al.molecule.dynamics import (
    DynamicsSettings,
    draw_velocities,
    minimise,
    new_context,
    restrain,
    run_steps,
    set_positions,
)
from al.molecule.molecule import Molecule, system_digest
from al.molecule.sampling import write_xtc
from al.oracle.settings import OracleSettings
from trajgen.data.frame_files import load_atom_frames, save_atom_frames
from trajgen.errors import InputError
from trajgen.files import sha256_of
from trajgen.seeding import derive_seed
from trajgen.settings import parse_settings


def run_segment(arguments: dict[str, Any], out: Path) -> dict[str, Any]:
    """Run the segment of one frame; write ``frames.safetensors`` and ``trajectory.xtc``.

    Args:
        arguments: ``system`` (folder), ``atoms`` (file of atom frames) and ``frame`` (the row in
            it to start from), ``parent`` (the chosen frame that these atoms came from),
            ``settings`` (``OracleSettings``), ``seed``; optionally ``scratch`` (a folder for
            chunks, which outlives a killed process and is left for the caller to remove),
            ``device``, and ``attempt`` (each retry halves the time step).
        out: folder for the result.

    Raises:
        InputError: the atoms are of another molecule, there is no such frame, or the scratch
            folder is of another segment.
        WorkError: the dynamics failed.
    """
    began = time.monotonic()
    molecule = Molecule.load(Path(arguments["system"]))
    settings = parse_settings(OracleSettings, arguments["settings"], "oracle settings")
    attempt = int(arguments.get("attempt", 0))
    dynamics = molecule.dynamics(arguments.get("device", "cpu"), attempt)
    step_ps, seed = dynamics.time_step_ps, int(arguments["seed"])
    plan = ChunkPlan.of(settings.ps, settings.save_interval_ps, step_ps, "oracle.ps")
    relax_steps, release_steps = (
        round(duration_ps / step_ps) for duration_ps in (settings.relax_ps, settings.release_ps)
    )
    start = _read_frame(Path(arguments["atoms"]), int(arguments["frame"]), molecule)
    scratch = Path(arguments.get("scratch") or out / "chunks") / f"attempt-{attempt}"
    wanted = {name: arguments[name] for name in ("settings", "frame", "seed")}
    digests = (system_digest(Path(arguments["system"])), sha256_of(Path(arguments["atoms"])))
    claim_scratch(scratch, {**wanted, "system": digests[0], "atoms": digests[1]})

    def released() -> openmm.Context:
        """Return the dynamics from the frame on, minimised, relaxed and let go."""
        state = _relax(molecule, start, settings, dynamics, relax_steps, seed)
        context = new_context(molecule.system, dynamics, derive_seed(seed, "segment"))
        context.setPositions(state.getPositions())
        context.setVelocities(state.getVelocities())
        run_steps(context, release_steps)
        return context

    segment = record_in_chunks(molecule, dynamics, plan, seed, released, scratch).frames
    save_atom_frames(out / "frames.safetensors", segment)
    write_xtc(out / "trajectory.xtc", segment)
    if not arguments.get("scratch"):
        shutil.rmtree(scratch.parent)
    return {
        "frames": plan.frames,
        "oracle_ps": (relax_steps + release_steps + plan.frames * plan.steps_per_frame) * step_ps,
        "parent": arguments["parent"],
        "seed": seed,
        "time_step_ps": step_ps,
        "seconds": time.monotonic() - began,
    }


def _relax(
    molecule: Molecule,
    start_nm: np.ndarray,
    settings: OracleSettings,
    dynamics: DynamicsSettings,
    steps: int,
    seed: int,
) -> openmm.State:
    """Minimise and move with the alpha carbons held; return positions and velocities."""
    held = list(molecule.alpha_carbons)
    system = molecule.system
    restrain(system, held, start_nm[held], settings.restraint_kJ_per_mol_nm2)
    strong = replace(dynamics, friction_per_ps=settings.relax_friction_per_ps)
    context = new_context(system, strong, derive_seed(seed, "relax"))
    set_positions(context, start_nm)
    minimise(context)
    draw_velocities(context, dynamics.temperature_K, derive_seed(seed, "velocities"))
    run_steps(context, steps)
    return context.getState(getPositions=True, getVelocities=True)


def _read_frame(path: Path, frame: int, molecule: Molecule) -> np.ndarray:
    frames = load_atom_frames(path)
    if (frames.topology.names, frames.topology.residues) != (
        molecule.topology.names,
        molecule.topology.residues,
    ):
        raise InputError(f"{path} is of another molecule than {molecule.settings.name}")
    if not 0 <= frame < frames.n_frames:
        raise InputError(f"{path} has {frames.n_frames} frames; frame {frame} is none of them")
    return frames.positions_nm[frame].astype(np.float64)
