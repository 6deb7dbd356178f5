"""Backmapping as a task: frames in a file, outcomes and an atom file back."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from al.backmapping.backmap import BackmappedFrame, backmap_frame
from al.backmapping.settings import BackmappingSettings
from al.molecule.molecule import Molecule
from trajgen.data.frame_files import load_atom_frames, load_bead_frames, save_atom_frames
from trajgen.data.records import AtomFrames
from trajgen.errors import InputError
from trajgen.seeding import derive_seed
from trajgen.settings import parse_settings

logger = logging.getLogger(__name__)


def backmap_frames(arguments: dict[str, Any], out: Path) -> dict[str, Any]:
    """Lift frames of beads to atoms.

    Accepted frames are written to ``atoms.safetensors``, with the frame's index as the segment.

    Args:
        arguments: ``system`` (folder), ``targets`` (file of bead frames), ``nearest`` (file of
            atom frames, one for each target, or None), ``heavy`` (file of heavy atoms with the
            target as the segment, or None), ``frames`` (indices of the targets to lift),
            ``settings`` (of ``BackmappingSettings``) and ``seed``.
        out: folder for the result.

    Returns:
        ``frames``: for each frame its index, outcome, reason, method and the numbers behind them.

    Raises:
        InputError: the files are of another molecule, or the frames are not in them.
    """
    settings = parse_settings(BackmappingSettings, arguments["settings"], "backmapping")
    molecule = Molecule.load(Path(arguments["system"]))
    targets = load_bead_frames(Path(arguments["targets"])).positions_nm
    nearest = None
    if arguments["nearest"] is not None:
        nearest = load_atom_frames(Path(arguments["nearest"])).positions_nm
        if len(nearest) != len(targets):
            raise InputError(
                f"{arguments['nearest']} has {len(nearest)} frames and {arguments['targets']} "
                f"{len(targets)}; wanted is one nearest frame for each target"
            )
    heavy = _heavy_atoms(arguments["heavy"], molecule)
    accepted: dict[int, np.ndarray] = {}
    records = []
    for frame in arguments["frames"]:
        if not 0 <= frame < len(targets):
            raise InputError(f"frame {frame} is not among the {len(targets)} targets")
        lifted = backmap_frame(
            targets[frame],
            molecule,
            None if nearest is None else nearest[frame],
            settings,
            derive_seed(arguments["seed"], "backmap", 0, frame),
            heavy.get(frame),
        )
        logger.info("frame %d: %s %s", frame, lifted.outcome, lifted.reason)
        records.append(_record(frame, lifted))
        if lifted.positions_nm is not None:
            accepted[frame] = lifted.positions_nm
    if accepted:
        frames = AtomFrames(
            topology=molecule.topology,
            positions_nm=np.stack(list(accepted.values())),
            segments=np.array(list(accepted), dtype=np.int64),
        )
        save_atom_frames(out / "atoms.safetensors", frames)
    return {"frames": records}


def _heavy_atoms(file: str | None, molecule: Molecule) -> dict[int, np.ndarray]:
    """Return the heavy atoms of each target that has them."""
    if file is None:
        return {}
    frames = load_atom_frames(Path(file))
    topology, _ = molecule.topology.without_hydrogens()
    topology.require_same(frames.topology, "the molecule", file)
    return dict(zip(frames.segments.tolist(), frames.positions_nm, strict=True))


def _record(frame: int, lifted: BackmappedFrame) -> dict[str, Any]:
    record: dict[str, Any] = {
        "frame": frame,
        "outcome": str(lifted.outcome),
        "reason": lifted.reason,
        "method": lifted.method,
    }
    if lifted.measures is not None:
        # JSON has no NaN; a number that is none is left out as null.
        record |= {
            name: value if np.isfinite(value) else None
            for name, value in asdict(lifted.measures).items()
        }
    return record
