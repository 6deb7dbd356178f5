"""Oracle segments: what is saved, repeatability, retries, failures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from al.molecule import chunks
from al.molecule.build import build_system
from al.molecule.molecule import Molecule
from al.molecule.settings import SystemSettings
from al.oracle import tasks
from al.oracle.settings import OracleSettings
from al.oracle.tasks import run_segment
from trajgen.data.frame_files import load_atom_frames, save_atom_frames
from trajgen.data.records import AtomFrames
from trajgen.errors import InputError, WorkError


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("oracle") / "system"
    starts = {"extended": "extended", "helix": [[-60.0, -45.0]] * 4}
    chosen = SystemSettings.model_validate(
        {"name": "GAAG", "sequence": "GAAG", "caps": True, "solvent": "none", "starts": starts}
    )
    return build_system(chosen, out, Path())


@pytest.fixture
def atoms(system: Path, tmp_path: Path) -> Path:
    molecule = Molecule.load(system)
    frames = AtomFrames(
        topology=molecule.topology,
        positions_nm=np.stack(list(molecule.starts.values())),
        segments=np.arange(2),
    )
    save_atom_frames(tmp_path / "atoms.safetensors", frames)
    return tmp_path / "atoms.safetensors"


def ask(system: Path, atoms: Path, out: Path, **values: Any) -> dict[str, Any]:
    settings = OracleSettings(relax_ps=0.2, release_ps=0.1, ps=0.4, save_interval_ps=0.1)
    out.mkdir()
    arguments = {
        "system": str(system),
        "atoms": str(atoms),
        "frame": 0,
        "parent": 17,
        "settings": settings.model_dump(mode="json"),
        "seed": 3,
        **values,
    }
    return run_segment(arguments, out)


def ends_nm(molecule: Molecule, positions_nm: np.ndarray) -> float:
    first, last = molecule.alpha_carbons[0], molecule.alpha_carbons[-1]
    return float(np.linalg.norm(positions_nm[first] - positions_nm[last]))


def test_segment_starts_from_the_frame_that_was_asked(
    system: Path, atoms: Path, tmp_path: Path
) -> None:
    molecule = Molecule.load(system)
    for frame, start in enumerate(molecule.starts.values()):
        value = ask(system, atoms, tmp_path / str(frame), frame=frame)
        assert (value["frames"], value["parent"], value["seed"]) == (4, 17, 3)
        assert value["oracle_ps"] == pytest.approx(0.7)
        frames = load_atom_frames(tmp_path / str(frame) / "frames.safetensors")
        assert frames.topology == molecule.topology
        assert frames.time_step_ps == 0.1
        assert frames.forces is not None
        beads = frames.positions_nm[0]
        assert ends_nm(molecule, beads) == pytest.approx(ends_nm(molecule, start), abs=0.15)


def test_same_question_same_bits(system: Path, atoms: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        ask(system, atoms, tmp_path / name, seed=seed)
    a, b, c = (load_atom_frames(tmp_path / name / "frames.safetensors") for name in "abc")
    np.testing.assert_array_equal(a.positions_nm, b.positions_nm)
    assert a.forces is not None
    assert b.forces is not None
    np.testing.assert_array_equal(a.forces, b.forces)
    assert np.abs(a.positions_nm - c.positions_nm).max() > 1e-3


def test_a_killed_segment_goes_on_to_the_same_bits(
    system: Path, atoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    ask(system, atoms, tmp_path / "whole")
    scratch = str(tmp_path / "scratch")
    with monkeypatch.context() as patch:
        patch.setattr(chunks, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            ask(system, atoms, tmp_path / "killed", scratch=scratch)
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "_relax", killed)  # which is not done again
        ask(system, atoms, tmp_path / "resumed", scratch=scratch)
    files = [tmp_path / name / "frames.safetensors" for name in ("resumed", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(InputError, match="of other dynamics"):
        ask(system, atoms, tmp_path / "other", scratch=scratch, frame=1)


def test_retry_halves_the_step_only(system: Path, atoms: Path, tmp_path: Path) -> None:
    value = ask(system, atoms, tmp_path / "a", attempt=1)
    assert value["time_step_ps"] == 0.002
    assert value["frames"] == 4
    assert value["oracle_ps"] == pytest.approx(0.7)


def test_hopeless_atoms_are_a_failure_of_the_work(
    system: Path, atoms: Path, tmp_path: Path
) -> None:
    frames = load_atom_frames(atoms)
    broken = frames.positions_nm.copy()
    broken[:, frames.topology.n_atoms // 2 :] += 30.0  # a bond of 50 nm
    hopeless = AtomFrames(topology=frames.topology, positions_nm=broken, segments=frames.segments)
    save_atom_frames(tmp_path / "broken.safetensors", hopeless)
    with pytest.raises(WorkError):
        ask(system, tmp_path / "broken.safetensors", tmp_path / "a")


def test_frame_that_is_not_there(system: Path, atoms: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="frame 5 is none"):
        ask(system, atoms, tmp_path / "a", frame=5)


def test_atoms_of_another_molecule(atoms: Path, tmp_path: Path) -> None:
    chosen = SystemSettings(name="GA", sequence="GA", solvent="none")
    other = build_system(chosen, tmp_path / "other", Path())
    with pytest.raises(InputError, match="another molecule than GA"):
        ask(other, atoms, tmp_path / "a")
