"""A potential in ASE and OpenMM: the same energies and forces, and dynamics that keep the laws."""

import sys
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from openmm import app, unit
from potential_molecules import TEMPERATURE_K, grow_chains
from scipy.spatial.transform import Rotation

from trajgen.data.readers import read_bead_structure
from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError, WorkError
from trajgen.potential.export import ase_calculator, openmm_force, openmm_system
from trajgen.potential.potential import Potential

ase = pytest.importorskip("ase", reason="ASE is an optional part of the installation")

from ase.calculators.fd import calculate_numerical_forces  # noqa: E402
from ase.md.verlet import VelocityVerlet  # noqa: E402

CPU = torch.device("cpu")
EV_IN_KJ_PER_MOL = 96.48533212331  # CODATA 2018: e times N_A, in kJ
KJ = unit.kilojoule_per_mole


def start(n_beads: int = 6, seed: int = 6) -> np.ndarray:
    """Return one chain, nm."""
    return grow_chains(1, n_beads, seed)[0]


def make_atoms(positions_nm: np.ndarray):
    """Return the beads as ASE knows them."""
    n = len(positions_nm)
    return ase.Atoms(f"C{n}", positions=10 * positions_nm, masses=[12.0] * n)


def make_context(potential: Potential | Path, integrator: openmm.Integrator, x_nm: np.ndarray):
    """Return a context on the platform that computes in float64 and repeats its results."""
    system, _ = openmm_system(potential, CPU)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(x_nm)
    return context


def openmm_answer(potential: Potential | Path, x_nm: np.ndarray) -> tuple[float, np.ndarray]:
    """Return energy (kJ/mol) and forces (kJ/mol/nm) as OpenMM has them."""
    state = make_context(potential, openmm.VerletIntegrator(0.001), x_nm).getState(
        getEnergy=True, getForces=True
    )
    forces = state.getForces(asNumpy=True).value_in_unit(KJ / unit.nanometer)
    return state.getPotentialEnergy().value_in_unit(KJ), forces


def ase_answer(potential: Potential | Path, x_nm: np.ndarray) -> tuple[float, np.ndarray]:
    """Return energy (kJ/mol) and forces (kJ/mol/nm) as ASE has them."""
    atoms = make_atoms(x_nm)
    atoms.calc = ase_calculator(potential, CPU)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    return energy * EV_IN_KJ_PER_MOL, forces * EV_IN_KJ_PER_MOL * 10


ANSWERS = pytest.mark.parametrize("answer", [ase_answer, openmm_answer])


@ANSWERS
def test_energy_and_forces_are_those_of_the_potential(make_potential, answer):
    potential = make_potential()
    for seed in range(5):
        x = start(seed=seed)
        energy, forces = answer(potential, x)
        expected, expected_forces = potential.energy_and_forces(torch.from_numpy(x)[None])
        assert energy == pytest.approx(expected.item(), rel=1e-7)
        np.testing.assert_allclose(forces, expected_forces[0], rtol=1e-7, atol=1e-5)


@ANSWERS
def test_a_checkpoint_gives_the_same_in_float32(make_potential, answer, tmp_path):
    potential = make_potential()
    potential.save(tmp_path / "potential", {})
    x = start()
    energy, forces = answer(tmp_path / "potential", x)
    exact = potential.energy_and_forces(torch.from_numpy(x)[None])
    largest = exact[1].abs().max().item()
    assert energy == pytest.approx(exact[0].item(), abs=1e-3)
    np.testing.assert_allclose(forces, exact[1][0], atol=1e-4 * largest)
    single = Potential.load(tmp_path / "potential", CPU)
    x32 = torch.from_numpy(x - x.mean(axis=0)).float()[None]
    assert energy == pytest.approx(single.energy(x32).item(), rel=1e-6)


def test_a_molecule_far_away_has_the_same_forces_turned_with_it(make_potential):
    potential, x = make_potential().float(), start()
    here = {answer: answer(potential, x) for answer in (ase_answer, openmm_answer)}

    @settings(max_examples=15)
    @given(turn=st.integers(0, 2**31), shift_nm=st.floats(-1e4, 1e4))
    def holds(turn: int, shift_nm: float) -> None:
        rotation = Rotation.random(rng=np.random.default_rng(turn)).as_matrix()
        for answer, (energy, forces) in here.items():
            moved_energy, moved_forces = answer(potential, x @ rotation.T + shift_nm)
            assert moved_energy == pytest.approx(energy, abs=2e-3)
            np.testing.assert_allclose(moved_forces, forces @ rotation.T, atol=0.5)

    holds()


def test_forces_are_the_slope_of_the_energy_in_the_units_of_ase(make_potential):
    atoms = make_atoms(start())
    atoms.calc = ase_calculator(make_potential(), CPU)
    numerical = calculate_numerical_forces(atoms, eps=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=1e-5)
    assert np.abs(numerical).max() > 0.01
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def ase_orbit(atoms, step_ps: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (nm) and total energies (kJ/mol) along an orbit of ASE's velocity Verlet."""
    positions, energies = [], []
    dynamics = VelocityVerlet(atoms, step_ps * 1000 * ase.units.fs)
    for _ in range(steps):
        dynamics.run(1)
        positions.append(atoms.positions / 10)
        energies.append(atoms.get_total_energy() * EV_IN_KJ_PER_MOL)
    return np.array(positions), np.array(energies)


def test_without_a_thermostat_ase_keeps_the_energy_to_second_order(make_potential):
    calculator = ase_calculator(make_potential(), CPU)
    spreads = []
    for step_ps, steps in ((0.002, 100), (0.001, 200)):
        atoms = make_atoms(start())
        atoms.calc = calculator
        spreads.append(ase_orbit(atoms, step_ps, steps)[1].std())
    assert spreads[1] < 0.5  # kJ/mol, of tens that change hands
    assert spreads[0] / spreads[1] == pytest.approx(4, rel=0.3)


def test_ase_and_openmm_follow_the_same_orbit(make_potential):
    potential, step_ps, steps, x = make_potential(), 0.002, 50, start()
    atoms = make_atoms(x)
    atoms.calc = ase_calculator(potential, CPU)
    expected, _ = ase_orbit(atoms, step_ps, steps)
    context = make_context(potential, openmm.VerletIntegrator(step_ps), x)
    # The leapfrog of OpenMM keeps velocities half a step back: at rest at time 0 they are this.
    context.setVelocities(-0.5 * step_ps / 12.0 * openmm_answer(potential, x)[1])
    followed = []
    for _ in range(steps):
        context.getIntegrator().step(1)
        place = context.getState(getPositions=True).getPositions(asNumpy=True)
        followed.append(place.value_in_unit(unit.nanometer))
    assert np.abs(expected[-1] - x).max() > 0.01
    np.testing.assert_allclose(followed, expected, atol=1e-6)


def test_the_langevin_dynamics_of_openmm_holds_temperature_and_bonds(make_potential):
    whole = make_potential()
    # The priors alone, whose bonds are known.
    potential = Potential(whole.settings.model_copy(update={"committee": 0}))
    potential.priors = whole.priors
    potential.float()
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE_K, 20.0, 0.002)
    integrator.setRandomNumberSeed(5)
    context = make_context(potential, integrator, start())
    context.setVelocitiesToTemperature(TEMPERATURE_K, 5)
    integrator.step(100)
    kinetic, bonds = [], []
    for _ in range(200):
        integrator.step(6)
        state = context.getState(getEnergy=True, getPositions=True)
        kinetic.append(state.getKineticEnergy().value_in_unit(KJ))
        place = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        bonds.append(np.linalg.norm(np.diff(place, axis=0), axis=-1))
    kT = unit.MOLAR_GAS_CONSTANT_R.value_in_unit(KJ / unit.kelvin) * TEMPERATURE_K
    assert np.mean(kinetic) == pytest.approx(1.5 * 6 * kT, rel=0.08)
    prior = potential.priors.bond
    np.testing.assert_allclose(np.mean(bonds, axis=0), prior.length_nm, atol=0.002)
    scaled = (np.array(bonds) - prior.length_nm.numpy()) ** 2 * prior.stiffness.numpy() / kT
    assert scaled.mean() == pytest.approx(1, rel=0.15)


def test_the_system_is_of_the_beads_as_the_simulations_have_them(make_potential, tmp_path):
    potential = make_potential("GYDPET")
    system, topology = openmm_system(potential, CPU)
    masses = [system.getParticleMass(i).value_in_unit(unit.amu) for i in range(6)]
    assert masses == [12.0] * 6
    assert system.getNumParticles() == topology.getNumAtoms() == 6
    assert [type(force) for force in system.getForces()] == [openmm.PythonForce]
    assert not system.usesPeriodicBoundaryConditions()
    assert topology.getPeriodicBoxVectors() is None
    bonds = tuple((bond[0].index, bond[1].index) for bond in topology.bonds())
    assert bonds == potential.topology.bonds
    x = start()
    with (tmp_path / "beads.pdb").open("w") as file:
        app.PDBFile.writeFile(topology, x * unit.nanometer, file, keepIds=True)
    read = read_bead_structure(tmp_path / "beads.pdb", potential.topology)
    np.testing.assert_allclose(read, x, atol=1e-4)


def test_the_mass_is_the_default_of_the_simulations_and_can_be_chosen(make_potential):
    from trajgen.potential.dynamics.settings import SimulationSettings

    potential = make_potential()
    chosen = openmm_system(potential, CPU, mass_amu=100.0)[0].getParticleMass(3)
    assert chosen.value_in_unit(unit.amu) == 100.0
    default = openmm_system(potential, CPU)[0].getParticleMass(3)
    assert default.value_in_unit(unit.amu) == SimulationSettings().mass_amu
    with pytest.raises(InputError, match="mass_amu is 0"):
        openmm_system(potential, CPU, mass_amu=0.0)


def test_several_beads_of_a_residue_and_several_chains_keep_their_places(make_potential):
    from trajgen.potential.export import _openmm_topology

    beads = BeadTopology(
        names=("CA", "CB", "CA", "CA"),
        residues=("ALA", "ALA", "GLY", "GLY"),
        residue_numbers=(4, 4, 5, 5),
        chains=(0, 0, 0, 1),
        bonds=((0, 1), (0, 2)),
    )
    topology = _openmm_topology(beads)
    found = [
        (a.name, a.residue.name, a.residue.id, a.residue.chain.index) for a in topology.atoms()
    ]
    assert found == [
        ("CA", "ALA", "4", 0),
        ("CB", "ALA", "4", 0),
        ("CA", "GLY", "5", 0),
        ("CA", "GLY", "5", 1),
    ]
    assert topology.getNumResidues() == 3
    assert [(a.index, b.index) for a, b in topology.bonds()] == [(0, 1), (0, 2)]


def test_residues_with_insertion_codes_stay_apart():
    from trajgen.potential.export import _openmm_topology

    beads = BeadTopology(
        names=("CA",) * 4,
        residues=("ALA", "GLY", "GLY", "TRP"),
        residue_numbers=(52, 52, 52, 53),  # 52, 52A, 52B, 53
        chains=(0,) * 4,
        bonds=((0, 1), (1, 2), (2, 3)),
    )
    residues = list(_openmm_topology(beads).residues())
    assert [residue.name for residue in residues] == ["ALA", "GLY", "GLY", "TRP"]
    assert [residue.id for residue in residues] == ["52", "52", "52", "53"]


def test_what_is_exported_does_not_follow_later_training(make_potential):
    potential, x = make_potential(), start()
    atoms = make_atoms(x)
    atoms.calc = ase_calculator(potential, CPU)
    context = make_context(potential, openmm.VerletIntegrator(0.001), x)
    before = ase_answer(potential, x)[0]
    potential.priors.bond.stiffness.mul_(2)
    assert abs(ase_answer(potential, x)[0] - before) > 0.01
    assert atoms.get_potential_energy() * EV_IN_KJ_PER_MOL == pytest.approx(before, rel=1e-7)
    energy = context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(KJ)
    assert energy == pytest.approx(before, rel=1e-7)


@pytest.mark.usefixtures("no_shape_checks")
def test_another_number_of_atoms_is_refused(make_potential):
    potential = make_potential()
    atoms = make_atoms(start(5))
    atoms.calc = ase_calculator(potential, CPU)
    message = "5 atoms came, and the potential is of 6 beads"
    with pytest.raises(InputError, match=message):
        atoms.get_forces()
    system = openmm.System()
    for _ in range(5):
        system.addParticle(12.0)
    system.addForce(openmm_force(potential, CPU))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001))
    context.setPositions(start(5))
    with pytest.raises(openmm.OpenMMException, match=message):
        context.getState(getForces=True)


def test_a_periodic_box_is_refused(make_potential):
    atoms = make_atoms(start())
    atoms.calc = ase_calculator(make_potential(), CPU)
    atoms.cell = [50, 50, 50]
    atoms.get_forces()  # a cell alone is no box
    atoms.pbc = (False, False, True)
    with pytest.raises(InputError, match=r"set atoms\.pbc = False"):
        atoms.get_forces()


def test_beads_on_each_other_end_the_work(make_potential):
    x = start()
    x[5] = x[0]
    atoms = make_atoms(x)
    atoms.calc = ase_calculator(make_potential(), CPU)
    with pytest.raises(WorkError, match="not finite"):
        atoms.get_potential_energy()
    with pytest.raises(openmm.OpenMMException, match="not finite"):
        openmm_answer(make_potential(), x)


def test_without_ase_the_way_to_get_it_is_named(make_potential, monkeypatch):
    monkeypatch.setitem(sys.modules, "ase", None)
    with pytest.raises(InputError, match=r"pip install -e '.\[ase\]'"):
        ase_calculator(make_potential(), CPU)


def test_a_force_is_never_pickled(make_potential):
    system, _ = openmm_system(make_potential(), CPU)
    with pytest.raises(openmm.OpenMMException, match="could not be pickled"):
        openmm.XmlSerializer.serialize(system)


def test_a_path_may_be_text(make_potential, tmp_path):
    make_potential().save(tmp_path / "potential", {})
    assert ase_calculator(str(tmp_path / "potential"), CPU) is not None


def test_a_path_without_a_potential_is_refused(tmp_path):
    for export in (ase_calculator, openmm_force, openmm_system):
        with pytest.raises(InputError, match="nowhere"):
            export(tmp_path / "nowhere", CPU)
