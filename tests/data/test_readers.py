"""What others wrote is read in nm and kJ/mol, or refused with the file's name."""

from pathlib import Path

import numpy as np
import pytest

from trajgen.data.frame_files import save_bead_frames
from trajgen.data.readers import (
    load_array,
    read_bead_arrays,
    read_bead_structure,
    read_starts,
)
from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.sources import open_samples, read_all, read_trajectory
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError


@pytest.fixture
def arrays(tmp_path: Path, beads: BeadFrames) -> dict[str, Path]:
    """The frames of ``beads`` as the .npy files of a kcal and angstrom world."""
    values = {
        "coords": beads.positions_nm * 10,
        "forces": beads.forces / 41.84,
        "weights": beads.weights,
        "segments": beads.segments.astype(np.int32),
    }
    for name, value in values.items():
        np.save(tmp_path / f"{name}.npy", value)
    return {name: tmp_path / f"{name}.npy" for name in values}


def read(arrays: dict[str, Path], **changes: object) -> BeadFrames:
    given = {"length_unit": "angstrom", "energy_unit": "kcal/mol", "time_step_ps": 2.0}
    return read_bead_arrays(**{**arrays, "sequence": "GYDPE", **given, **changes})


def test_arrays_come_back_in_canonical_units(arrays: dict[str, Path], beads: BeadFrames) -> None:
    frames = read(arrays)
    np.testing.assert_allclose(frames.positions_nm, beads.positions_nm, rtol=1e-6)
    np.testing.assert_allclose(frames.forces, beads.forces, rtol=1e-5)
    np.testing.assert_array_equal(frames.weights, beads.weights)
    np.testing.assert_array_equal(frames.segments, beads.segments)
    assert frames.topology.sequence == "GYDPE"


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("coords", lambda a: np.where(np.arange(12)[:, None, None] == 3, np.nan, a), "frame 3"),
        ("coords", lambda a: a[:, :4], "5 residues of sequence GYDPE"),
        ("coords", lambda a: a[..., 0], "shape"),
        ("coords", lambda a: a * 10, "check --length-unit"),
        ("coords", lambda a: a / 100, "check --length-unit"),
        ("forces", lambda a: a[:-1], "one force vector for each position"),
        ("forces", lambda a: a * np.inf, "forces have a NaN"),
        ("weights", lambda a: a[:-1], "weights have shape"),
        ("weights", lambda a: a - 100, "wanted is more than 0"),
        ("segments", lambda a: a[:-1], "segments have shape"),
        ("segments", lambda a: a.astype(float), "whole numbers"),
        ("segments", lambda a: a[[0, 6, 0, 6, 0, 6, 0, 6, 0, 6, 0, 6]], "comes back"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    arrays: dict[str, Path], name: str, change: object, said: str
) -> None:
    np.save(arrays[name], change(np.load(arrays[name])))
    with pytest.raises(InputError, match=said):
        read(arrays)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"length_unit": "furlong"}, "length unit 'furlong'"),
        ({"energy_unit": "eV"}, "energy unit 'eV'"),
        ({"energy_unit": None}, "--energy-unit"),
        ({"sequence": "GYDPX"}, "'X' at position 5"),
    ],
)
def test_unknown_units_and_residues_are_refused(
    arrays: dict[str, Path], change: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        read(arrays, **change)


def test_interleaved_segments_are_taken_where_frames_have_no_order(
    arrays: dict[str, Path],
) -> None:
    np.save(arrays["segments"], np.tile([0, 1], 6))
    frames = read(arrays, time_step_ps=None)
    np.testing.assert_array_equal(frames.segments, np.tile([0, 1], 6))


def test_nothing_is_unpickled_and_cut_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"x\.npy cannot be read"):
        load_array(path)
    np.save(path, np.ones((100, 3)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"x\.npy cannot be read"):
        load_array(path)
    path.write_bytes(b"not an array")
    with pytest.raises(InputError, match=r"x\.npy is not in NumPy's own format"):
        load_array(path)
    np.save(path, np.array(["text"]))
    with pytest.raises(InputError, match="no array of numbers"):
        load_array(path)
    with pytest.raises(InputError, match="missing"):
        load_array(tmp_path / "y.npy")


def npz(path: Path, beads: BeadFrames, **more: object) -> Path:
    positions = beads.positions_nm.reshape(2, 6, 5, 3).copy()
    positions[1, 4:] = np.nan
    np.savez(path, positions=positions, **more)
    return path


def test_generated_chains_are_read_without_their_frozen_frames(
    tmp_path: Path, beads: BeadFrames, caplog: pytest.LogCaptureFixture
) -> None:
    path = npz(tmp_path / "sim.npz", beads, time_step_ps=0.5)
    samples = open_samples([path], beads.topology)
    assert samples.left_out == {"frozen chain": 2}
    np.testing.assert_array_equal(read_all(samples).positions_nm, beads.positions_nm[:10])
    np.testing.assert_array_equal(read_all(samples).segments, [0] * 6 + [1] * 4)
    assert read_all(samples).time_step_ps == 0.5
    assert "2 of 12 frames" in caplog.text
    with pytest.raises(InputError, match="does not name its molecule"):
        read_trajectory(path)
    both = open_samples([path, path], beads.topology)
    assert len(np.unique(read_all(both).segments)) == 4
    assert both.left_out == {"frozen chain": 4}


def test_a_chain_goes_on_after_a_gap_as_another_segment(tmp_path: Path, beads: BeadFrames) -> None:
    alive = np.ones((2, 6), dtype=bool)
    alive[0, 2] = alive[1, 4:] = False
    path = npz(tmp_path / "sim.npz", beads, alive=alive, time_step_ps=0.5)
    frames = read_trajectory(path, beads.topology)
    np.testing.assert_array_equal(frames.segments, [0] * 2 + [1] * 3 + [2] * 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"topology": "GYDPE"}, "topology does not hold"),
        ({"topology": '{"names": "CA"}'}, "'residues' is missing"),
        ({"topology": "[1]"}, "topology does not hold"),
        ({"time_step_ps": [1.0, 2.0]}, r"time_step_ps is an array of shape \(2,\)"),
        ({"time_step_ps": "fast"}, "time_step_ps is an array .* type <U4"),
        ({"time_step_ps": np.nan}, "wanted is one finite number"),
        ({"time_step_ps": -1.0}, r"time_step_ps is -1\.0"),
    ],
)
def test_a_damaged_array_of_an_npz_is_refused_with_its_name(
    tmp_path: Path, beads: BeadFrames, change: dict[str, object], said: str
) -> None:
    path = npz(tmp_path / "sim.npz", beads, **change)
    with pytest.raises(InputError, match=rf"sim\.npz: .*{said}"):
        read_trajectory(path, beads.topology)
    if "topology" in change:
        np.savez(path, positions=beads.positions_nm, **change)
        with pytest.raises(InputError, match=rf"sim\.npz: .*{said}"):
            read_starts(path, beads.topology)
    np.savez(path, positions=np.full((2, 5, 3), "x"))
    with pytest.raises(InputError, match="positions are of type <U1"):
        read_starts(path, beads.topology)


def test_a_frame_marked_alive_must_be_finite(tmp_path: Path, beads: BeadFrames) -> None:
    path = npz(tmp_path / "sim.npz", beads, alive=np.ones((2, 6), dtype=bool))
    with pytest.raises(InputError, match=r"sim\.npz: positions have a NaN"):
        read_trajectory(path, beads.topology)


def test_datasets_and_record_files_are_read_as_trajectories(
    tmp_path: Path, beads: BeadFrames
) -> None:
    dataset = Dataset.create(tmp_path / "D", DatasetHeader(beads.topology))
    dataset.append_beads(ShardLabel("a", "import", "test", 300.0, 2.0), beads)
    save_bead_frames(tmp_path / "b.safetensors", beads)
    for path in (tmp_path / "D", tmp_path / "b.safetensors"):
        frames = read_trajectory(path)
        np.testing.assert_array_equal(frames.positions_nm, beads.positions_nm)
        np.testing.assert_array_equal(frames.weights, beads.weights)
    other = BeadTopology.from_residues(("ALA",) * 5)
    mixed = [npz(tmp_path / "x.npz", beads), tmp_path / "b.safetensors"]
    with pytest.raises(InputError, match=r"b\.safetensors is of GYDPE"):
        open_samples(mixed, other)


def test_starts_must_fit_the_model(tmp_path: Path, beads: BeadFrames) -> None:
    path = tmp_path / "starts.npz"
    np.savez(path, positions=beads.positions_nm[:3].astype(np.float64))
    starts = read_starts(path, beads.topology)
    np.testing.assert_array_equal(starts, beads.positions_nm[:3])
    assert starts.dtype == np.float32
    for wrong in (beads.positions_nm[None], beads.positions_nm[:, :4], beads.positions_nm[:0]):
        np.savez(path, positions=wrong)
        with pytest.raises(InputError, match="wanted is \\(chains, 5, 3\\)"):
            read_starts(path, beads.topology)
    np.savez(path, positions=beads.positions_nm * np.nan)
    with pytest.raises(InputError, match="must be finite"):
        read_starts(path, beads.topology)
    np.savez(path, other=beads.positions_nm)
    with pytest.raises(InputError, match="no array 'positions', only other"):
        read_starts(path, beads.topology)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        read_starts(path, beads.topology)


def test_a_structure_is_one_start(shared_data: Path) -> None:
    path = shared_data / "fastfolder_pdb" / "chignolin_1uao.pdb"
    topology = BeadTopology.from_residues(
        ("GLY", "TYR", "ASP", "PRO", "GLU", "THR", "GLY", "THR", "TRP", "GLY")
    )
    starts = read_starts(path, topology)
    np.testing.assert_array_equal(starts, read_bead_structure(path, topology)[None])
    with pytest.raises(InputError, match=r"chignolin_1uao\.pdb is of GYDPETGTWG"):
        read_starts(path, BeadTopology.from_residues(("GLY", "TYR", "ASP")))


def test_a_structure_is_read_all_atom_or_alpha_only(shared_data: Path) -> None:
    folder = shared_data / "fastfolder_pdb"
    topology = BeadTopology.from_residues(
        ("TYR", "TYR", "ASP", "PRO", "GLU", "THR", "GLY", "THR", "TRP", "TYR")
    )
    whole = read_bead_structure(folder / "chignolin_cln025.pdb", topology)
    alpha = read_bead_structure(folder / "chignolin_cln025_ca.pdb", topology)
    np.testing.assert_array_equal(whole, alpha)
    bonds = np.linalg.norm(np.diff(whole, axis=0), axis=1)
    np.testing.assert_allclose(bonds, 0.38, atol=0.01)
    capped = read_bead_structure(folder / "cln025_capped_allatom.pdb", topology)
    assert capped.shape == (10, 3)
    with pytest.raises(InputError, match=r"YYDPETGTWY .*chignolin_1uao\.pdb is of GYDPETGTWG"):
        read_bead_structure(folder / "chignolin_1uao.pdb", topology)
