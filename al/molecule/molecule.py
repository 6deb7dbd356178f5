"""A built system, read from its folder: what all-atom work starts from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from jaxtyping import Float32
from openmm import app
from safetensors import SafetensorError
from safetensors.numpy import load_file

from al.molecule.dynamics import Device, DynamicsSettings
from al.molecule.settings import SystemSettings
from al.molecule.structure import atom_topology
from trajgen.data.mapping import alpha_carbon_beads, merge_groups
from trajgen.data.store import DatasetHeader
from trajgen.data.topology import AtomTopology
from trajgen.errors import InputError
from trajgen.files import sha256_of
from trajgen.settings import parse_settings, read_yaml

LAYOUT_VERSION = 1
SETTINGS_FILE = "system.yaml"
SYSTEM_FILE = "system.xml"
TOPOLOGY_FILE = "topology.pdb"
STARTS_FILE = "starts.safetensors"


@dataclass(frozen=True)
class Molecule:
    """An all-atom system that is ready to move.

    Attributes:
        settings: what it was built from.
        topology: the atoms.
        system_xml: the serialized OpenMM system.
        constraint_groups: atoms that rigid constraints tie together, read from the system.
        starts: minimised conformations by name, nm.
        alpha_carbons: atom index of each bead.
    """

    settings: SystemSettings
    topology: AtomTopology
    system_xml: str
    constraint_groups: tuple[tuple[int, ...], ...]
    starts: dict[str, Float32[np.ndarray, "atoms 3"]]
    alpha_carbons: tuple[int, ...]

    @classmethod
    def load(cls, folder: Path) -> "Molecule":
        """Read the folder that ``al build`` wrote.

        Raises:
            InputError: a file is missing, damaged, or does not fit the others.
        """
        content = read_layout(folder)
        settings = parse_settings(
            SystemSettings, content.get("settings", {}), str(folder / SETTINGS_FILE)
        )
        topology = _read_topology(folder / TOPOLOGY_FILE)
        atoms = atom_topology(topology)
        xml = _read_text(folder / SYSTEM_FILE)
        system = _deserialize(xml, folder / SYSTEM_FILE)
        starts = _read_starts(folder / STARTS_FILE, list(settings.starts))
        counts = {SYSTEM_FILE: system.getNumParticles()} | {
            f"start '{name}'": len(positions) for name, positions in starts.items()
        }
        for what, count in counts.items():
            if count != atoms.n_atoms:
                raise InputError(
                    f"{folder}: {what} has {count} atoms, {TOPOLOGY_FILE} has {atoms.n_atoms}; "
                    "build the system again"
                )
        return cls(
            settings=settings,
            topology=atoms,
            system_xml=xml,
            constraint_groups=constraint_groups(system),
            starts=starts,
            alpha_carbons=alpha_carbon_beads(atoms)[1],
        )

    @property
    def system(self) -> openmm.System:
        """The OpenMM system: a new copy at each call, which the caller may change."""
        return openmm.XmlSerializer.deserialize(self.system_xml)

    def dynamics(self, device: Device = "cpu", attempt: int = 0) -> DynamicsSettings:
        """Return how this system moves; each further ``attempt`` halves the time step."""
        return DynamicsSettings(
            temperature_K=self.settings.temperature_K,
            friction_per_ps=self.settings.friction_per_ps,
            time_step_ps=self.settings.time_step_ps / 2**attempt,
            device=device,
        )

    def start(self, name: str) -> Float32[np.ndarray, "atoms 3"]:
        """Return a start by name.

        Raises:
            InputError: there is no such start.
        """
        if name not in self.starts:
            raise InputError(
                f"{self.settings.name} has no start '{name}'; known: {', '.join(self.starts)}"
            )
        return self.starts[name]

    def dataset_header(self) -> DatasetHeader:
        """Return what a dataset of this molecule is of."""
        beads, bead_atoms = alpha_carbon_beads(self.topology)
        return DatasetHeader(beads=beads, atoms=self.topology, bead_atoms=bead_atoms)


def system_digest(folder: Path) -> str:
    """Return a hash of what decides the dynamics of a built system: forces, settings and starts."""
    hashes = (sha256_of(folder / name) for name in (SYSTEM_FILE, SETTINGS_FILE, STARTS_FILE))
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def constraint_groups(system: openmm.System) -> tuple[tuple[int, ...], ...]:
    """Return the groups of atoms that the constraints of an OpenMM system tie together."""
    pairs = [system.getConstraintParameters(i)[:2] for i in range(system.getNumConstraints())]
    return merge_groups(pairs)


def read_layout(folder: Path) -> dict[str, Any]:
    """Read ``system.yaml`` and check its layout version.

    Raises:
        InputError: the folder holds no built system, or one of another layout.
    """
    if not (folder / SETTINGS_FILE).is_file():
        raise InputError(f"{folder} holds no {SETTINGS_FILE}; make a system with 'al build'")
    content = read_yaml(folder / SETTINGS_FILE)
    version = content.get("layout_version")
    if version != LAYOUT_VERSION:
        raise InputError(
            f"{folder} has layout version {version}; this release reads {LAYOUT_VERSION}: "
            "build the system again"
        )
    return content


def _read_topology(path: Path) -> app.Topology:
    if not path.is_file():
        raise InputError(f"{path} is missing; build the system again")
    try:
        return app.PDBFile(str(path)).topology
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"{path} is damaged ({error}); build the system again") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; build the system again") from error


def _deserialize(xml: str, path: Path) -> openmm.System:
    try:
        return openmm.XmlSerializer.deserialize(xml)
    except (openmm.OpenMMException, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); build the system again") from error


def _read_starts(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    try:
        arrays = load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise InputError(f"{path} is missing or damaged ({error}); build again") from error
    if set(arrays) != set(names):
        raise InputError(f"{path} holds {sorted(arrays)}, wanted are {sorted(names)}; build again")
    return {name: arrays[name].astype(np.float32) for name in names}
