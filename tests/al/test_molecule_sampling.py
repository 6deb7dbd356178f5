"""Replicas of plain dynamics: what they save, and that a killed one goes on to the same bits."""

from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest

from al.molecule import sampling
from al.molecule.build import build_system
from al.molecule.sampling import sample_segment
from al.molecule.settings import SystemSettings
from trajgen.data.frame_files import load_atom_frames
from trajgen.errors import InputError


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sampling") / "system"
    chosen = SystemSettings(name="GAAG", sequence="GAAG", solvent="none")
    return build_system(chosen, out, Path())


def order(system: Path, **values: Any) -> dict[str, Any]:
    return {
        "system": str(system),
        "start": "extended",
        "seed": 5,
        "ps": 1.0,
        "equilibration_ps": 0.2,
        "save_interval_ps": 0.1,
        "chunk_ps": 0.3,
        **values,
    }


def sample(out: Path, **values: Any) -> dict[str, Any]:
    out.mkdir(parents=True)
    return sample_segment(order(**values), out)


def bits(folder: Path) -> list[bytes]:
    frames = load_atom_frames(folder / "frames.safetensors")
    assert frames.forces is not None
    trajectory = (folder / "trajectory.xtc").read_bytes()
    return [frames.positions_nm.tobytes(), frames.forces.tobytes(), trajectory]


def test_replica_is_saved_whole(system: Path, tmp_path: Path) -> None:
    value = sample(tmp_path / "a", system=system)
    assert (value["frames"], value["seed"], value["start"]) == (10, 5, "extended")
    assert value["oracle_ps"] == pytest.approx(1.2)
    frames = load_atom_frames(tmp_path / "a" / "frames.safetensors")
    assert frames.time_step_ps == 0.1
    assert frames.forces is not None
    seen = mdtraj.load(tmp_path / "a" / "trajectory.xtc", top=system / "topology.pdb")
    np.testing.assert_allclose(seen.xyz, frames.positions_nm, atol=6e-4)
    np.testing.assert_allclose(seen.time, 0.1 * np.arange(1, 11), atol=1e-5)
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"frames.safetensors", "trajectory.xtc"}
    assert np.abs(np.diff(frames.positions_nm, axis=0)).max(axis=(1, 2)).min() > 1e-3


@pytest.mark.parametrize("survived", [0, 1, 3])
def test_killed_replica_goes_on_to_the_same_bits(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    sample(tmp_path / "whole", system=system)
    scratch = tmp_path / "scratch"
    calls = []

    def killed_later(*arguments: Any) -> Any:
        if len(calls) == survived:
            raise KeyboardInterrupt
        calls.append(arguments)
        return original(*arguments)

    original = sampling.record
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "record", killed_later)
        with pytest.raises(KeyboardInterrupt):
            sample(tmp_path / "killed", system=system, scratch=str(scratch))
    assert len(list((scratch / "attempt-0").glob("chunk-*.xml"))) == survived
    counted = []
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "record", lambda *a: counted.append(1) or original(*a))
        sample(tmp_path / "resumed", system=system, scratch=str(scratch))
    assert len(counted) == 4 - survived
    assert bits(tmp_path / "resumed") == bits(tmp_path / "whole")


def test_retry_halves_the_step_and_keeps_the_frames(system: Path, tmp_path: Path) -> None:
    value = sample(tmp_path / "a", system=system, attempt=1, save_interval_ps=0.2, ps=0.4)
    assert value["time_step_ps"] == 0.002
    assert value["frames"] == 2


def test_scratch_of_another_replica_is_refused(system: Path, tmp_path: Path) -> None:
    scratch = str(tmp_path / "scratch")
    sample(tmp_path / "a", system=system, ps=0.2, scratch=scratch)
    with pytest.raises(InputError, match="another replica"):
        sample(tmp_path / "b", system=system, ps=0.2, scratch=scratch, seed=6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start": "folded"}, "no start 'folded'; known: extended"),
        ({"save_interval_ps": 0.007, "ps": 0.07}, "save_interval_ps is 0.007"),
        ({"ps": 0.25}, "ps .* is 0.25"),
    ],
)
def test_orders_that_cannot_be_met(
    system: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sample(tmp_path / "a", system=system, **values)
