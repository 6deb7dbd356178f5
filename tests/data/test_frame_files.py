"""Records as single files come back bit for bit, and damaged files are refused."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from trajgen.data import frame_files
from trajgen.data.records import AtomFrames, BeadFrames, Rollouts
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError


def atoms() -> AtomFrames:
    topology = AtomTopology(("CA",), ("C",), (0,), ("GLY",), (1,), (0,), ())
    random = np.random.default_rng(0)
    return AtomFrames(
        topology,
        random.normal(size=(3, 1, 3)).astype(np.float32),
        np.arange(3),
        forces=random.normal(size=(3, 1, 3)).astype(np.float32),
    )


def rollouts() -> Rollouts:
    positions = np.random.default_rng(1).normal(size=(2, 3, 2, 3)).astype(np.float32)
    alive = np.array([[True, True, True], [True, False, False]])
    positions[~alive] = np.nan
    return Rollouts(BeadTopology.from_residues(("GLY", "ALA")), positions, alive, 0.5)


def require_equal(read: Any, written: Any) -> None:
    for field in fields(written):
        np.testing.assert_equal(getattr(read, field.name), getattr(written, field.name))


def test_records_come_back(tmp_path: Path, beads: BeadFrames) -> None:
    pairs: list[tuple[Any, Callable[..., None], Callable[..., Any]]] = [
        (beads, frame_files.save_bead_frames, frame_files.load_bead_frames),
        (atoms(), frame_files.save_atom_frames, frame_files.load_atom_frames),
        (rollouts(), frame_files.save_rollouts, frame_files.load_rollouts),
    ]
    for record, save, load in pairs:
        path = tmp_path / f"{type(record).__name__}.safetensors"
        save(path, record)
        require_equal(load(path), record)
    bare = replace(beads, forces=None, weights=None, force_variance=None, time_step_ps=None)
    frame_files.save_bead_frames(tmp_path / "bare.safetensors", bare)
    require_equal(frame_files.load_bead_frames(tmp_path / "bare.safetensors"), bare)


def test_a_file_of_another_kind_cut_or_missing_is_refused(
    tmp_path: Path, beads: BeadFrames
) -> None:
    path = tmp_path / "beads.safetensors"
    frame_files.save_bead_frames(path, beads)
    with pytest.raises(InputError, match="holds beads, not atoms"):
        frame_files.load_atom_frames(path)
    content = path.read_bytes()
    for length in (0, 4, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="is damaged"):
            frame_files.load_bead_frames(path)
    save_file({"positions_nm": beads.positions_nm}, path, metadata={"record": '{"kind": "beads"}'})
    with pytest.raises(InputError, match=r"beads\.safetensors .*'topology' is missing"):
        frame_files.load_bead_frames(path)
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        frame_files.load_bead_frames(path)
