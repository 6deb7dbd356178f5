"""Candidates of the loop: frames of all rollouts, and what chains looked like when they broke."""

from pathlib import Path

import numpy as np
import pytest

from al.parts.explorer import SOURCES, ExplorationSettings, TwoGeneratorExplorer
from trajgen.data.frame_files import save_rollouts
from trajgen.data.records import Loss, Rollouts
from trajgen.data.topology import BeadTopology
from trajgen.errors import WorkError
from trajgen.progress import SILENT

TOPOLOGY = BeadTopology.from_residues(("GLY", "ALA", "GLY"))


def rollouts(alive: list[list[bool]], losses: tuple[Loss, ...] = ()) -> Rollouts:
    """Return chains whose frames count upwards along x."""
    kept = np.array(alive)
    numbers = np.arange(kept.size, dtype=np.float32).reshape(kept.shape)
    positions_nm = numbers[..., None, None] * np.ones((3, 3), dtype=np.float32)
    positions_nm[~kept] = np.nan
    return Rollouts(TOPOLOGY, positions_nm, kept, None, losses=losses)


def explorer() -> TwoGeneratorExplorer:
    return TwoGeneratorExplorer(ExplorationSettings(), seed=0, progress=SILENT)


def test_the_frame_before_a_break_is_a_candidate(tmp_path: Path) -> None:
    held_nm = np.stack([np.full((3, 3), x, dtype=np.float32) for x in (0.0, 77.0)])
    broken = rollouts([[True, False], [True, True]], (Loss(0, 9, "a bond of 2 nm", held_nm),))
    save_rollouts(tmp_path / f"{SOURCES[0]}.safetensors", broken)
    save_rollouts(tmp_path / f"{SOURCES[1]}.safetensors", rollouts([[True, True]]))
    found = explorer().candidates(1, tmp_path)
    assert found.frames.positions_nm[:, 0, 0].tolist() == [0, 2, 3, 77, 0, 1]
    assert found.sources.tolist() == [0, 0, 0, 0, 1, 1]
    # It follows no other frame.
    assert (found.frames.segments == found.frames.segments[3]).sum() == 1


def test_frames_before_a_break_are_candidates_where_no_other_was_saved(tmp_path: Path) -> None:
    held_nm = np.stack([np.full((3, 3), x, dtype=np.float32) for x in (76.0, 77.0)])
    losses = tuple(Loss(chain, 9, "a bond of 2 nm", held_nm + chain) for chain in (0, 1))
    broken = rollouts([[False, False], [False, False]], losses)
    save_rollouts(tmp_path / f"{SOURCES[0]}.safetensors", broken)
    save_rollouts(tmp_path / f"{SOURCES[1]}.safetensors", rollouts([[True, True]]))
    found = explorer().candidates(1, tmp_path)
    assert found.frames.positions_nm[:, 0, 0].tolist() == [77, 78, 0, 1]
    assert found.sources.tolist() == [0, 0, 1, 1]
    assert len(set(found.frames.segments.tolist())) == 3


def test_where_every_chain_failed_the_round_does(tmp_path: Path) -> None:
    held_nm = np.zeros((1, 3, 3), dtype=np.float32)
    broken = rollouts([[False, False]], (Loss(0, 1, "a bond of 2 nm", held_nm),))
    save_rollouts(tmp_path / f"{SOURCES[0]}.safetensors", broken)
    save_rollouts(tmp_path / f"{SOURCES[1]}.safetensors", rollouts([[False, False]]))
    with pytest.raises(WorkError, match="every chain of both generators failed in round 3"):
        explorer().candidates(3, tmp_path)
