"""Maps from atoms to beads: positions by C (beads x atoms), forces by W (beads x atoms).

R = C r and F = W f. Any W with W Cᵀ = 1 has the mean force as its conditional mean; under rigid
constraints the atoms of one constrained group must also share one weight for each bead
(Noid et al., J. Chem. Phys. 128, 244114 (2008); Krämer et al., J. Phys. Chem. Lett. 14, 3970
(2023)). ``slice`` ignores the second condition and is biased where C-H bonds are constrained;
``aggregate`` keeps it by summing over the group of each bead's atom.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Float64

from trajgen.data.records import AtomFrames, BeadFrames, Rollouts
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.errors import InputError
from trajgen.residues import CAPS

Groups = Sequence[Sequence[int]]


def alpha_carbon_beads(atoms: AtomTopology) -> tuple[BeadTopology, tuple[int, ...]]:
    """Return the C-alpha beads of a solute and the atom index of each.

    Caps have no bead. Consecutive residues of one chain are bonded.

    Raises:
        InputError: a residue that is no cap lacks its CA atom.
    """
    alpha = {
        residue: atom
        for atom, (name, residue) in enumerate(zip(atoms.names, atoms.atom_residues, strict=True))
        if name == "CA" and atoms.elements[atom] == "C"
    }
    kept = [r for r, name in enumerate(atoms.residues) if name not in CAPS]
    missing = [r for r in kept if r not in alpha]
    if missing or not kept:
        named = ", ".join(f"{atoms.residues[r]}{atoms.residue_numbers[r]}" for r in missing[:5])
        raise InputError(f"residues without a CA atom cannot be beads: {named or 'none is left'}")
    chains = [atoms.chains[r] for r in kept]
    topology = BeadTopology(
        names=("CA",) * len(kept),
        residues=tuple(atoms.residues[r] for r in kept),
        residue_numbers=tuple(atoms.residue_numbers[r] for r in kept),
        chains=tuple(chains),
        bonds=tuple((i, i + 1) for i in range(len(kept) - 1) if chains[i] == chains[i + 1]),
    )
    return topology, tuple(alpha[r] for r in kept)


def bead_topology(topology: AtomTopology | BeadTopology) -> BeadTopology:
    """Return the C-alpha beads of a molecule of beads or of atoms."""
    if isinstance(topology, BeadTopology):
        return topology
    return alpha_carbon_beads(topology)[0]


def bead_rollouts(rollouts: Rollouts) -> Rollouts:
    """Return the C-alpha beads of rollouts of atoms; those of beads come back as they are."""
    if isinstance(rollouts.topology, BeadTopology):
        return rollouts
    beads, atoms = alpha_carbon_beads(rollouts.topology)
    positions_nm = np.ascontiguousarray(rollouts.positions_nm[:, :, list(atoms)])
    return replace(rollouts, topology=beads, positions_nm=positions_nm)


def position_map(bead_atoms: Sequence[int], n_atoms: int) -> Float64[np.ndarray, "beads atoms"]:
    """Return C for beads that sit on single atoms."""
    C = np.zeros((len(bead_atoms), n_atoms))
    C[np.arange(len(bead_atoms)), list(bead_atoms)] = 1.0
    return C


def slice_force_map(
    C: Float64[np.ndarray, "beads atoms"], groups: Groups
) -> Float64[np.ndarray, "beads atoms"]:
    """Return W = (C Cᵀ)⁻¹ C, which for C-alpha beads is the force on the CA atom alone."""
    return np.linalg.solve(C @ C.T, C)


def aggregate_force_map(
    C: Float64[np.ndarray, "beads atoms"], groups: Groups
) -> Float64[np.ndarray, "beads atoms"]:
    """Return the uniform map that obeys the constraints: every atom of a bead's group has weight 1.

    A group is what rigid constraints tie together; for C-alpha beads CA and its hydrogens.

    Raises:
        InputError: one group holds the atoms of two beads, so no such map exists.
    """
    W = (C != 0).astype(np.float64)
    for group in merge_groups(groups):
        members = list(group)
        owners = np.flatnonzero(C[:, members].any(axis=1))
        if len(owners) > 1:
            raise InputError(
                f"beads {owners.tolist()} share one constrained group of atoms; "
                "an aggregate force map needs beads in groups of their own"
            )
        if len(owners) == 1:
            W[owners[0], members] = 1.0
    return W


#: The force maps by name; a fitted map joins here with the same signature.
FORCE_MAPS: dict[str, Callable[[np.ndarray, Groups], np.ndarray]] = {
    "aggregate": aggregate_force_map,
    "slice": slice_force_map,
}


def merge_groups(groups: Groups) -> tuple[tuple[int, ...], ...]:
    """Merge pairs or groups of atoms that share an atom into disjoint sorted groups."""
    parent: dict[int, int] = {}

    def root(atom: int) -> int:
        parent.setdefault(atom, atom)
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    for group in groups:
        for atom in group:
            parent[root(atom)] = root(group[0])
    merged: dict[int, list[int]] = {}
    for atom in sorted(parent):
        merged.setdefault(root(atom), []).append(atom)
    return tuple(sorted(tuple(members) for members in merged.values()))


def map_vectors(
    matrix: Float64[np.ndarray, "beads atoms"], vectors: Float32[np.ndarray, "frames atoms 3"]
) -> Float32[np.ndarray, "frames beads 3"]:
    """Apply a map to positions or forces, summing in float64."""
    return np.einsum("ba,fax->fbx", matrix, vectors, optimize=True).astype(np.float32)


def map_frames(
    atoms: AtomFrames,
    beads: BeadTopology,
    bead_atoms: Sequence[int],
    force_map: str | None,
    groups: Groups,
) -> BeadFrames:
    """Map atom frames to beads; ``force_map`` names the map of forces, None leaves them out.

    Raises:
        InputError: the force map is not known, or does not exist for these groups.
    """
    forces = None
    if force_map is not None and atoms.forces is not None:
        if force_map not in FORCE_MAPS:
            raise InputError(f"force map '{force_map}' is not known; use {', '.join(FORCE_MAPS)}")
        C = position_map(bead_atoms, atoms.topology.n_atoms)
        forces = map_vectors(FORCE_MAPS[force_map](C, groups), atoms.forces)
    return BeadFrames(
        topology=beads,
        positions_nm=np.ascontiguousarray(atoms.positions_nm[:, list(bead_atoms)]),
        segments=atoms.segments,
        time_step_ps=atoms.time_step_ps,
        forces=forces,
        weights=atoms.weights,
    )
