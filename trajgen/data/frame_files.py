"""Records as single safetensors files, for what passes between processes and steps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trajgen.data.records import AtomFrames, BeadFrames, Rollouts
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError
from trajgen.files import system_errors, whole_file

_FRAME_ARRAYS = ("positions_nm", "segments", "forces", "weights", "force_variance")


def save_atom_frames(path: Path, frames: AtomFrames) -> None:
    """Write atom frames whole."""
    _save(path, "atoms", frames, _FRAME_ARRAYS[:4])


def load_atom_frames(path: Path) -> AtomFrames:
    """Read atom frames.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    arrays, topology, time_step_ps = _load(path, "atoms")
    return AtomFrames(
        topology=AtomTopology.from_dict(topology), time_step_ps=time_step_ps, **arrays
    )


def save_bead_frames(path: Path, frames: BeadFrames) -> None:
    """Write bead frames whole."""
    _save(path, "beads", frames, _FRAME_ARRAYS)


def load_bead_frames(path: Path) -> BeadFrames:
    """Read bead frames.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    arrays, topology, time_step_ps = _load(path, "beads")
    return BeadFrames(
        topology=BeadTopology.from_dict(topology), time_step_ps=time_step_ps, **arrays
    )


def save_rollouts(path: Path, rollouts: Rollouts) -> None:
    """Write rollouts whole."""
    _save(path, "rollouts", rollouts, ("positions_nm", "alive"))


def load_rollouts(path: Path) -> Rollouts:
    """Read rollouts.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    arrays, topology, time_step_ps = _load(path, "rollouts")
    if time_step_ps is None:
        raise InputError(f"{path} has no time step; rollouts have one")
    return Rollouts(topology=BeadTopology.from_dict(topology), time_step_ps=time_step_ps, **arrays)


def _save(path: Path, kind: str, record: Any, names: tuple[str, ...]) -> None:
    arrays = {name: getattr(record, name) for name in names}
    present = {k: np.ascontiguousarray(v) for k, v in arrays.items() if v is not None}
    content = {
        "kind": kind,
        "topology": record.topology.to_dict(),
        "time_step_ps": record.time_step_ps,
    }
    # One key alone: safetensors writes several in an order that differs from save to save.
    metadata = {"record": json.dumps(content)}
    with whole_file(path) as temporary, system_errors(path):
        save_file(present, temporary, metadata=metadata)


def _load(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any], float | None]:
    if not path.is_file():
        raise InputError(f"{path} is missing")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error})") from error
    record = json.loads(metadata.get("record", "{}"))
    if record.get("kind") != kind:
        raise InputError(f"{path} holds {record.get('kind', 'something else')}, not {kind}")
    return arrays, record["topology"], record["time_step_ps"]
