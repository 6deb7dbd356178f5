"""Atom trajectories: the protein alone, whole, in every format, never half read."""

import logging
from pathlib import Path

import mdtraj
import numpy as np
import pytest
from disulfide import write_bridged_dimer
from peptide import Solvated

from trajgen.data.sources import read_trajectory
from trajgen.data.structures import read_solute, read_structure
from trajgen.data.topology import AtomTopology
from trajgen.data.trajectories import iterate_trajectory
from trajgen.data.writers import mdtraj_topology, write_structure
from trajgen.errors import InputError


def test_the_solute_is_kept_and_the_rest_is_named(
    solvated: Solvated, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="trajgen"):
        solute = read_solute(solvated.structure)
    assert solute.topology.residues == ("GLY", "ALA", "HIS", "TRP")
    assert solute.beads.residue_numbers == (5, 6, 7, 8)
    assert solute.beads.sequence == "GAHW"
    assert solute.indices[list(solute.bead_atoms)].tolist() == solvated.alpha
    assert solute.file_atoms == solvated.frames.n_atoms
    assert "dropped 4 residues that are no protein (HOH 3, NA 1)" in caplog.text


@pytest.mark.parametrize("name", ["CYS", "CYX"])
def test_disulfides_are_found_in_gro_files_too(tmp_path: Path, name: str) -> None:
    dimer = mdtraj.load(str(write_bridged_dimer(tmp_path / "dimer.pdb")))
    dimer = dimer.atom_slice([atom.index for atom in dimer.topology.atoms if atom.name != "HG"])
    for residue in dimer.topology.residues:
        residue.name = name if residue.name == "CYS" else residue.name
    dimer.save(str(tmp_path / "dimer.gro"))
    for solute in (read_solute(tmp_path / "dimer.gro"), read_structure(tmp_path / "dimer.gro")[0]):
        names = solute.topology.names
        assert ("SG", "SG") in [(names[a], names[b]) for a, b in solute.topology.bonds]
        assert solute.topology.residues == ("GLY", "CYS", "GLY") * 2


@pytest.mark.parametrize("suffix", [".xtc", ".trr", ".dcd", ".nc", ".h5", ".pdb"])
def test_every_format_gives_the_alpha_carbons_in_nm(solvated: Solvated, suffix: str) -> None:
    path = solvated.trajectory.with_suffix(suffix)
    solvated.frames.save(str(path))
    frames = read_trajectory(path, solvated.structure)
    wanted = solvated.frames.xyz[:, solvated.alpha]
    np.testing.assert_allclose(frames.positions_nm, wanted, atol=2e-4)
    np.testing.assert_array_equal(frames.segments, np.zeros(25))
    timed = suffix in (".xtc", ".trr", ".nc", ".h5")
    assert frames.time_step_ps == (2.0 if timed else None)


def test_chunks_together_are_the_whole(solvated: Solvated) -> None:
    solute = read_solute(solvated.structure)
    pieces = list(iterate_trajectory(solvated.trajectory, solvated.structure, solute, chunk=10))
    assert [len(positions) for positions, _ in pieces] == [10, 10, 5]
    joined = np.concatenate([positions for positions, _ in pieces])
    np.testing.assert_allclose(joined, solvated.frames.xyz[:, : solvated.n_solute], atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([times for _, times in pieces]), 2 * np.arange(25))


@pytest.mark.parametrize("shift", [0.9, 1.4, 2.3])
def test_molecules_broken_at_a_periodic_wall_are_made_whole(
    solvated: Solvated, shift: float
) -> None:
    wrapped = solvated.frames.slice(slice(None))
    wrapped.xyz = (wrapped.xyz + np.float32(shift)) % np.float32(3.0)
    path = solvated.trajectory.with_name("wrapped.xtc")
    wrapped.save(str(path))
    distances = np.linalg.norm(np.diff(wrapped.xyz[:, solvated.alpha], axis=1), axis=-1)
    found = read_trajectory(path, solvated.structure).positions_nm
    whole = np.linalg.norm(np.diff(found, axis=1), axis=-1)
    wanted = np.linalg.norm(np.diff(solvated.frames.xyz[:, solvated.alpha], axis=1), axis=-1)
    np.testing.assert_allclose(whole, wanted, atol=2e-3)
    assert shift < 1 or distances.max() > 1  # the test did break some


def test_chains_of_a_complex_stay_together_at_a_periodic_wall(tmp_path: Path) -> None:
    atoms = AtomTopology(
        ("CA",) * 6, ("C",) * 6, tuple(range(6)), ("GLY",) * 6, (1, 2, 3) * 2, (0,) * 3 + (1,) * 3,
        ((0, 1), (1, 2), (3, 4), (4, 5)),
    )  # fmt: skip
    chain = np.array([[0.3, 1.5, 1.5], [0.68, 1.5, 1.5], [1.06, 1.5, 1.5]])
    whole = (
        np.concatenate([chain, chain + np.array([0.0, 0.6, 0.2])])
        + 0.2 * np.arange(12)[:, None, None]
    )
    box = {"unitcell_lengths": np.full((12, 3), 2.5), "unitcell_angles": np.full((12, 3), 90.0)}
    wrapped = mdtraj.Trajectory(whole % 2.5, mdtraj_topology(atoms), **box)
    wrapped.save_xtc(str(tmp_path / "md.xtc"))
    write_structure(tmp_path / "md.pdb", atoms, whole[0])
    found = read_trajectory(tmp_path / "md.xtc", tmp_path / "md.pdb").positions_nm
    apart = [
        np.linalg.norm(x[:, :, None] - x[:, None], axis=-1) for x in (whole, found, whole % 2.5)
    ]
    np.testing.assert_allclose(apart[1], apart[0], atol=3e-3)
    assert np.abs(apart[2] - apart[0]).max() > 1.0  # the test did break some


def test_an_alpha_only_trajectory_is_read_as_it_is(shared_data: Path) -> None:
    folder = shared_data / "chignolin_ca_forces"
    structure = shared_data / "fastfolder_pdb" / "chignolin_cln025_ca.pdb"
    path = folder / "chignolin_ca_initial_coords.xtc"
    frames = read_trajectory(path, structure)
    wanted = mdtraj.load(str(path), top=str(structure)).xyz
    np.testing.assert_array_equal(frames.positions_nm, wanted)


@pytest.mark.parametrize("suffix", [".xtc", ".trr", ".dcd", ".nc", ".h5", ".pdb"])
def test_a_cut_file_is_refused(
    solvated: Solvated, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = solvated.trajectory.with_suffix(suffix)
    solvated.frames.save(str(path))
    content = path.read_bytes()
    path.write_bytes(content[: int(0.53 * len(content))])
    capfd.readouterr()
    with pytest.raises(InputError, match=rf"md\{suffix} (cannot be read|is cut)"):
        read_trajectory(path, solvated.structure)
    assert capfd.readouterr().out == ""  # libraries in C write there


def test_files_that_do_not_fit_are_refused(solvated: Solvated, tmp_path: Path) -> None:
    small = tmp_path / "small.pdb"
    solvated.frames[0].atom_slice(range(10)).save(str(small))
    with pytest.raises(InputError, match=r"md\.xtc cannot be read .*34"):
        read_trajectory(solvated.trajectory, small)
    with pytest.raises(InputError, match="add --topology"):
        read_trajectory(solvated.trajectory)
    with pytest.raises(InputError, match="is missing"):
        read_trajectory(tmp_path / "none.xtc", solvated.structure)
    odd = tmp_path / "a.odd"
    odd.write_text("?")
    with pytest.raises(InputError, match="format that is not known"):
        read_trajectory(odd, solvated.structure)
    water = tmp_path / "water.pdb"
    solvated.frames[0].atom_slice(solvated.frames.topology.select("water")).save(str(water))
    with pytest.raises(InputError, match="no amino acid"):
        read_solute(water)
    trace = tmp_path / "no_alpha.pdb"
    solvated.frames[0].atom_slice(
        solvated.frames.topology.select("protein and not (name CA and residue 6)")
    ).save(str(trace))
    with pytest.raises(InputError, match="without a CA atom cannot be beads: ALA6"):
        read_solute(trace)


def test_a_nan_in_a_trajectory_is_refused(solvated: Solvated, tmp_path: Path) -> None:
    solvated.frames.xyz[4, solvated.alpha[0], 1] = np.nan
    path = tmp_path / "nan.dcd"
    solvated.frames.save(str(path))
    with pytest.raises(InputError, match=r"nan\.dcd: positions have a NaN .* first in frame 4"):
        read_trajectory(path, solvated.structure)
