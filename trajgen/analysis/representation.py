"""How frames of beads and frames of atoms are measured: the one place where the two differ.

Chain measures (end-to-end distance, radius of gyration, contacts, RMSD to a structure) are those of
the C-alpha beads in both. Beads add the internal coordinates of their chain, atoms their torsions;
the slow coordinates are found in pair distances of beads, and in cosines and sines of torsions as
MDGen finds them (Jing et al. 2024, arXiv:2409.17808).
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from trajgen.analysis.atom_validity import atom_validity
from trajgen.analysis.bead_validity import bead_validity
from trajgen.analysis.features import (
    SMALLEST_SINE,
    Feature,
    bend_angles,
    bond_lengths,
    defined_frames,
    dihedral_angles,
    end_to_end_distances,
    pair_distances,
    radius_of_gyration,
)
from trajgen.analysis.torsions import backbone_torsions, omega_torsions, side_chain_torsions
from trajgen.data.mapping import alpha_carbon_beads
from trajgen.data.records import AtomFrames, BeadFrames
from trajgen.data.sources import Topology, no_beads
from trajgen.data.topology import AtomTopology, BeadTopology
from trajgen.data.torsions import find_backbone, find_omega, find_side_chains
from trajgen.errors import InputError
from trajgen.geometry.internal import angles

#: Frames of atoms whose angles are computed at once.
FRAMES_AT_ONCE = 2048
#: TICA sees the pair distances of at most so many beads: 1,128 pairs. Those of all beads of a large
#: protein have covariances of many GiB, and ask for more frames than there are.
MOST_SLOW_BEADS = 48


class Representation(ABC):
    """What the measures ask of frames, be they of beads or of atoms.

    Attributes:
        checks: names of the checks of validity.
        slow_features_text: what the slow coordinates are made of, in words.
    """

    checks: tuple[str, ...]
    slow_features_text: str

    @abstractmethod
    def no_frames(self) -> Any:
        """Return a set without a frame."""

    @abstractmethod
    def beads(self, frames: Any) -> BeadFrames:
        """Return the C-alpha beads of the frames."""

    @abstractmethod
    def features(self, frames: Any) -> tuple[Feature, ...]:
        """Return all coordinates that are compared one by one."""

    @abstractmethod
    def slow_features(self, frames: Any) -> Float[np.ndarray, "frames features"]:
        """Return the features that TICA combines."""

    @abstractmethod
    def defined(self, frames: Any) -> Bool[np.ndarray, " frames"]:
        """Say of each frame whether its coordinates are defined."""

    @abstractmethod
    def failures(self, frames: Any) -> dict[str, Bool[np.ndarray, " frames"]]:
        """Say of each frame whether it fails each check of validity."""


class Beads(Representation):
    """C-alpha beads, or any others that lie along chains."""

    def __init__(self, topology: BeadTopology) -> None:
        self._topology = topology
        n = topology.n_beads
        self._slow = np.unique(np.linspace(0, n - 1, MOST_SLOW_BEADS).round().astype(int))
        self.slow_features_text = "all pair distances"
        if len(self._slow) < n:
            self.slow_features_text += f" of {len(self._slow)} evenly spaced beads of {n}"
        # The limits of a physical chain are those of C-alpha atoms.
        all_alpha = set(topology.names) == {"CA"}
        self.checks = ("bond", "clash", "explosion") if all_alpha else ()

    def no_frames(self) -> BeadFrames:
        """Return a set without a frame."""
        return no_beads(self._topology)

    def beads(self, frames: BeadFrames) -> BeadFrames:
        """Return the frames themselves."""
        return frames

    def features(self, frames: BeadFrames) -> tuple[Feature, ...]:
        """Return chain measures, bonds, angles and dihedrals."""
        return (
            end_to_end_distances(frames),
            radius_of_gyration(frames),
            bond_lengths(frames),
            bend_angles(frames),
            dihedral_angles(frames),
        )

    def slow_features(self, frames: BeadFrames) -> Float[np.ndarray, "frames features"]:
        """Return the distances of all pairs, of evenly spaced beads where there are many, nm."""
        return pair_distances(frames, self._slow).values

    def defined(self, frames: BeadFrames) -> Bool[np.ndarray, " frames"]:
        """Say which frames have all their angles and dihedrals."""
        return defined_frames(frames)

    def failures(self, frames: BeadFrames) -> dict[str, Bool[np.ndarray, " frames"]]:
        """Say which frames fail the limits of a C-alpha chain."""
        if not self.checks:
            return {}
        found = bead_validity(frames)
        return {"bond": found.bond, "clash": found.clash, "explosion": found.explosion}


class Atoms(Representation):
    """All atoms but hydrogens."""

    slow_features_text = "cosines and sines of all backbone and side-chain torsions"

    def __init__(self, topology: AtomTopology) -> None:
        self._topology = topology
        self._beads, alpha = alpha_carbon_beads(topology)
        self._alpha = list(alpha)
        # A check that the molecule has no atoms for is not made.
        made = atom_validity(self.no_frames()).checks
        self.checks = tuple(name for name, check in made.items() if check.n_terms)
        finders = (find_backbone, find_side_chains, find_omega)
        runs = [torsion.atoms for find in finders for torsion in find(topology)]
        triples = {part for atoms in runs for part in (atoms[:3], atoms[1:])}
        self._triples = torch.tensor(sorted(triples), dtype=torch.int64).reshape(-1, 3)

    def no_frames(self) -> AtomFrames:
        """Return a set without a frame."""
        empty = np.zeros((0, self._topology.n_atoms, 3), np.float32)
        return AtomFrames(self._topology, empty, np.zeros(0, np.int64))

    def beads(self, frames: AtomFrames) -> BeadFrames:
        """Return the C-alpha beads of the frames."""
        positions = frames.positions_nm[:, self._alpha]
        return BeadFrames(
            self._beads, positions, frames.segments, frames.time_step_ps, weights=frames.weights
        )

    def features(self, frames: AtomFrames) -> tuple[Feature, ...]:
        """Return chain measures and torsions."""
        beads = self.beads(frames)
        return (
            end_to_end_distances(beads),
            radius_of_gyration(beads),
            backbone_torsions(frames),
            side_chain_torsions(frames),
            omega_torsions(frames),
        )

    def slow_features(self, frames: AtomFrames) -> Float[np.ndarray, "frames features"]:
        """Return cosine and sine of phi, psi and all chi."""
        torsions = [backbone_torsions(frames).values, side_chain_torsions(frames).values]
        angles = np.concatenate(torsions, axis=1)
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)

    def defined(self, frames: AtomFrames) -> Bool[np.ndarray, " frames"]:
        """Say which frames have all their torsions: no three atoms of one lie on a line."""
        bends = np.empty((frames.n_frames, len(self._triples)))
        for start in range(0, frames.n_frames, FRAMES_AT_ONCE):
            part = slice(start, start + FRAMES_AT_ONCE)
            positions = torch.from_numpy(frames.positions_nm[part].astype(np.float64))
            bends[part] = angles(positions, self._triples).numpy()
        bent: Bool[np.ndarray, " frames"] = np.all(np.sin(bends) > SMALLEST_SINE, axis=1)
        return bent

    def failures(self, frames: AtomFrames) -> dict[str, Bool[np.ndarray, " frames"]]:
        """Say which frames fail the checks of a protein's atoms."""
        found = atom_validity(frames)
        return {name: found.failed(name) for name in self.checks}


def representation_of(topology: Topology) -> Representation:
    """Return how frames of these beads or atoms are measured."""
    return Beads(topology) if isinstance(topology, BeadTopology) else Atoms(topology)


def require_same(mine: Topology, theirs: Topology, names: tuple[str, str]) -> None:
    """Raise InputError unless both are of the same beads, or of the same atoms."""
    if isinstance(mine, BeadTopology) and isinstance(theirs, BeadTopology):
        mine.require_same(theirs, *names)
        return
    if isinstance(mine, AtomTopology) and isinstance(theirs, AtomTopology):
        mine.require_same(theirs, *names)
        return
    raise InputError(f"of {names[0]} and {names[1]} one is of beads and one of atoms")
