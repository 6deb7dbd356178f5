"""Atoms pulled onto target beads: staged minimisation with restrained alpha carbons.

The first stages keep the bonded terms of the force field and replace everything non-bonded by a
soft repulsion, so that atoms that overlap or block each other's way can pass. The later stages
bring the full force field back while the restraints grow.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from jaxtyping import Float
from openmm import unit

from al.backmapping.peptide_bonds import PeptideBond
from al.backmapping.settings import PullSettings
from al.molecule.dynamics import (
    RESTRAINT_SCALE,
    DynamicsSettings,
    current_positions,
    draw_velocities,
    minimise,
    new_context,
    potential_energy,
    restrain,
    run_steps,
    set_positions,
)
from al.molecule.molecule import Molecule
from trajgen.errors import InputError
from trajgen.seeding import derive_seed

_STRAIN = (openmm.HarmonicBondForce, openmm.HarmonicAngleForce)
_BONDED = (
    *_STRAIN,
    openmm.PeriodicTorsionForce,
    openmm.RBTorsionForce,
    openmm.CMAPTorsionForce,
    openmm.CustomBondForce,
    openmm.CustomAngleForce,
    openmm.CustomTorsionForce,
)
#: Stiffness of the soft repulsion, kJ/mol/nm²: two carbons on top of each other cost some 30 kT at
#: 300 K, enough to drive them apart and too little to tear bonds.
_SOFT_KJ_PER_MOL_NM2 = 1.5e3
#: Atoms repel below this part of the mean of their Lennard-Jones diameters.
_SOFT_CONTACT = 0.9
_SOFT_CUTOFF_NM = 0.4
#: Height k of k (1 + cos omega). The force field's own barrier, about 84 sin²(omega) kJ/mol, makes
#: cis a minimum; k above 170 kJ/mol undoes that.
_TRANS_KJ_PER_MOL = 300.0
_STRAIN_GROUP = 30


@dataclass(frozen=True, eq=False)
class Pulled:
    """What pulling gave.

    Attributes:
        positions_nm: all atoms.
        energy_kJ_per_mol: potential energy of the force field, without the restraints.
        strain_kJ_per_mol: the part of it that sits in bonds and angles. It is zero in an ideal
            geometry, whatever the molecule, so a torn chain or a pierced ring shows in it.
    """

    positions_nm: Float[np.ndarray, "atoms 3"]
    energy_kJ_per_mol: float
    strain_kJ_per_mol: float


def pull_softly(
    start_nm: Float[np.ndarray, "atoms 3"],
    target_nm: Float[np.ndarray, "beads 3"],
    molecule: Molecule,
    must_be_trans: list[PeptideBond],
    settings: PullSettings,
    seed: int,
) -> Float[np.ndarray, "atoms 3"]:
    """Pull a structure onto target beads while its atoms can pass each other (nm).

    Args:
        start_nm: all atoms, laid over the target.
        target_nm: where the alpha carbons have to go.
        molecule: the molecule.
        must_be_trans: peptide bonds that are turned to trans, from ``trans_bonds``.
        settings: the stages.
        seed: seed of the annealing.

    Raises:
        WorkError: the coordinates became NaN.
    """
    strengths = settings.soft_kJ_per_mol_nm2
    system, beads = soft_system(molecule, must_be_trans), molecule.alpha_carbons
    context = _restrained(system, target_nm, beads, strengths, settings, seed)
    set_positions(context, start_nm)
    _ramp(context, strengths, [settings.stage_iterations] * len(strengths))
    if settings.annealing_steps > 0:
        draw_velocities(
            context, settings.annealing_temperature_K, derive_seed(seed, "annealing velocities")
        )
        run_steps(context, settings.annealing_steps)
    return current_positions(context)


def pull(
    start_nm: Float[np.ndarray, "atoms 3"],
    target_nm: Float[np.ndarray, "held 3"],
    molecule: Molecule,
    settings: PullSettings,
    held: Sequence[int] | None = None,
) -> Pulled:
    """Pull a structure onto target positions in the full force field.

    Args:
        start_nm: all atoms, laid over the target.
        target_nm: where the held atoms have to go.
        molecule: the molecule.
        settings: the stages.
        held: those atoms; None for the alpha carbons.

    Raises:
        WorkError: the energy became NaN or infinite.
    """
    system = molecule.system
    for force in system.getForces():
        if isinstance(force, _STRAIN):
            force.setForceGroup(_STRAIN_GROUP)
    strengths = settings.full_kJ_per_mol_nm2
    atoms = molecule.alpha_carbons if held is None else held
    context = _restrained(system, target_nm, atoms, strengths, settings, seed=0)
    set_positions(context, start_nm)
    stages = [settings.stage_iterations] * (len(strengths) - 1)
    _ramp(context, strengths, [*stages, settings.final_iterations])
    context.setParameter(RESTRAINT_SCALE, 0.0)
    strain = context.getState(getEnergy=True, groups={_STRAIN_GROUP}).getPotentialEnergy()
    return Pulled(
        positions_nm=current_positions(context),
        energy_kJ_per_mol=potential_energy(context),
        strain_kJ_per_mol=float(strain.value_in_unit(unit.kilojoule_per_mole)),
    )


def soft_system(molecule: Molecule, must_be_trans: list[PeptideBond]) -> openmm.System:
    """Return the molecule's system with a soft repulsion in place of all non-bonded forces.

    Args:
        molecule: the molecule.
        must_be_trans: peptide bonds that get a torsion which leaves them no minimum at cis.

    Raises:
        InputError: the system has no Lennard-Jones diameters.
    """
    source = molecule.system
    system = openmm.System()
    for particle in range(source.getNumParticles()):
        system.addParticle(source.getParticleMass(particle))
    for constraint in range(source.getNumConstraints()):
        system.addConstraint(*source.getConstraintParameters(constraint))
    for force in source.getForces():
        if isinstance(force, _BONDED):
            system.addForce(copy.deepcopy(force))
    torsion = openmm.PeriodicTorsionForce()
    for bond in must_be_trans:
        torsion.addTorsion(*bond, 1, 0.0, _TRANS_KJ_PER_MOL)
    system.addForce(torsion)
    repulsion = openmm.CustomNonbondedForce(
        f"{_SOFT_KJ_PER_MOL_NM2 / 2}*max(0, {_SOFT_CONTACT / 2}*(sigma1+sigma2)-r)^2"
    )
    repulsion.addPerParticleParameter("sigma")
    for sigma_nm in _diameters_nm(source):
        repulsion.addParticle([sigma_nm])
    repulsion.createExclusionsFromBonds(molecule.topology.bonds, 3)
    repulsion.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffNonPeriodic)
    repulsion.setCutoffDistance(_SOFT_CUTOFF_NM)
    system.addForce(repulsion)
    return system


def _diameters_nm(system: openmm.System) -> list[float]:
    """Return the Lennard-Jones diameter of each atom, zero where it has no such force."""
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            parameters = [force.getParticleParameters(i) for i in range(force.getNumParticles())]
            return [
                sigma.value_in_unit(unit.nanometer)
                if depth.value_in_unit(unit.kilojoule_per_mole) > 0
                else 0.0
                for _, sigma, depth in parameters
            ]
    raise InputError("the system has no NonbondedForce, which backmapping takes atom sizes from")


def _restrained(
    system: openmm.System,
    target_nm: np.ndarray,
    atoms: Sequence[int],
    strengths: Sequence[float],
    settings: PullSettings,
    seed: int,
) -> openmm.Context:
    restrain(system, atoms, target_nm, strengths[-1])
    dynamics = DynamicsSettings(
        temperature_K=settings.annealing_temperature_K,
        friction_per_ps=settings.annealing_friction_per_ps,
        time_step_ps=settings.annealing_step_ps,
    )
    return new_context(system, dynamics, derive_seed(seed, "annealing"))


def _ramp(context: openmm.Context, strengths: Sequence[float], iterations: Sequence[int]) -> None:
    for strength, count in zip(strengths, iterations, strict=True):
        context.setParameter(RESTRAINT_SCALE, strength / strengths[-1])
        minimise(context, count)
