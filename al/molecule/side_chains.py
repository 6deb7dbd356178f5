"""Side chains turned out of each other's way, for chains built from dihedral angles alone."""

import numpy as np
from jaxtyping import Float64
from openmm import app
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from al.molecule.structure import Structure

#: Side chains with no heavy atom nearer than this to other residues stay as they are.
_ROOM_NM = 0.3
_SWEEPS = 3
_BACKBONE = frozenset({"N", "CA", "C", "O", "OXT", "CB"})


def spread_side_chains(structure: Structure) -> Structure:
    """Turn crowded side chains about CA-CB to the other two staggered positions where that helps.

    Backbone dihedral angles of a folded chain bring side chains together that the builder put
    into one rotamer each; rings that overlap could stay threaded through minimisation.
    """
    positions = structure.positions_nm.copy()
    residues = list(structure.topology.residues())
    for _ in range(_SWEEPS):
        moved = [_turn(residue, positions) for residue in residues if _can_turn(residue)]
        if not any(moved):
            break
    return Structure(structure.topology, positions)


def _can_turn(residue: app.topology.Residue) -> bool:
    names = {atom.name for atom in residue.atoms()}
    return residue.name != "PRO" and {"CA", "CB"} <= names and bool(names - _BACKBONE)


def _turn(residue: app.topology.Residue, positions: Float64[np.ndarray, "atoms 3"]) -> bool:
    """Put one side chain, in place, where it has the most room; say whether it moved."""
    place = {atom.name: atom.index for atom in residue.atoms()}
    turned = [index for name, index in place.items() if name not in _BACKBONE]
    others = np.setdiff1d(np.arange(len(positions)), list(place.values()))
    if len(others) == 0:
        return False
    origin = positions[place["CB"]]
    axis = origin - positions[place["CA"]]
    axis = axis / np.linalg.norm(axis)
    choices = [
        origin + Rotation.from_rotvec(angle * axis).apply(positions[turned] - origin)
        for angle in (0.0, 2 * np.pi / 3, -2 * np.pi / 3)
    ]
    room = [float(cdist(choice, positions[others]).min()) for choice in choices]
    best = int(np.argmax(room))
    if room[0] >= _ROOM_NM or best == 0:
        return False
    positions[turned] = choices[best]
    return True
