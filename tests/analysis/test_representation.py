"""Atoms and beads go through the same measures; the same molecule may carry hydrogens or not."""

from dataclasses import replace
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from trajgen.analysis.atom_validity import CHECKS
from trajgen.analysis.evaluate import (
    EvaluationSettings,
    evaluate,
    judge,
    read_reference,
    read_samples,
)
from trajgen.analysis.frame_table import UNDEFINED, fit_reference_tica, tabulate_reference
from trajgen.analysis.histograms import jensen_shannon_distance
from trajgen.analysis.representation import MOST_SLOW_BEADS, representation_of
from trajgen.data.records import AtomFrames, BeadFrames
from trajgen.data.sources import open_samples
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError

SETTINGS = EvaluationSettings(
    tica_lag_frames=1, bootstrap_resamples=20, coverage_frames=50, kinetics=None
)


@pytest.fixture(scope="module")
def peptide(shared_data: Path) -> mdtraj.Trajectory:
    """A tetrapeptide of 65 atoms, hydrogens included."""
    folder = shared_data / "nnqq_timewarp"
    positions = np.load(next(iter(sorted(folder.glob("implicit*arrays.npz")))))["positions"]
    return mdtraj.Trajectory(positions, mdtraj.load_topology(str(folder / "implicit-2olx.pdb")))


def written(folder: Path, trajectory: mdtraj.Trajectory, name: str) -> tuple[Path, Path]:
    """Write a trajectory and its topology; return both paths."""
    trajectory.time = np.arange(trajectory.n_frames)
    trajectory.save_xtc(str(folder / f"{name}.xtc"))
    trajectory[0].save_pdb(str(folder / f"{name}.pdb"))
    return folder / f"{name}.xtc", folder / f"{name}.pdb"


def test_torsions_of_a_file_are_compared_as_mdgen_bins_them(
    peptide: mdtraj.Trajectory, tmp_path: Path
) -> None:
    half = peptide.n_frames // 2
    first = open_samples([written(tmp_path, peptide[:half], "a")[0]], tmp_path / "a.pdb", "heavy")
    second = open_samples([written(tmp_path, peptide[half:], "b")[0]], tmp_path / "b.pdb", "heavy")
    evaluation = evaluate(second, first, SETTINGS, seed=1)
    wanted = []
    reread = [mdtraj.load(str(tmp_path / f"{n}.xtc"), top=str(tmp_path / f"{n}.pdb")) for n in "ab"]
    for compute in (mdtraj.compute_phi, mdtraj.compute_psi, *CHIS):
        angles = [compute(part)[1] for part in reread]
        for term in range(angles[0].shape[1]):
            bins = [np.histogram(a[:, term], 100, (-np.pi, np.pi))[0] for a in angles]
            wanted.append(float(jensen_shannon_distance(bins[0] * 1.0, bins[1] * 1.0)))
    found = evaluation.distance("jensen_shannon_torsions")
    assert len(found.terms) == len(wanted)
    # Angles at the edge of a bin may fall into the other one in single precision.
    assert found.pooled.value == pytest.approx(np.mean(wanted), abs=0.01)
    backbone = evaluation.distance("jensen_shannon_backbone")
    side_chain = evaluation.distance("jensen_shannon_side_chain")
    labels = [term.label for term in (*backbone.terms, *side_chain.terms)]
    assert [term.label for term in found.terms] == labels
    assert {share.name for share in evaluation.shares} == set(CHECKS)
    assert evaluation.distance("omega").pooled.value is not None


CHIS = (mdtraj.compute_chi1, mdtraj.compute_chi2, mdtraj.compute_chi3)


def test_hydrogens_change_nothing(peptide: mdtraj.Trajectory, tmp_path: Path) -> None:
    heavy = peptide.atom_slice(peptide.topology.select("element != H"))
    with_h, _ = written(tmp_path, peptide, "with")
    without, _ = written(tmp_path, heavy, "without")
    reference = open_samples([with_h], tmp_path / "with.pdb", "heavy")
    samples = open_samples([without], tmp_path / "without.pdb", "heavy")
    evaluation = evaluate(samples, reference, SETTINGS, seed=1)
    for distance in evaluation.distances:
        assert distance.pooled.value == pytest.approx(0, abs=1e-4), distance.name


def test_slow_coordinates_are_those_of_cosines_and_sines(
    peptide: mdtraj.Trajectory, tmp_path: Path
) -> None:
    source = open_samples([written(tmp_path, peptide, "a")[0]], tmp_path / "a.pdb", "heavy")
    fit = fit_reference_tica(source, 1)
    torsions = 6 + 2 * 2 + 2 * 3  # phi, psi; chi of two N and two Q
    assert fit.model.mean.shape == (2 * torsions,)
    assert (np.abs(fit.model.mean) <= 1).all()


def test_beads_and_atoms_are_not_compared(peptide: mdtraj.Trajectory, tmp_path: Path) -> None:
    path, topology = written(tmp_path, peptide, "a")
    beads, atoms = (open_samples([path], topology, kind) for kind in ("ca", "heavy"))
    with pytest.raises(InputError, match="one is of beads and one of atoms"):
        evaluate(beads, atoms, SETTINGS, seed=1)


def test_a_mirrored_molecule_has_the_wrong_hand(peptide: mdtraj.Trajectory, tmp_path: Path) -> None:
    path, topology = written(tmp_path, peptide, "a")
    (chunk,) = open_samples([path], topology, "heavy").chunks()
    assert isinstance(chunk, AtomFrames)
    mirrored = replace(chunk, positions_nm=(chunk.positions_nm * [1, 1, -1]).astype(np.float32))
    structure = chunk.positions_nm[0, [chunk.topology.index(r, "CA") for r in range(4)]]
    known = read_reference(chunk, SETTINGS, 1, structure.astype(float))
    evaluation = judge(read_samples(mirrored, known), known)
    shares = {share.name: share for share in evaluation.shares}
    assert shares["chirality"].samples.value == pytest.approx(1)
    assert shares["chirality"].reference.value == 0
    assert shares["chirality"].reference.reason is None
    table, _ = tabulate_reference(chunk, 1, 10, 1)
    assert table.drawn.positions_nm.shape[1] == chunk.topology.n_atoms


def test_a_frame_with_three_atoms_on_a_line_is_left_out_and_counted(
    peptide: mdtraj.Trajectory, tmp_path: Path
) -> None:
    path, topology = written(tmp_path, peptide, "a")
    (chunk,) = open_samples([path], topology, "heavy").chunks()
    n, ca, c = (chunk.topology.index(1, name) for name in ("N", "CA", "C"))
    positions = chunk.positions_nm.copy()
    positions[7, ca] = (positions[7, n] + positions[7, c]) / 2
    table, _ = tabulate_reference(replace(chunk, positions_nm=positions), 1, 10, 1)
    assert table.left_out == {UNDEFINED: 1}
    assert table.n_frames == chunk.n_frames - 1


def test_a_check_without_atoms_to_check_is_not_made() -> None:
    glycines = AtomTopology(
        names=("N", "CA", "C", "O") * 2,
        elements=("N", "C", "C", "O") * 2,
        atom_residues=(0,) * 4 + (1,) * 4,
        residues=("GLY", "GLY"),
        residue_numbers=(1, 2),
        chains=(0, 0),
        bonds=((0, 1), (1, 2), (2, 3), (2, 4), (4, 5), (5, 6), (6, 7)),
    )
    checks = representation_of(glycines).checks
    assert "chirality" not in checks
    assert {"bond", "clash", "peptide plane"} <= set(checks)


@pytest.mark.parametrize("beads", [2, 10, MOST_SLOW_BEADS, MOST_SLOW_BEADS + 1, 300])
def test_many_beads_are_thinned_for_the_slow_coordinates(beads):
    topology = BeadTopology.from_residues(("ALA",) * beads)
    positions = np.random.default_rng(0).normal(size=(5, beads, 3)).astype(np.float32)
    frames = BeadFrames(topology, positions, np.zeros(5, np.int64))
    measured = representation_of(topology)
    kept = min(beads, MOST_SLOW_BEADS)
    found = measured.slow_features(frames)
    assert found.shape == (5, kept * (kept - 1) // 2)
    ends = np.linalg.norm(positions[:, 0].astype(float) - positions[:, -1], axis=1)
    assert found[:, kept - 2] == pytest.approx(ends, rel=1e-6)  # the last pair of the first bead
    assert (f"of {beads}" in measured.slow_features_text) == (beads > kept)
