"""Records as single safetensors files, for what passes between processes and steps."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trajgen.data.records import AtomFrames, BeadFrames, Loss, Rollouts
from trajgen.data.topology import AtomTopology, BeadTopology, topology_from_dict
from trajgen.errors import InputError
from trajgen.files import system_errors, values_of, whole_file

_FRAME_ARRAYS = ("positions_nm", "segments", "forces", "weights", "force_variance")
#: Before the number of a loss: the array of its last frames.
_LAST_FRAMES = "last_frames_nm."
_MEND = "write it again"


def save_atom_frames(path: Path, frames: AtomFrames) -> None:
    """Write atom frames whole."""
    _save(path, "atoms", frames, _arrays(frames, _FRAME_ARRAYS[:4]))


def load_atom_frames(path: Path) -> AtomFrames:
    """Read atom frames.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    arrays, record = _load(path, "atoms")
    with values_of(str(path), _MEND):
        topology = AtomTopology.from_dict(record["topology"])
        return AtomFrames(topology=topology, time_step_ps=record["time_step_ps"], **arrays)


def save_bead_frames(path: Path, frames: BeadFrames) -> None:
    """Write bead frames whole."""
    _save(path, "beads", frames, _arrays(frames, _FRAME_ARRAYS))


def load_bead_frames(path: Path) -> BeadFrames:
    """Read bead frames.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    arrays, record = _load(path, "beads")
    with values_of(str(path), _MEND):
        topology = BeadTopology.from_dict(record["topology"])
        return BeadFrames(topology=topology, time_step_ps=record["time_step_ps"], **arrays)


def save_rollouts(path: Path, rollouts: Rollouts) -> None:
    """Write rollouts whole."""
    arrays = _arrays(rollouts, ("positions_nm", "alive"))
    losses = []
    for number, loss in enumerate(rollouts.losses):
        arrays[f"{_LAST_FRAMES}{number}"] = loss.last_frames_nm
        losses.append({"chain": loss.chain, "step": loss.step, "reason": loss.reason})
    more = {"time_step_cg_ps": rollouts.time_step_cg_ps, "losses": losses}
    _save(path, "rollouts", rollouts, arrays, more)


def load_rollouts(path: Path) -> Rollouts:
    """Read rollouts; files older than losses and the time in cg_ps have none of them.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    arrays, record = _load(path, "rollouts")
    with values_of(str(path), _MEND):
        losses = tuple(
            Loss(last_frames_nm=arrays.pop(f"{_LAST_FRAMES}{number}"), **loss)
            for number, loss in enumerate(record.get("losses", []))
        )
        return Rollouts(
            topology=topology_from_dict(record["topology"]),
            time_step_ps=record["time_step_ps"],
            time_step_cg_ps=record.get("time_step_cg_ps"),
            losses=losses,
            **arrays,
        )


def load_frames(path: Path) -> tuple[BeadFrames | AtomFrames, int]:
    """Read frames of beads or of atoms, or those frames of rollouts that are alive.

    Returns:
        The frames, the chains of rollouts as segments, and the number of frames left out.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    kind = _read_record(path).get("kind")
    if kind == "atoms":
        return load_atom_frames(path), 0
    if kind != "rollouts":
        return load_bead_frames(path), 0
    rollouts = load_rollouts(path)
    if isinstance(rollouts.topology, AtomTopology):
        return rollouts.to_atom_frames(), rollouts.n_lost
    return rollouts.to_frames(), rollouts.n_lost


def _arrays(record: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    arrays = {name: getattr(record, name) for name in names}
    return {name: array for name, array in arrays.items() if array is not None}


def _save(
    path: Path,
    kind: str,
    record: Any,
    arrays: dict[str, np.ndarray],
    more: dict[str, Any] | None = None,
) -> None:
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = {
        "kind": kind,
        "topology": record.topology.to_dict(),
        "time_step_ps": record.time_step_ps,
        **(more or {}),
    }
    # One key alone: safetensors writes several in an order that differs from save to save.
    metadata = {"record": json.dumps(content)}
    with whole_file(path) as temporary, system_errors(path):
        save_file(contiguous, temporary, metadata=metadata)


def _load(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    record = _read_record(path)
    if record.get("kind") != kind:
        raise InputError(f"{path} holds {record.get('kind', 'something else')}, not {kind}")
    with _damage_named(path), safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} is missing")
    with _damage_named(path), safe_open(path, framework="numpy") as file:
        record: dict[str, Any] = json.loads((file.metadata() or {}).get("record", "{}"))
    return record


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({error})") from error
