"""All-atom dynamics: energies of others reproduced, temperature, repeatability, force maps."""

from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app, unit

from al.molecule.build import build_system, create_system, load_force_field
from al.molecule.dynamics import (
    RESTRAINT_SCALE,
    DynamicsSettings,
    Recorded,
    current_positions,
    deterministic_platform,
    draw_velocities,
    minimise,
    new_context,
    potential_energy,
    record,
    restrain,
    run_steps,
    set_positions,
    steps_in,
)
from al.molecule.molecule import Molecule
from al.molecule.settings import SystemSettings
from trajgen.data.mapping import FORCE_MAPS, map_vectors, position_map
from trajgen.errors import InputError, WorkError
from trajgen.units import thermal_energy

_LONG_NM = 2.0


def build(folder: Path, **values: object) -> Molecule:
    chosen = SystemSettings.model_validate(
        {"name": "test", "sequence": "GAAG", "caps": True, "friction_per_ps": 10.0, **values}
    )
    build_system(chosen, folder, Path())
    return Molecule.load(folder)


@pytest.fixture(scope="module")
def rigid(tmp_path_factory: pytest.TempPathFactory) -> Molecule:
    """A tetrapeptide in vacuum with rigid bonds to hydrogen."""
    return build(tmp_path_factory.mktemp("rigid") / "system", solvent="none")


@pytest.fixture(scope="module")
def flexible(tmp_path_factory: pytest.TempPathFactory) -> Molecule:
    """The same without constraints."""
    return build(
        tmp_path_factory.mktemp("flexible") / "system",
        solvent="none",
        constraints="none",
        time_step_ps=0.001,
    )


def moving(molecule: Molecule, seed: int = 1, steps: int = 2000) -> openmm.Context:
    context = new_context(molecule.system, molecule.dynamics(), seed)
    set_positions(context, molecule.start("extended"))
    draw_velocities(context, molecule.settings.temperature_K, seed)
    run_steps(context, steps)
    return context


@pytest.mark.parametrize(
    ("file", "frames"),
    [("implicit-2olx-traj-arrays.npz", 200), ("implicit-2olx-traj-cpu-arrays.npz", 40)],
)
def test_published_energies_and_forces_are_reproduced(
    shared_data: Path, file: str, frames: int
) -> None:
    folder = shared_data / "nnqq_timewarp"
    chosen = SystemSettings(
        name="NNQQ",
        sequence="NNQQ",
        force_field=("amber99sbildn.xml", "amber99_obc.xml"),
        solvent="none",  # the second file is the solvent
        cutoff_nm=_LONG_NM,
        constraints="none",
        time_step_ps=0.0005,
        temperature_K=310.0,
    )
    topology = app.PDBFile(str(folder / "implicit-2olx-traj-state0.pdb")).topology
    system = create_system(chosen, load_force_field(chosen), topology)
    dynamics = DynamicsSettings(310.0, 0.3, chosen.time_step_ps)
    context = new_context(system, dynamics, seed=1)
    stored = np.load(folder / file)
    assert len(stored["positions"]) == frames
    for frame in range(0, frames, 10):
        context.setPositions(stored["positions"][frame].astype(np.float64))
        assert potential_energy(context) == pytest.approx(stored["energies"][frame, 0], abs=0.01)
        forces = context.getState(getForces=True).getForces(asNumpy=True)
        difference = forces.value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        assert np.abs(difference - stored["forces"][frame]).max() < 0.1


def test_same_seed_same_bits(rigid: Molecule) -> None:
    runs = [record(moving(rigid, seed, 100), 5, 10, rigid.topology.bonds) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].positions_nm, runs[1].positions_nm)
    np.testing.assert_array_equal(runs[0].forces, runs[1].forces)
    assert np.abs(runs[0].positions_nm - runs[2].positions_nm).max() > 0.01


def test_temperature_with_constraints_counted(rigid: Molecule) -> None:
    context = moving(rigid)
    system = context.getSystem()
    freedom = 3 * system.getNumParticles() - system.getNumConstraints()
    energies = []
    for _ in range(800):
        run_steps(context, 10)
        state = context.getState(getEnergy=True)
        energies.append(state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole))
    expected = freedom / 2 * thermal_energy(rigid.settings.temperature_K)
    assert np.mean(energies) == pytest.approx(expected, rel=0.03)
    # Kinetic energy of n degrees of freedom is gamma distributed: variance n/2 (kT)².
    spread = np.sqrt(freedom / 2) * thermal_energy(rigid.settings.temperature_K)
    assert np.std(energies) == pytest.approx(spread, rel=0.2)


def pair_virial(molecule: Molecule, force_map: np.ndarray, frames: Recorded) -> float:
    """Return the mean of (R_i - R_j)·(F_i - F_j) over neighbouring beads, in units of kT."""
    C = position_map(molecule.alpha_carbons, molecule.topology.n_atoms)
    R = map_vectors(C, frames.positions_nm).astype(np.float64)
    F = map_vectors(force_map, frames.forces).astype(np.float64)
    products = (np.diff(R, axis=1) * np.diff(F, axis=1)).sum(axis=-1)
    return float(products.mean() / thermal_energy(molecule.settings.temperature_K))


def test_force_maps_agree_without_constraints_only(rigid: Molecule, flexible: Molecule) -> None:
    """A valid force map obeys <(R_i - R_j)·(F_i - F_j)> = -6 kT for every pair of beads.

    Bead forces average to this, whatever the potential (integration by parts of the Boltzmann
    density). With rigid bonds to hydrogen the force on CA alone lacks that of the constraint.
    """
    C = position_map(rigid.alpha_carbons, rigid.topology.n_atoms)
    aggregate = FORCE_MAPS["aggregate"](C, rigid.constraint_groups)
    sliced = FORCE_MAPS["slice"](C, rigid.constraint_groups)
    assert aggregate.sum(axis=1).tolist() == [3, 2, 2, 3]  # CA and its hydrogens
    assert flexible.constraint_groups == ()
    free = record(moving(flexible, 3), 5000, 2, flexible.topology.bonds)
    held = record(moving(rigid, 3), 4000, 1, rigid.topology.bonds)
    # The spread over seeds of runs of this length is about 0.6 kT.
    assert pair_virial(flexible, sliced, free) == pytest.approx(-6.0, abs=2.0)
    assert pair_virial(flexible, aggregate, free) == pytest.approx(-6.0, abs=2.0)
    assert pair_virial(rigid, aggregate, held) == pytest.approx(-6.0, abs=2.0)
    assert pair_virial(rigid, sliced, held) < -8.5


def test_saved_forces_are_those_of_the_saved_positions(rigid: Molecule) -> None:
    frames = record(moving(rigid), 3, 20, rigid.topology.bonds)
    context = new_context(rigid.system, rigid.dynamics(), seed=0)
    for place, force in zip(frames.positions_nm, frames.forces, strict=True):
        np.testing.assert_allclose(place.mean(axis=0), 0.0, atol=1e-5)
        context.setPositions(place.astype(np.float64))
        again = context.getState(getForces=True).getForces(asNumpy=True)
        np.testing.assert_allclose(again / again.unit, force, atol=1.0)
        assert np.abs(force).max() > 1000.0


def test_restraints_hold_and_let_go(rigid: Molecule) -> None:
    held = list(rigid.alpha_carbons)
    targets = rigid.start("extended")[held].astype(np.float64) + np.array([0.02, 0.0, 0.0])
    system = rigid.system
    restrain(system, held, targets, 1e5)
    context = new_context(system, rigid.dynamics(), seed=1)
    set_positions(context, rigid.start("extended"))
    minimise(context)
    assert np.abs(current_positions(context)[held] - targets).max() < 0.002
    strained = potential_energy(context)
    context.setParameter(RESTRAINT_SCALE, 0.0)
    assert potential_energy(context) <= strained
    assert rigid.system.getNumForces() == system.getNumForces() - 1  # the molecule is unchanged


def test_explosion_is_a_failure_of_the_work(rigid: Molecule) -> None:
    context = new_context(rigid.system, rigid.dynamics(), seed=1)
    overlapping = rigid.start("extended").copy()
    overlapping[-20:] = overlapping[:20] + np.float32(1e-3)
    context.setPositions(overlapping.astype(np.float64))
    draw_velocities(context, 300.0, 1)
    with pytest.raises(WorkError, match="all-atom dynamics"):
        record(context, 5, 10, rigid.topology.bonds)


def test_times_are_whole_numbers_of_steps() -> None:
    assert steps_in(1.0, 0.004, "x") == 250
    assert steps_in(0.0, 0.004, "x") == 0
    with pytest.raises(InputError, match=r"save_interval_ps is 0\.5, no multiple of 0\.3 ps"):
        steps_in(0.5, 0.3, "save_interval_ps")


def test_a_device_that_is_not_there_is_named() -> None:
    names = {
        openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())
    }
    if "CUDA" in names:
        pytest.skip("this installation has CUDA")
    with pytest.raises(InputError, match=r"device 'cuda' .* pip install -e '\.\[cuda\]'"):
        deterministic_platform("cuda")
