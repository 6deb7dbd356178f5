"""Replicas of plain dynamics: what they save, and that a killed one goes on to the same bits."""

import shutil
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
import yaml

from al.executor import ExecutorSettings, ProcessExecutor
from al.lock import FolderLock
from al.molecule import chunks
from al.molecule.build import build_system
from al.molecule.sampling import sample_segment
from al.molecule.settings import SystemSettings
from al.parts import sampler
from al.parts.sampler import SamplingSettings, sample_dataset
from trajgen.data.frame_files import load_atom_frames
from trajgen.errors import InputError, WorkError
from trajgen.progress import SILENT


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

    original = chunks.record
    with monkeypatch.context() as patch:
        patch.setattr(chunks, "record", killed_later)
        with pytest.raises(KeyboardInterrupt):
            sample(tmp_path / "killed", system=system, scratch=str(scratch))
    assert len(list((scratch / "attempt-0").glob("chunk-*.xml"))) == survived
    counted = []
    with monkeypatch.context() as patch:
        patch.setattr(chunks, "record", lambda *a: counted.append(1) or original(*a))
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
    with pytest.raises(InputError, match="of other dynamics"):
        sample(tmp_path / "b", system=system, ps=0.2, scratch=scratch, seed=6)


def warmer(system: Path, out: Path) -> Path:
    """Copy a system and change its temperature, which its forces do not depend on."""
    shutil.copytree(system, out)
    content = yaml.safe_load((out / "system.yaml").read_text())
    content["settings"]["temperature_K"] = 400.0
    (out / "system.yaml").write_text(yaml.safe_dump(content))
    return out


def test_scratch_of_the_same_replica_at_another_temperature_is_refused(
    system: Path, tmp_path: Path
) -> None:
    scratch = str(tmp_path / "scratch")
    sample(tmp_path / "a", system=system, ps=0.2, scratch=scratch)
    other = warmer(system, tmp_path / "system")
    with pytest.raises(InputError, match="of other dynamics"):
        sample(tmp_path / "b", system=other, ps=0.2, scratch=scratch)


SHORT = SamplingSettings(replicas=1, ps=0.2, equilibration_ps=0.0, save_interval_ps=0.1)


def sample_to(out: Path, system: Path) -> dict[str, Any]:
    executor = ProcessExecutor(ExecutorSettings(workers=1))
    return sample_dataset(system, out, SHORT, executor, 1, SILENT)


def test_a_sampling_does_not_go_on_with_a_system_that_was_changed(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of both temperatures would be one dataset, all labelled with the last."""
    own = tmp_path / "system"
    shutil.copytree(system, own)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sampler, "append_samples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sample_to(tmp_path / "data", own)
    shutil.rmtree(own)
    warmer(system, own)
    with pytest.raises(InputError, match="unfinished sampling of another system"):
        sample_to(tmp_path / "data", own)
    shutil.rmtree(own)
    shutil.copytree(system, own)
    assert sample_to(tmp_path / "data", own)["frames"] == 2


def test_two_samplings_do_not_work_in_one_folder(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("al.lock.LOCK_WAIT_S", 0.1)
    (tmp_path / "data.sampling").mkdir()
    lock = FolderLock(tmp_path / "data.sampling")
    with pytest.raises(InputError, match="another al command is at work"):
        sample_to(tmp_path / "data", system)
    lock.release()
    assert sample_to(tmp_path / "data", system)["frames"] == 2


def test_where_every_replica_failed_the_error_says_what_to_remove(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "data.sampling"
    with monkeypatch.context() as patch:
        patch.setattr(sampler, "TASK", "nothing:at_all")
        with pytest.raises(WorkError, match="all 1 replicas failed") as failed:
            sample_to(tmp_path / "data", system)
    assert f"remove {scratch}/replica-000.failed.json and its like" in str(failed.value)
    (scratch / "replica-000.failed.json").unlink()
    assert sample_to(tmp_path / "data", system)["frames"] == 2


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
