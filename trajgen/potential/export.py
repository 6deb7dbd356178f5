"""A fitted potential inside ASE and OpenMM: for their integrators, minimisers and samplers.

Both ask for energy and forces of one molecule a call, with float64 coordinates on the CPU. A call
takes as long as one chain does; many chains together belong to ``simulate``. This file is the one
place of the room that imports either package; ASE is an optional part of the installation.
"""

import copy
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openmm
import torch
from jaxtyping import Float, Float64
from openmm import app, unit

from trajgen.data.topology import BeadTopology
from trajgen.errors import InputError, WorkError
from trajgen.potential.dynamics.force_field import EnergiesAndForces, force_field
from trajgen.potential.potential import Potential

if TYPE_CHECKING:
    import ase.calculators.calculator

#: Mass of a bead, the default of ``SimulationSettings``.
BEAD_MASS_AMU = 12.0


def ase_calculator(
    potential: Path | str | Potential, device: torch.device
) -> "ase.calculators.calculator.Calculator":
    """Return a calculator of energy (eV) and forces (eV/Å) for ``ase.Atoms`` of the beads.

    The atoms are the beads in their order, without a periodic box. Their element means nothing,
    their masses are the caller's choice::

        beads = ase.Atoms(f"C{n}", 10 * positions_nm, masses=[12.0] * n)
        beads.calc = ase_calculator(Path("potential"), torch.device("cpu"))

    Args:
        potential: a checkpoint, read in float32, or a potential, copied in its own precision.
        device: where to compute.

    Raises:
        InputError: ASE is not installed, or the checkpoint cannot be read; at a calculation, other
            atoms than the beads, or a periodic box.
        WorkError: at a calculation, an energy or a force that is not finite.
    """
    try:
        from ase import Atoms, units
        from ase.calculators.calculator import Calculator, all_changes
    except ImportError as error:
        raise InputError(
            "ASE is not installed, and a calculator for it is wanted; install the extra with "
            "pip install -e '.[ase]' in the clone of trajgen"
        ) from error
    model = _evaluated(potential, device)
    field = force_field(model)
    energy_unit = units.kJ / units.mol

    class BeadCalculator(Calculator):
        """Energy and forces of the beads of one potential."""

        implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012

        def calculate(
            self,
            atoms: Atoms | None = None,
            properties: list[str] | tuple[str, ...] = ("energy",),
            system_changes: list[str] | tuple[str, ...] = tuple(all_changes),
        ) -> None:
            """Fill ``results``; all properties come at the cost of one."""
            super().calculate(atoms, list(properties), list(system_changes))
            if self.atoms.pbc.any():
                raise InputError(
                    f"the atoms are periodic (pbc {self.atoms.pbc.tolist()}), and a potential is "
                    "of one molecule without a box; set atoms.pbc = False"
                )
            energy, forces = _energy_and_forces(model, field, self.atoms.positions / units.nm)
            self.results = {
                "energy": energy * energy_unit,
                "free_energy": energy * energy_unit,
                "forces": forces * (energy_unit / units.nm),
            }

    return BeadCalculator()


def openmm_force(potential: Path | str | Potential, device: torch.device) -> openmm.PythonForce:
    """Return a force for an OpenMM system whose particles are the beads in their order.

    OpenMM could write such a force to XML only by pickling it, which it refuses here; states and
    checkpoints of a simulation can be saved as ever.

    Args:
        potential: a checkpoint, read in float32, or a potential, copied in its own precision.
        device: where to compute; the platform of OpenMM is chosen apart from it.

    Raises:
        InputError: the checkpoint cannot be read.
    """
    model = _evaluated(potential, device)
    field = force_field(model)

    def compute(state: openmm.State) -> tuple[float, np.ndarray]:
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        return _energy_and_forces(model, field, positions)

    force = openmm.PythonForce(compute)
    force.setName("trajgen potential")
    return force


def openmm_system(
    potential: Path | str | Potential, device: torch.device, mass_amu: float = BEAD_MASS_AMU
) -> tuple[openmm.System, app.Topology]:
    """Return a system of the beads under the potential, without a box, and its topology::

        system, topology = openmm_system(Path("potential"), torch.device("cpu"))
        integrator = openmm.LangevinMiddleIntegrator(350, 1, 0.004)  # K, 1/ps, ps
        simulation = app.Simulation(topology, system, integrator)
        simulation.context.setPositions(start_nm)
        simulation.step(1000)

    Nothing removes the motion of the centre of mass, which a thermostat acts on as well.

    Args:
        potential: a checkpoint, read in float32, or a potential, copied in its own precision.
        device: where to compute; the platform of OpenMM is chosen apart from it.
        mass_amu: mass of every bead.

    Raises:
        InputError: the mass is not above 0, or the checkpoint cannot be read.
    """
    if not mass_amu > 0:
        raise InputError(f"mass_amu is {mass_amu}; wanted is a mass above 0, such as 12")
    model = _evaluated(potential, device)
    system = openmm.System()
    for _ in range(model.topology.n_beads):
        system.addParticle(mass_amu)
    system.addForce(openmm_force(model, device))
    return system, _openmm_topology(model.topology)


def _evaluated(potential: Path | str | Potential, device: torch.device) -> Potential:
    """Return a potential of one's own, which what becomes of the given one does not change."""
    if not isinstance(potential, Potential):
        return Potential.load(Path(potential), device)
    return copy.deepcopy(potential).to(device).requires_grad_(False).eval()


def _energy_and_forces(
    potential: Potential, field: EnergiesAndForces, positions_nm: Float[np.ndarray, "beads 3"]
) -> tuple[float, Float64[np.ndarray, "beads 3"]]:
    """Return energy, kJ/mol, and forces, kJ/mol/nm, of one molecule."""
    topology = potential.topology
    if positions_nm.shape != (topology.n_beads, 3):
        raise InputError(
            f"{len(positions_nm)} atoms came, and the potential is of {topology.n_beads} beads "
            f"({topology.sequence}); give one atom for each bead"
        )
    # A molecule that drifted away would lose digits in float32.
    centred = torch.from_numpy(positions_nm - positions_nm.mean(axis=0))
    dtype = potential.priors.bond.stiffness.dtype
    energy, forces = field(centred.to(potential.device, dtype)[None])
    if not (energy.isfinite().all() and forces.isfinite().all()):
        raise WorkError(
            f"the energy ({energy.item():g} kJ/mol) or a force is not finite; beads lie on each "
            "other or have flown apart: start elsewhere, or take a shorter time step"
        )
    return energy.item(), forces[0].double().cpu().numpy()


def _openmm_topology(beads: BeadTopology) -> app.Topology:
    """Return chains, residues, bead names and bonds; every bead counts as a carbon."""
    topology = app.Topology()
    carbon = app.element.carbon
    atoms = []
    for _, in_chain in groupby(range(beads.n_beads), lambda i: beads.chains[i]):
        chain = topology.addChain()
        names: set[str] = set()
        before: tuple[int, str] | None = None
        for bead in in_chain:
            label = (beads.residue_numbers[bead], beads.residues[bead])
            # A name that comes again is of another residue: of 52A behind 52, both numbered 52.
            if label != before or beads.names[bead] in names:
                residue = topology.addResidue(label[1], chain, id=str(label[0]))
                names, before = set(), label
            names.add(beads.names[bead])
            atoms.append(topology.addAtom(beads.names[bead], carbon, residue))
    for i, j in beads.bonds:
        topology.addBond(atoms[i], atoms[j])
    return topology
