"""Internal coordinates of bead frames as arrays with labels and units.

Bonds, angles and dihedrals are those of consecutive beads of one chain, so that no term spans a
chain end. Everything is computed in float64, since a bond's spread is a thousandth of its place.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology
from trajgen.geometry.internal import all_pairs, angles, consecutive, dihedrals, distances

#: Frames that are turned into features at once; bounds the memory, changes no value.
CHUNK = 65536

#: Three beads whose angle has a smaller sine lie on a line, as far as float32 coordinates tell.
SMALLEST_SINE = 1e-6


@dataclass(frozen=True)
class Feature:
    """One kind of coordinate in all frames, a column for each term.

    Attributes:
        name: what it is, such as ``bond``.
        labels: name of each term, such as ``GLY1-TYR2``.
        unit: ``nm`` or ``rad``.
        values: the coordinate of each frame and term.
        period: length of the circle that the values lie on, None for a line.
    """

    name: str
    labels: tuple[str, ...]
    unit: str
    values: Float[np.ndarray, "frames terms"]
    period: float | None = None


def bond_lengths(frames: BeadFrames) -> Feature:
    """Return the distances of beads that follow each other in a chain, nm."""
    terms = _chain_terms(frames.topology, 2)
    return Feature(
        "bond", _labels(frames.topology, terms), "nm", _compute(frames, distances, terms)
    )


def bend_angles(frames: BeadFrames) -> Feature:
    """Return the angles at the middle of three consecutive beads, rad in [0, π]."""
    terms = _chain_terms(frames.topology, 3)
    return Feature("angle", _labels(frames.topology, terms), "rad", _compute(frames, angles, terms))


def dihedral_angles(frames: BeadFrames) -> Feature:
    """Return the dihedral angles of four consecutive beads, rad in (−π, π]."""
    terms = _chain_terms(frames.topology, 4)
    values = _compute(frames, dihedrals, terms)
    return Feature("dihedral", _labels(frames.topology, terms), "rad", values, 2 * math.pi)


def end_to_end_distances(frames: BeadFrames) -> Feature:
    """Return the distance of the first and the last bead of each chain, nm."""
    chains = np.asarray(frames.topology.chains)
    ends = [np.flatnonzero(chains == chain)[[0, -1]] for chain in np.unique(chains)]
    terms = torch.tensor([[int(a), int(b)] for a, b in ends if a != b]).reshape(-1, 2)
    values = _compute(frames, distances, terms)
    return Feature("end_to_end", _labels(frames.topology, terms), "nm", values)


def pair_distances(frames: BeadFrames, beads: Int[np.ndarray, " kept"] | None = None) -> Feature:
    """Return the distances of all pairs of beads, or of those beads alone, nm."""
    terms = all_pairs(frames.topology.n_beads if beads is None else len(beads), 1)
    if beads is not None:
        terms = torch.from_numpy(beads)[terms]
    return Feature(
        "pair", _labels(frames.topology, terms), "nm", _compute(frames, distances, terms)
    )


def radius_of_gyration(frames: BeadFrames) -> Feature:
    """Return the root mean square distance of the beads from their centroid, nm."""
    positions = frames.positions_nm.astype(np.float64)
    centred = positions - positions.mean(axis=1, keepdims=True)
    values = np.sqrt((centred**2).sum(axis=2).mean(axis=1))
    return Feature("radius_of_gyration", ("all beads",), "nm", values[:, None])


def defined_frames(frames: BeadFrames) -> Bool[np.ndarray, " frames"]:
    """Say of each frame whether all its angles and dihedrals are defined.

    Where consecutive beads coincide or lie on a line there is no dihedral: such a frame can be
    counted, not measured.
    """
    apart = (bond_lengths(frames).values > 0).all(axis=1)
    bent = (np.sin(bend_angles(frames).values) > SMALLEST_SINE).all(axis=1)
    return apart & bent


def _chain_terms(topology: BeadTopology, k: int) -> torch.Tensor:
    """Return the runs of ``k`` consecutive beads that stay in one chain."""
    terms = consecutive(topology.n_beads, k).reshape(-1, k)
    chains = torch.tensor(topology.chains)[terms]
    return terms[(chains == chains[:, :1]).all(dim=1)]


def _labels(topology: BeadTopology, terms: torch.Tensor) -> tuple[str, ...]:
    names = [
        f"{residue}{number}"
        for residue, number in zip(topology.residues, topology.residue_numbers, strict=True)
    ]
    if len(set(names)) < len(names):  # several beads a residue, or several chains
        names = [
            f"{name}:{bead}" if len(set(topology.chains)) == 1 else f"{chain}:{name}:{bead}"
            for name, bead, chain in zip(names, topology.names, topology.chains, strict=True)
        ]
    return tuple("-".join(names[i] for i in term) for term in terms.tolist())


def _compute(
    frames: BeadFrames,
    coordinate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    terms: torch.Tensor,
) -> np.ndarray:
    values = np.empty((frames.n_frames, len(terms)))
    if len(terms) == 0:
        return values
    for start in range(0, frames.n_frames, CHUNK):
        part = frames.positions_nm[start : start + CHUNK].astype(np.float64)
        positions = torch.from_numpy(part)
        values[start : start + CHUNK] = coordinate(positions, terms).numpy()
    return values
