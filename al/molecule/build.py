"""From settings to a folder with everything that all-atom dynamics needs."""

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openmm
import yaml
from openmm import app, unit
from safetensors.numpy import save_file

from al.molecule.dynamics import (
    DynamicsSettings,
    MinimisationLines,
    current_positions,
    minimise,
    new_context,
    set_positions,
)
from al.molecule.molecule import (
    LAYOUT_VERSION,
    SETTINGS_FILE,
    STARTS_FILE,
    SYSTEM_FILE,
    TOPOLOGY_FILE,
    constraint_groups,
)
from al.molecule.pdb_file import read_structure
from al.molecule.peptide import build_peptide, extended_backbone
from al.molecule.settings import SystemSettings
from al.molecule.side_chains import spread_side_chains
from al.molecule.structure import Structure, atom_topology, check_overlap, check_structure
from trajgen.errors import InputError, TrajgenError
from trajgen.files import require_output, whole_folder

logger = logging.getLogger(__name__)

#: Heavy atoms that start nearer than this may pass through each other when they are minimised.
_SMALLEST_BUILT_CONTACT_NM = 0.1
#: Seed of the places that new hydrogens take before they are minimised.
_PLACEMENT_SEED = 1


def build_system(settings: SystemSettings, out: Path, base: Path) -> Path:
    """Build a system and write its folder whole.

    The folder holds ``topology.pdb`` (all atoms, first start), ``starts/NAME.pdb`` to look at and
    ``starts.safetensors`` to compute with, ``system.xml`` (OpenMM system with its constraints and
    masses), and ``system.yaml`` (resolved settings, integrator, constraint groups).

    Args:
        settings: what to build.
        out: the folder; it must not exist.
        base: folder that a relative path of a PDB file starts from.

    Raises:
        InputError: the molecule cannot be built from what was given.
    """
    require_output(out)
    force_field = load_force_field(settings)
    structures = build_structures(settings, force_field, base)
    first = next(iter(structures.values()))
    atoms = atom_topology(first.topology)
    system = create_system(settings, force_field, first.topology)
    positions = {
        name: _minimised(system, structure.positions_nm, settings, f"start '{name}'")
        for name, structure in structures.items()
    }
    for name, place in positions.items():
        check_structure(atoms, place, f"{settings.name}, start '{name}'")
    with whole_folder(out) as folder:
        _write_pdb(folder / TOPOLOGY_FILE, first.topology, next(iter(positions.values())))
        (folder / "starts").mkdir()
        for name, place in positions.items():
            _write_pdb(folder / "starts" / f"{name}.pdb", first.topology, place)
        save_file(positions, folder / STARTS_FILE)
        (folder / SYSTEM_FILE).write_text(openmm.XmlSerializer.serialize(system), encoding="utf-8")
        text = yaml.safe_dump(_description(settings, system), sort_keys=False)
        (folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
    logger.info(
        "built %s: %d atoms, %d residues, starts %s",
        settings.name, atoms.n_atoms, len(atoms.residues), ", ".join(positions),
    )  # fmt: skip
    return out


def load_force_field(settings: SystemSettings) -> app.ForceField:
    """Read the force-field files.

    Raises:
        InputError: OpenMM knows no such file, or cannot read it.
    """
    try:
        return app.ForceField(*settings.force_field_files)
    except (ValueError, OSError, SyntaxError) as error:
        raise InputError(f"force_field {list(settings.force_field)}: {error}") from error


def build_structures(
    settings: SystemSettings, force_field: app.ForceField, base: Path
) -> dict[str, Structure]:
    """Build all starts with hydrogens; they share atoms, their order and their protonation.

    Raises:
        InputError: a start cannot be built.
    """
    if settings.pdb is not None:
        heavy = {name: read_structure(base / settings.pdb) for name in settings.starts}
    else:
        sequence = settings.sequence or ""
        heavy = {}
        for name, start in settings.starts.items():
            backbone = extended_backbone(sequence) if isinstance(start, str) else start
            built = spread_side_chains(build_peptide(sequence, backbone, settings.caps))
            where = f"{settings.name}, start '{name}'"
            check_overlap(
                atom_topology(built.topology), built.positions_nm, _SMALLEST_BUILT_CONTACT_NM, where
            )
            heavy[name] = built
    variants: Sequence[str | None] | None = None
    structures = {}
    for name, structure in heavy.items():
        structures[name], variants = add_hydrogens(structure, force_field, settings.ph, variants)
    return structures


def add_hydrogens(
    structure: Structure,
    force_field: app.ForceField,
    ph: float,
    variants: Sequence[str | None] | None = None,
) -> tuple[Structure, Sequence[str | None]]:
    """Add hydrogens; return the structure and the protonation variant of each residue.

    Args:
        structure: heavy atoms.
        force_field: places the hydrogens.
        ph: decides the protonation states.
        variants: variants to take instead, as an earlier call returned them.

    Raises:
        InputError: the force field does not know a residue.
    """
    modeller = app.Modeller(structure.topology, structure.positions_nm * unit.nanometer)
    platform = openmm.Platform.getPlatformByName("Reference")
    try:
        with _placed_by(_PLACEMENT_SEED):
            chosen = modeller.addHydrogens(force_field, pH=ph, variants=variants, platform=platform)
    except ValueError as error:
        raise InputError(f"hydrogens cannot be added: {error}") from error
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer), dtype=np.float64)
    return Structure(modeller.topology, positions), chosen


def create_system(
    settings: SystemSettings, force_field: app.ForceField, topology: app.Topology
) -> openmm.System:
    """Make the OpenMM system.

    Raises:
        InputError: the force field has no parameters for a residue.
    """
    cutoff = settings.cutoff_nm
    try:
        return force_field.createSystem(
            topology,
            nonbondedMethod=app.NoCutoff if cutoff is None else app.CutoffNonPeriodic,
            nonbondedCutoff=(cutoff or 1.0) * unit.nanometer,
            constraints=app.HBonds if settings.constraints == "h-bonds" else None,
            rigidWater=False,
            hydrogenMass=settings.hydrogen_mass_amu * unit.amu,
            # The thermostat acts on the centre of mass as well; removing its motion would cool it.
            removeCMMotion=False,
        )
    except ValueError as error:
        raise InputError(f"{settings.name}: {error}") from error


@contextmanager
def _placed_by(seed: int) -> Iterator[None]:
    """Seed the module ``random``, from which OpenMM draws first places of hydrogens."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _minimised(
    system: openmm.System, positions_nm: np.ndarray, settings: SystemSettings, what: str
) -> np.ndarray:
    dynamics = DynamicsSettings(
        settings.temperature_K, settings.friction_per_ps, settings.time_step_ps
    )
    context = new_context(system, dynamics, seed=0)
    set_positions(context, positions_nm)
    atoms = len(positions_nm)
    logger.info("%s, %s: minimising %d atoms", settings.name, what, atoms)
    try:
        energy = minimise(context, lines=MinimisationLines(f"{settings.name}, {what}"))
    except TrajgenError as error:
        raise InputError(f"{settings.name}, {what}: {error}; choose another start") from error
    logger.info("%s, %s: %.1f kJ/mol after minimisation", settings.name, what, energy)
    place = np.asarray(current_positions(context))
    return place - place.mean(axis=0)


def _write_pdb(path: Path, topology: app.Topology, positions_nm: np.ndarray) -> None:
    with path.open("w", encoding="utf-8") as file:
        app.PDBFile.writeFile(topology, positions_nm * unit.nanometer, file, keepIds=True)


def _description(settings: SystemSettings, system: openmm.System) -> dict[str, object]:
    return {
        "layout_version": LAYOUT_VERSION,
        "settings": settings.model_dump(mode="json"),
        "hamiltonian": settings.hamiltonian,
        "integrator": {
            "kind": "LangevinMiddle",
            "temperature_K": settings.temperature_K,
            "friction_per_ps": settings.friction_per_ps,
            "time_step_ps": settings.time_step_ps,
        },
        "degrees_of_freedom": 3 * system.getNumParticles() - system.getNumConstraints(),
        "constraint_groups": [list(group) for group in constraint_groups(system)],
        "openmm": openmm.version.version,
    }
