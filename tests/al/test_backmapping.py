"""Frames of a tetrapeptide from beads to atoms and back."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from al.backmapping.backmap import BackmappedFrame, backmap_frame
from al.backmapping.checks import bead_rmsd
from al.backmapping.settings import BackmappingSettings
from al.backmapping.tasks import backmap_frames
from al.molecule.build import build_system
from al.molecule.dynamics import new_context, potential_energy, record, set_positions
from al.molecule.molecule import Molecule
from al.molecule.settings import SystemSettings
from al.molecule.structure import mirrored_residues
from al.outcomes import BackmapOutcome
from trajgen.data.frame_files import load_atom_frames, save_atom_frames, save_bead_frames
from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.records import AtomFrames, BeadFrames
from trajgen.errors import InputError

SETTINGS = BackmappingSettings()
NEAREST = BackmappingSettings(method="nearest")
PULCHRA = BackmappingSettings(method="pulchra")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("backmapping")
    settings = SystemSettings(name="YDPT", sequence="YDPT", temperature_K=300.0)
    return build_system(settings, base / "system", base)


@pytest.fixture(scope="module")
def molecule(folder) -> Molecule:
    return Molecule.load(folder)


@pytest.fixture(scope="module")
def dynamics(molecule) -> np.ndarray:
    """Six frames of all-atom dynamics, 0.4 ps apart."""
    context = new_context(molecule.system, molecule.dynamics(), seed=5)
    set_positions(context, molecule.start("extended"))
    context.setVelocitiesToTemperature(300.0, 7)
    return record(context, 6, 100, molecule.topology.bonds).positions_nm


def beads_of(molecule: Molecule, positions_nm: np.ndarray) -> np.ndarray:
    return positions_nm[..., list(molecule.alpha_carbons), :].astype(np.float64)


def energies(molecule: Molecule, frames_nm: np.ndarray) -> list[float]:
    context = new_context(molecule.system, molecule.dynamics(), seed=0)
    values = []
    for positions_nm in frames_nm:
        context.setPositions(positions_nm.astype(np.float64))
        values.append(potential_energy(context))
    return values


def accepted(lifted: BackmappedFrame) -> np.ndarray:
    assert lifted.outcome == BackmapOutcome.ACCEPTED, lifted.reason
    assert lifted.positions_nm is not None
    return lifted.positions_nm


def test_a_known_frame_returns_to_its_own_beads(molecule, dynamics):
    turned = Rotation.from_rotvec([0.5, 1.0, -0.3]).apply(beads_of(molecule, dynamics[3])) + 2.0
    lifted = backmap_frame(turned, molecule, dynamics[3], SETTINGS, seed=1)
    positions = accepted(lifted)
    # The atoms come back in the place of the target, not only in its shape.
    np.testing.assert_allclose(beads_of(molecule, positions), turned, atol=0.03)
    assert lifted.measures.bead_rmsd_nm < 0.02
    assert lifted.measures.bead_rmsd_nm == pytest.approx(
        bead_rmsd(beads_of(molecule, positions), turned), abs=1e-6
    )


@pytest.mark.parametrize("settings", [NEAREST, PULCHRA], ids=["nearest", "pulchra"])
def test_perturbed_beads_are_reached_within_the_limit(molecule, dynamics, settings):
    noise = np.random.default_rng(3).normal(scale=0.03, size=(4, 3))
    target = beads_of(molecule, dynamics[2]) + noise
    lifted = backmap_frame(target, molecule, dynamics[0], settings, seed=1)
    accepted(lifted)
    assert lifted.measures.bead_rmsd_nm < settings.checks.max_bead_rmsd_nm


def test_pulchra_ends_at_energies_that_dynamics_visits(molecule, dynamics):
    lifted = backmap_frame(beads_of(molecule, dynamics[5]), molecule, None, SETTINGS, seed=1)
    positions = accepted(lifted)
    energy = energies(molecule, positions[None])[0]
    assert lifted.measures.energy_kJ_per_mol == pytest.approx(energy, abs=0.5)
    # A minimised frame lies below thermal ones, unless it is strained.
    assert energy < max(energies(molecule, dynamics))


def test_a_frame_whose_atoms_must_pass_each_other_is_pulled_round(molecule, dynamics):
    # The mirror image of a chain of four beads has the opposite torsion: side chains change sides.
    target = -beads_of(molecule, dynamics[0])
    lifted = backmap_frame(target, molecule, dynamics[0], SETTINGS, seed=1)
    assert lifted.outcome in set(BackmapOutcome)
    if lifted.positions_nm is not None:
        assert mirrored_residues(molecule.topology, lifted.positions_nm.astype(np.float64)) == []


@pytest.mark.parametrize("settings", [NEAREST, PULCHRA], ids=["nearest", "pulchra"])
@pytest.mark.parametrize(
    ("scale", "outcomes"),
    [
        (100.0, {BackmapOutcome.TOO_FAR}),
        (1.7, {BackmapOutcome.TOO_FAR, BackmapOutcome.DIVERGED}),
        (0.1, {BackmapOutcome.TOO_FAR, BackmapOutcome.DIVERGED, BackmapOutcome.CLASH}),
        (np.nan, {BackmapOutcome.TOO_FAR}),
    ],
    ids=["exploded", "stretched", "imploded", "nan"],
)
def test_impossible_beads_have_a_label_and_no_exception(
    molecule, dynamics, settings, scale, outcomes
):
    target = scale * beads_of(molecule, dynamics[0])
    lifted = backmap_frame(target, molecule, dynamics[0], settings, seed=1)
    assert lifted.outcome in outcomes
    assert lifted.reason
    assert lifted.positions_nm is None


def test_a_start_that_no_minimiser_can_mend_is_a_label(molecule, dynamics):
    collapsed = np.zeros_like(dynamics[0])
    collapsed[list(molecule.alpha_carbons)] = dynamics[0][list(molecule.alpha_carbons)]
    target = beads_of(molecule, dynamics[0])
    lifted = backmap_frame(target, molecule, collapsed, NEAREST, seed=1)
    assert lifted.outcome != BackmapOutcome.ACCEPTED
    assert lifted.positions_nm is None


def test_auto_tries_pulchra_where_the_nearest_frame_fails(molecule, dynamics):
    collapsed = np.zeros_like(dynamics[0])
    collapsed[list(molecule.alpha_carbons)] = dynamics[0][list(molecule.alpha_carbons)]
    target = beads_of(molecule, dynamics[0])
    lifted = backmap_frame(target, molecule, collapsed, SETTINGS, seed=1)
    accepted(lifted)
    assert lifted.method == "pulchra"
    assert backmap_frame(target, molecule, dynamics[0], SETTINGS, seed=1).method == "nearest"


def test_the_same_seed_gives_the_same_bits(molecule, dynamics):
    target = beads_of(molecule, dynamics[4])
    first, again, other = (
        accepted(backmap_frame(target, molecule, None, SETTINGS, seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_of_another_molecule_is_refused(molecule, dynamics):
    target = beads_of(molecule, dynamics[0])
    with pytest.raises(InputError, match="alpha carbons"):
        backmap_frame(target[:3], molecule, dynamics[0], SETTINGS, seed=1)
    with pytest.raises(InputError, match="nearest frame"):
        backmap_frame(target, molecule, dynamics[0][:-1], SETTINGS, seed=1)
    with pytest.raises(InputError, match="'nearest' needs"):
        backmap_frame(target, molecule, None, NEAREST, seed=1)


@pytest.fixture(scope="module")
def arguments(folder, molecule, dynamics, tmp_path_factory) -> dict:
    base = tmp_path_factory.mktemp("targets")
    targets = beads_of(molecule, dynamics[:3]).astype(np.float32)
    targets[1] *= 50.0
    segments = np.zeros(3, dtype=np.int64)
    save_bead_frames(
        base / "targets.safetensors",
        BeadFrames(alpha_carbon_beads(molecule.topology)[0], targets, segments),
    )
    save_atom_frames(
        base / "nearest.safetensors", AtomFrames(molecule.topology, dynamics[:3], segments)
    )
    return {
        "system": str(folder),
        "targets": str(base / "targets.safetensors"),
        "nearest": str(base / "nearest.safetensors"),
        "heavy": None,
        "frames": [0, 1, 2],
        "settings": BackmappingSettings().model_dump(mode="json"),
        "seed": 3,
    }


def test_atoms_of_the_generator_are_kept_and_get_hydrogens(molecule, dynamics):
    _, kept = molecule.topology.without_hydrogens()
    heavy = dynamics[4][list(kept)]
    target = beads_of(molecule, dynamics[4])
    lifted = backmap_frame(target, molecule, dynamics[0], SETTINGS, 1, heavy_nm=heavy)
    positions = accepted(lifted)
    assert lifted.method == "atoms"
    # Minimised, but still the side chains of that frame and not those of the nearest one.
    assert np.linalg.norm(positions[list(kept)] - heavy, axis=1).max() < 0.08
    of_nearest = accepted(backmap_frame(target, molecule, dynamics[0], NEAREST, seed=1))
    moved = np.linalg.norm(of_nearest[list(kept)] - heavy, axis=1).mean()
    assert np.linalg.norm(positions[list(kept)] - heavy, axis=1).mean() < moved
    hydrogens = [i for i, element in enumerate(molecule.topology.elements) if element == "H"]
    bonded = {frozenset(pair) for pair in molecule.topology.bonds}
    for hydrogen in hydrogens:
        (carrier,) = [next(iter(pair - {hydrogen})) for pair in bonded if hydrogen in pair]
        assert 0.08 < np.linalg.norm(positions[hydrogen] - positions[carrier]) < 0.12


def test_atoms_of_the_wrong_hand_are_left_for_the_nearest_frame(molecule, dynamics):
    _, kept = molecule.topology.without_hydrogens()
    target = beads_of(molecule, dynamics[3])
    heavy = dynamics[3][list(kept)]
    lifted = backmap_frame(target, molecule, dynamics[2], SETTINGS, 1, heavy_nm=-heavy)
    accepted(lifted)
    assert lifted.method == "nearest"
    with pytest.raises(InputError, match="heavy_nm has shape"):
        backmap_frame(target, molecule, dynamics[2], SETTINGS, 1, heavy_nm=heavy[:-1])


def test_a_task_finds_the_atoms_of_its_frames(arguments, molecule, dynamics, tmp_path):
    _, kept = molecule.topology.without_hydrogens()
    topology, _ = molecule.topology.without_hydrogens()
    file = tmp_path / "heavy.safetensors"
    heavy = AtomFrames(topology, dynamics[[2]][:, list(kept)], np.array([2]))
    save_atom_frames(file, heavy)
    (tmp_path / "out").mkdir()
    found = backmap_frames({**arguments, "heavy": str(file)}, tmp_path / "out")["frames"]
    assert [record["method"] for record in found] == ["nearest", "", "atoms"]


def test_a_bad_frame_does_not_stop_the_others(arguments, molecule, tmp_path):
    result = backmap_frames(arguments, tmp_path)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    frames = result["frames"]
    assert [record["frame"] for record in frames] == [0, 1, 2]
    assert [record["outcome"] for record in frames] == ["accepted", "too far", "accepted"]
    assert frames[0]["bead_rmsd_nm"] < 0.1
    assert frames[1]["reason"]
    atoms = load_atom_frames(tmp_path / "atoms.safetensors")
    assert atoms.topology == molecule.topology
    assert atoms.segments.tolist() == [0, 2]
    assert atoms.time_step_ps is None


def test_a_frame_does_not_depend_on_those_beside_it(arguments, tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "one").mkdir()
    everything = backmap_frames({**arguments, "nearest": None}, tmp_path / "all")
    alone = backmap_frames({**arguments, "nearest": None, "frames": [2]}, tmp_path / "one")
    assert alone["frames"] == everything["frames"][2:]
    together = load_atom_frames(tmp_path / "all" / "atoms.safetensors")
    single = load_atom_frames(tmp_path / "one" / "atoms.safetensors")
    np.testing.assert_array_equal(together.positions_nm[-1:], single.positions_nm)


def test_nothing_accepted_leaves_no_file(arguments, tmp_path):
    result = backmap_frames({**arguments, "frames": [1]}, tmp_path)
    assert len(result["frames"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_files_that_do_not_fit_are_refused(arguments, molecule, dynamics, tmp_path):
    with pytest.raises(InputError, match="frame 7"):
        backmap_frames({**arguments, "frames": [7]}, tmp_path)
    short = AtomFrames(molecule.topology, dynamics[:2], np.zeros(2, dtype=np.int64))
    save_atom_frames(tmp_path / "short.safetensors", short)
    with pytest.raises(InputError, match="one nearest frame for each target"):
        backmap_frames({**arguments, "nearest": str(tmp_path / "short.safetensors")}, tmp_path)
