"""Bond lengths and angles of a molecule that was never seen, from residues alike that were.

A single structure says how long bonds are at one moment, or where its energy is lowest. A residue
of the same kind at the same place of a chain, in the frames of a training, says it in the mean.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trajgen.residues import CAPS, standard_name
from trajgen.surrogate.backbone_chain import BackboneChain
from trajgen.surrogate.resolutions import AllHeavyAtoms, chain_runs

#: Name of a residue, names of its atoms, and what it is bonded to before and behind.
_Kind = tuple[str, frozenset[str], str, str]


def with_geometry_of_similar(
    molecule: AllHeavyAtoms, known: Sequence[AllHeavyAtoms]
) -> AllHeavyAtoms:
    """Return a molecule with the geometry of residues alike, in the mean over those that are known.

    Alike are residues of one name with the same atoms, between neighbours of the same sort: none,
    a cap, or a residue, and behind them proline or another one, whose bond to them differs. Where
    there is none alike a residue keeps its own geometry.

    Args:
        molecule: all heavy atoms, with bond lengths and angles of one structure.
        known: molecules whose geometry is a mean over frames.
    """
    seen: dict[_Kind, list[dict[str, Tensor]]] = {}
    for other in known:
        for residue, kind in enumerate(_kinds(other)):
            seen.setdefault(kind, []).append(_geometry_of(other, residue))
    geometry = molecule.geometry
    local_nm, backbone_nm = geometry.local_nm.clone(), geometry.backbone_nm.clone()
    lengths_nm = torch.cat([chain.lengths_nm for chain in molecule.chains])
    angles = torch.cat([chain.angles for chain in molecule.chains])
    rings_nm = geometry.rings_nm.clone()
    for residue, kind in enumerate(_kinds(molecule)):
        alike = seen.get(kind)
        if alike is None:
            continue
        mean = {name: torch.stack([one[name] for one in alike]).mean(dim=0) for name in alike[0]}
        for name, atom in _atoms_of(molecule, residue).items():
            local_nm[atom] = mean[f"atom {name}"]
        backbone_nm[residue] = mean["backbone_nm"]
        lengths_nm[residue], angles[residue] = mean["lengths_nm"], mean["angles"]
        rings_nm[geometry.atoms.rings.residues == residue] = mean["ring_nm"]
    chains = [BackboneChain(lengths_nm[run], angles[run]) for run in chain_runs(geometry.atoms)]
    mended = replace(geometry, local_nm=local_nm, backbone_nm=backbone_nm, rings_nm=rings_nm)
    return AllHeavyAtoms(mended, tuple(chains))


def _geometry_of(molecule: AllHeavyAtoms, residue: int) -> dict[str, Tensor]:
    """Return all that is measured of a residue, by name."""
    geometry = molecule.geometry
    rings = geometry.rings_nm[geometry.atoms.rings.residues == residue]
    return {
        **{f"atom {n}": geometry.local_nm[i] for n, i in _atoms_of(molecule, residue).items()},
        "backbone_nm": geometry.backbone_nm[residue],
        "lengths_nm": torch.cat([chain.lengths_nm for chain in molecule.chains])[residue],
        "angles": torch.cat([chain.angles for chain in molecule.chains])[residue],
        "ring_nm": rings,
    }


def _numbers(molecule: AllHeavyAtoms) -> list[int]:
    """Return where each residue stands in the topology, which counts caps too."""
    return [n for n, name in enumerate(molecule.topology.residues) if name not in CAPS]


def _atoms_of(molecule: AllHeavyAtoms, residue: int) -> dict[str, int]:
    """Return the atoms of a residue by name, caps beside it not counted."""
    number = _numbers(molecule)[residue]
    topology = molecule.topology
    return {
        topology.names[atom]: atom for atom, of in enumerate(topology.atom_residues) if of == number
    }


def _kinds(molecule: AllHeavyAtoms) -> list[_Kind]:
    """Return the kind of each residue."""
    topology, numbers = molecule.topology, _numbers(molecule)
    bonded = {
        frozenset((topology.atom_residues[one], topology.atom_residues[other]))
        for one, other in topology.bonds
    }

    def neighbour(number: int, other: int) -> str:
        """Return of what sort a residue is beside another: ``none`` where no bond joins them."""
        if not 0 <= other < len(topology.residues) or frozenset((number, other)) not in bonded:
            return "none"
        name = topology.residues[other]
        if name in CAPS:
            return name
        return "proline" if other > number and standard_name(name) == "PRO" else "residue"

    return [
        (
            standard_name(topology.residues[number]),
            frozenset(_atoms_of(molecule, residue)),
            neighbour(number, number - 1),
            neighbour(number, number + 1),
        )
        for residue, number in enumerate(numbers)
    ]
