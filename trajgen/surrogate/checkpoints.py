"""Surrogates on disk: one network, and all molecules that it was trained on.

A surrogate of several molecules takes others too, as structures: what is known of one is then
measured on that alone, and what no structure says, such as how far residues go, is that of the
others.
"""

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trajgen.checkpoint import load_checkpoint, save_checkpoint
from trajgen.data.structures import Solute, read_structure
from trajgen.data.topology import AtomTopology, BeadTopology, topology_from_dict
from trajgen.errors import InputError
from trajgen.geometry.internal import distances
from trajgen.residues import standard_name
from trajgen.settings import parse_settings
from trajgen.surrogate.base_noise import Relaxations
from trajgen.surrogate.bead_chain import BeadChain
from trajgen.surrogate.encoded_windows import Molecule
from trajgen.surrogate.resolutions import AllHeavyAtoms, AlphaCarbons, Resolution
from trajgen.surrogate.similar_residues import with_geometry_of_similar
from trajgen.surrogate.surrogate import Surrogate, SurrogateSettings
from trajgen.surrogate.tokens import TokenScale
from trajgen.surrogate.transformer import DIMENSIONS, TrajectoryTransformer
from trajgen.surrogate.whitening import Springs, second_neighbours

logger = logging.getLogger(__name__)

KIND = "surrogate"


def save_surrogate(
    path: Path,
    network: TrajectoryTransformer,
    settings: SurrogateSettings,
    molecules: Sequence[Molecule],
    card: dict[str, Any],
) -> None:
    """Write a checkpoint folder.

    Args:
        path: the folder.
        network: the network.
        settings: what it is a model of.
        molecules: the molecules of the training; lags, temperatures, scale, relaxations and
            tasks are those of all.
        card: what is said of the training.

    Raises:
        InputError: ``path`` exists already.
    """
    first = molecules[0]
    weights = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    weights |= {f"scale.{f.name}": getattr(first.scale, f.name) for f in fields(TokenScale)}
    if first.relaxations is not None:
        relaxations = vars(first.relaxations).items()
        weights |= {f"relaxations.{name}": tensor for name, tensor in relaxations}
    for number, molecule in enumerate(molecules):
        own = {f"resolution.{name}": t for name, t in molecule.resolution.tensors().items()}
        if molecule.chain is not None:
            own |= {f"chain.{name}": t for name, t in molecule.chain.tensors().items()}
        own["template_nm"] = molecule.template_nm
        weights |= {f"molecules.{number}.{name}": tensor for name, tensor in own.items()}
    values = {
        **settings.model_dump(mode="json"),
        "lags_ps": list(first.lags_ps),
        "temperatures_K": list(first.temperatures_K),
        "tasks": list(first.tasks),
        "molecules": [molecule.resolution.topology.to_dict() for molecule in molecules],
    }
    save_checkpoint(path, KIND, weights, values, card)


def load_surrogate(path: Path, device: torch.device, structure: Path | None = None) -> Surrogate:
    """Read a surrogate for a molecule.

    Args:
        path: the checkpoint folder.
        device: where it is to lie.
        structure: a structure file of the molecule; not needed where the surrogate was trained on
            one alone.

    Raises:
        InputError: the checkpoint is missing, damaged, or of another kind or layout; which
            molecule is meant is not said; it was trained on one molecule alone, and the structure
            is of another; or that has residues which no molecule of the training has.
    """
    checkpoint = load_checkpoint(path, KIND)
    values = dict(checkpoint.settings)
    try:
        shortest, longest = values.pop("lags_ps")
        temperatures = tuple(values.pop("temperatures_K"))
        tasks = tuple(values.pop("tasks"))
        topologies = [topology_from_dict(each) for each in values.pop("molecules")]
        settings = parse_settings(SurrogateSettings, values, f"{path / 'settings.yaml'}")
        scale = _below(checkpoint.weights, "scale.")
        relaxations = None
        if settings.base == "correlated":
            relaxations = Relaxations(**_below(checkpoint.weights, "relaxations."))
        molecules = [
            Molecule(
                *_restored(topology, _below(checkpoint.weights, f"molecules.{number}.")),
                lags_ps=(shortest, longest),
                temperatures_K=temperatures,
                scale=TokenScale(*(scale[field.name] for field in fields(TokenScale))),
                relaxations=relaxations,
                tasks=tasks,
                alone=len(topologies) == 1,
            )
            for number, topology in enumerate(topologies)
        ]
        torsions = molecules[0].resolution.has_torsion.shape[1]
        network = TrajectoryTransformer(DIMENSIONS[settings.network.size], torsions)
        network.load_state_dict(_below(checkpoint.weights, "network."))
    except (KeyError, RuntimeError, IndexError, TypeError) as error:
        raise InputError(
            f"checkpoint {path} is damaged: its weights do not fit its settings ({error}); "
            "train it again"
        ) from error
    molecule = _chosen(molecules, structure, path)
    return Surrogate(network.to(device), settings, molecule.to(device))


def _chosen(molecules: list[Molecule], structure: Path | None, path: Path) -> Molecule:
    if structure is None:
        if len(molecules) > 1:
            named = ", ".join(molecule.resolution.beads.sequence for molecule in molecules[:5])
            raise InputError(
                f"surrogate {path} was trained on {len(molecules)} molecules ({named}, …); say "
                "which one is meant by a structure file of it"
            )
        return molecules[0]
    solute, positions_nm = read_structure(structure)
    for molecule in molecules:
        if _residues(molecule.resolution.topology) == _residues(solute.topology) or (
            isinstance(molecule.resolution.topology, BeadTopology)
            and molecule.resolution.beads.types == solute.beads.types
        ):
            return molecule
    if len(molecules) == 1:
        raise InputError(
            f"surrogate {path} was trained on {molecules[0].resolution.beads.sequence} alone, and "
            f"{structure} is of {solute.beads.sequence}; give a structure of its molecule with the "
            "same caps, or train one on several molecules"
        )
    logger.info(
        "%s is of %s, which the surrogate was not trained on: its geometry is that of residues "
        "alike in the training, or where there are none of this structure",
        structure,
        solute.beads.sequence,
    )
    types = {type_ for molecule in molecules for type_ in molecule.resolution.beads.types}
    strange = [
        name
        for name, type_ in zip(solute.beads.residues, solute.beads.types, strict=True)
        if type_ not in types
    ]
    if strange:
        raise InputError(
            f"{structure} has {', '.join(dict.fromkeys(strange))}, and no molecule that surrogate "
            f"{path} was trained on has: nothing says how these move; train with one that has them"
        )
    return _unseen(molecules, solute, torch.from_numpy(positions_nm))


def _unseen(molecules: list[Molecule], solute: Solute, positions_nm: Tensor) -> Molecule:
    """Return a molecule of which only a structure is known, all else being that of others."""
    known = molecules[0]
    if isinstance(known.resolution, AllHeavyAtoms):
        atoms, kept = solute.topology.without_hydrogens()
        sites_nm = positions_nm[list(kept)]
        seen = [m.resolution for m in molecules if isinstance(m.resolution, AllHeavyAtoms)]
        heavy = with_geometry_of_similar(AllHeavyAtoms.measure(atoms, sites_nm[None]), seen)
        return replace(known, resolution=heavy, template_nm=sites_nm - sites_nm.mean(dim=0))
    sites_nm = positions_nm[list(solute.bead_atoms)]
    chain = None if known.chain is None else _chain_like(known.chain, solute.beads, sites_nm)
    template = sites_nm - sites_nm.mean(dim=0)
    return replace(known, resolution=AlphaCarbons(solute.beads), template_nm=template, chain=chain)


def _chain_like(known: BeadChain, beads: BeadTopology, sites_nm: Tensor) -> BeadChain:
    """Return the chain of other beads, as stiff as a known one, at rest in a structure."""
    bonds = torch.tensor(beads.bonds, dtype=torch.long).reshape(-1, 2)
    second = second_neighbours(bonds, beads.n_beads)
    old = known.springs
    first_of_second = min(len(known.bonds), len(old.spread_nm) - 1)

    def spread_out(values: Tensor) -> Tensor:
        return torch.cat(
            [values[:1].expand(len(bonds)), values[first_of_second].expand(len(second))]
        )

    pairs = torch.cat([bonds, second])
    springs = Springs(
        pairs,
        distances(sites_nm, pairs),
        spread_out(old.returned),
        spread_out(old.spread_nm),
        old.free_nm,
    )
    low, high = known.bond_range_nm[0].min(), known.bond_range_nm[1].max()
    return BeadChain(springs, bonds, torch.stack([low, high])[:, None].expand(2, len(bonds)))


def _restored(
    topology: BeadTopology | AtomTopology, tensors: dict[str, Tensor]
) -> tuple[Resolution, Tensor, BeadChain | None]:
    chain = _below(tensors, "chain.")
    resolution: Resolution
    if isinstance(topology, AtomTopology):
        resolution = AllHeavyAtoms.restore(topology, _below(tensors, "resolution."))
    else:
        resolution = AlphaCarbons(topology)
    return resolution, tensors["template_nm"], BeadChain.restore(chain) if chain else None


def _residues(topology: BeadTopology | AtomTopology) -> tuple[str, ...]:
    return tuple(standard_name(name) for name in topology.residues)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of one part, without the name of the part."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
