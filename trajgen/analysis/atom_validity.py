"""Validity of all-atom frames: bonds, clashes, chirality, peptide planes, Ramachandran regions.

The checks are coarse on purpose: they find what is wrong in a generated structure, and do not
grade a refined one (for that there is MolProbity, Williams et al. 2018, Protein Sci. 27:293).
Molecular dynamics fails some of them in a small share of frames, and models from NMR have clashes,
so that the share of generated frames is read beside that of the reference.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from trajgen.analysis.measures import Measure
from trajgen.analysis.ramachandran import outliers
from trajgen.analysis.torsions import torsion_angles
from trajgen.data.closest_contacts import (
    OVERLAP_NM,
    POLAR_OVERLAP_NM,
    RADII_NM,
    closest_contacts,
)
from trajgen.data.records import AtomFrames
from trajgen.data.topology import AtomTopology
from trajgen.data.torsions import atom_places, find_backbone, find_omega
from trajgen.errors import InputError
from trajgen.geometry.internal import distances
from trajgen.geometry.validity import chirality_signs
from trajgen.residues import CAPS, standard_name

#: Shortest and longest typical bond of two elements, nm. Heavy atoms: Engh, Huber (1991, Acta
#: Cryst. A47:392), single to double; hydrogens: neutron diffraction (Allen, Bruno 2010, Acta
#: Cryst. B66:380).
BOND_LENGTHS_NM = {
    "CC": (0.135, 0.154), "CN": (0.131, 0.149), "CO": (0.122, 0.144), "CS": (0.174, 0.183),
    "SS": (0.203, 0.205), "CH": (0.106, 0.110), "HN": (0.100, 0.104), "HO": (0.096, 0.102),
    "HS": (0.133, 0.135),
}  # fmt: skip

#: Heavy atoms in one neighbour search; bounds the memory.
ATOMS_AT_ONCE = 50_000

#: The checks that a valid frame passes.
CHECKS = (
    "explosion",
    "bond",
    "clash",
    "chirality",
    "peptide plane",
    "cis peptide",
    "ramachandran",
)


@dataclass(frozen=True)
class AtomLimits:
    """What an all-atom frame may do.

    Attributes:
        bond_tolerance_nm: how far a bond may lie outside its typical lengths.
        exploded_bond_nm: a longer bond means that the molecule has come apart.
        overlap_nm: overlap of two van der Waals spheres from which on it is a clash.
        polar_overlap_nm: the same of two N or O, which a hydrogen bond may join.
        planar_rad: how far omega may lie from 0 or π.
    """

    bond_tolerance_nm: float = 0.02
    exploded_bond_nm: float = 0.3
    overlap_nm: float = OVERLAP_NM
    polar_overlap_nm: float = POLAR_OVERLAP_NM
    planar_rad: float = math.radians(30)


@dataclass(frozen=True, eq=False)
class AtomCheck:
    """What one check found.

    Attributes:
        failures: how many terms (bonds, pairs, residues) fail in each frame.
        n_terms: how many terms were looked at in each frame.
        n_left_out: how many could not be, in each frame.
        reason: why there were none, or why some were left out; None where all were looked at.
    """

    failures: Int[np.ndarray, " frames"]
    n_terms: int
    n_left_out: int = 0
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class AtomValidity:
    """What the checks found in each frame.

    Attributes:
        checks: each check by its name (``CHECKS``).
        cis_proline: cis peptide bonds before proline, which are no error.
        weights: weight of each frame.
    """

    checks: dict[str, AtomCheck]
    cis_proline: AtomCheck
    weights: Float[np.ndarray, " frames"]

    def failed(self, name: str) -> Bool[np.ndarray, " frames"]:
        """Say of each frame whether it fails the check of that name.

        Raises:
            InputError: there is no such check.
        """
        if name not in self.checks:
            raise InputError(f"check '{name}' is not known; use one of {', '.join(self.checks)}")
        return self.checks[name].failures > 0

    @property
    def valid(self) -> Bool[np.ndarray, " frames"]:
        """All checks that could be made hold."""
        return ~np.any([self.failed(name) for name in self.checks], axis=0)

    def shares(self) -> dict[str, Measure]:
        """Return the weighted share of frames that fail each check, and that fail ``any``."""
        shares = {
            name: weighted_share(name, self.failed(name), self.weights, check.n_terms, check.reason)
            for name, check in self.checks.items()
        }
        unmade = [name for name, check in self.checks.items() if check.n_terms == 0]
        made = len(self.checks) - len(unmade)
        reason = f"not checked: {', '.join(unmade)}" if unmade else None
        shares["any"] = weighted_share("any", ~self.valid, self.weights, made, reason)
        return shares

    def term_shares(self) -> dict[str, Measure]:
        """Return the weighted share of terms (bonds, residues) that fail, and of cis prolines."""
        checks = {**self.checks, "cis proline": self.cis_proline}
        return {
            name: weighted_share(
                name, check.failures / max(check.n_terms, 1), self.weights, check.n_terms,
                check.reason,
            )
            for name, check in checks.items()
        }  # fmt: skip

    def counts(self) -> dict[str, int]:
        """Return the number of frames that fail each check."""
        return {name: int(self.failed(name).sum()) for name in self.checks}


def atom_validity(frames: AtomFrames, limits: AtomLimits | None = None) -> AtomValidity:
    """Check all-atom frames, frame by frame.

    - explosion and bond: each bond against a limit and against ``BOND_LENGTHS_NM``;
    - clash: heavy atoms more than three bonds apart, nearer than the sum of their radii less an
      overlap;
    - chirality: every CA but that of GLY is L (the side chains of ILE and THR are not looked at);
    - peptide plane and cis peptide: omega near 0 or π, and not cis (|omega| < π/2) except before
      PRO, where a few percent are (Weiss et al. 1998, Nat. Struct. Biol. 5:676);
    - ramachandran: phi and psi within the boxes of the residue's class.

    A check for which the molecule has no atoms is not made, and says so.
    """
    limits = limits or AtomLimits()
    bond, explosion = _check_bonds(frames, limits)
    plane, cis, cis_proline = _check_omega(frames, limits)
    checks = (explosion, bond, _check_clashes(frames, limits), _check_chirality(frames),
              plane, cis, _check_ramachandran(frames))  # fmt: skip
    weights = np.ones(frames.n_frames) if frames.weights is None else frames.weights
    return AtomValidity(dict(zip(CHECKS, checks, strict=True)), cis_proline, weights)


def weighted_share(
    label: str,
    values: Bool[np.ndarray, " frames"] | Float[np.ndarray, " frames"],
    weights: Float[np.ndarray, " frames"],
    n_terms: int,
    reason: str | None,
) -> Measure:
    """Return the weighted mean of what failed, or the reason why there is none."""
    if n_terms == 0:
        return Measure(label, "share", None, reason=reason)
    if not weights.sum() > 0:
        return Measure(label, "share", None, reason="there is no frame to look at")
    return Measure(label, "share", float(np.average(values, weights=weights)), reason=reason)


def _check_bonds(frames: AtomFrames, limits: AtomLimits) -> tuple[AtomCheck, AtomCheck]:
    topology = frames.topology
    pairs = np.array(topology.bonds, dtype=np.int64).reshape(-1, 2)
    failures, exploded = np.zeros((2, frames.n_frames), dtype=np.int64)
    if len(pairs) == 0:
        none = AtomCheck(failures, 0, reason="the molecule has no bonds")
        return none, none
    ranges = np.array([_bond_range(topology, *pair) for pair in pairs.tolist()])
    known = np.isfinite(ranges[:, 0])
    low = np.where(known, ranges[:, 0] - limits.bond_tolerance_nm, -np.inf)
    high = np.where(known, ranges[:, 1] + limits.bond_tolerance_nm, np.inf)
    chunk = max(1, ATOMS_AT_ONCE // len(pairs))
    for start in range(0, frames.n_frames, chunk):
        part = slice(start, start + chunk)
        positions = torch.from_numpy(frames.positions_nm[part].copy())  # may be read-only
        lengths = distances(positions, torch.from_numpy(pairs)).numpy()
        failures[part] = ((lengths < low) | (lengths > high)).sum(axis=1)
        exploded[part] = (lengths > limits.exploded_bond_nm).sum(axis=1)
    left_out = int((~known).sum())
    reason = f"{left_out} bonds are of elements without a typical length" if left_out else None
    bond = AtomCheck(failures, int(known.sum()), left_out, reason)
    return bond, AtomCheck(exploded, len(pairs))


def _bond_range(topology: AtomTopology, i: int, j: int) -> tuple[float, float]:
    elements = sorted((topology.elements[i].upper(), topology.elements[j].upper()))
    return BOND_LENGTHS_NM.get("".join(elements), (math.nan, math.nan))


def _check_clashes(frames: AtomFrames, limits: AtomLimits) -> AtomCheck:
    elements = [element.upper() for element in frames.topology.elements]
    heavy = np.array([i for i, e in enumerate(elements) if e in RADII_NM], dtype=np.int64)
    left_out = sum(e not in RADII_NM and e != "H" for e in elements)
    reason = f"{left_out} atoms are of elements without a radius" if left_out else None
    nearest = closest_contacts(frames.topology, heavy, limits.overlap_nm, limits.polar_overlap_nm)
    n_terms = int((np.triu(nearest, 1) > 0).sum())
    failures = np.zeros(frames.n_frames, dtype=np.int64)
    if n_terms == 0:
        return AtomCheck(failures, 0, left_out, reason or "no two heavy atoms are apart enough")
    chunk = max(1, ATOMS_AT_ONCE // len(heavy))
    reach = float(nearest.max())
    for start in range(0, frames.n_frames, chunk):
        part = frames.positions_nm[start : start + chunk, heavy].astype(np.float64)
        # A fourth coordinate keeps the frames farther apart than any clash: one tree for all.
        frame = np.broadcast_to(np.arange(len(part))[:, None, None], (*part.shape[:2], 1))
        points = np.concatenate([part, 2 * reach * frame], axis=2).reshape(-1, 4)
        pairs = cKDTree(points).query_pairs(reach, output_type="ndarray")
        apart = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
        atoms = pairs % len(heavy)
        clashing = apart < nearest[atoms[:, 0], atoms[:, 1]]
        found = np.bincount(pairs[clashing, 0] // len(heavy), minlength=len(part))
        failures[start : start + chunk] = found
    return AtomCheck(failures, n_terms, left_out, reason)


def _check_chirality(frames: AtomFrames) -> AtomCheck:
    topology = frames.topology
    places = atom_places(topology)
    names = ("N", "CA", "C", "CB")
    chiral = [
        residue
        for residue, name in enumerate(topology.residues)
        if name not in CAPS and standard_name(name) != "GLY"
    ]
    whole = [r for r in chiral if all((r, name) in places for name in names)]
    left_out = len(chiral) - len(whole)
    reason = f"{left_out} residues lack one of N, CA, C, CB" if left_out else None
    failures = np.zeros(frames.n_frames, dtype=np.int64)
    if not whole:
        return AtomCheck(failures, 0, left_out, reason or "no residue has a chiral CA")
    columns = [[places[r, name] for r in whole] for name in names]
    chunk = max(1, ATOMS_AT_ONCE // len(whole))
    for start in range(0, frames.n_frames, chunk):
        part = torch.from_numpy(frames.positions_nm[start : start + chunk].copy())
        signs = chirality_signs(*(part[:, column] for column in columns))
        failures[start : start + chunk] = (signs <= 0).sum(dim=1).numpy()
    return AtomCheck(failures, len(whole), left_out, reason)


def _check_omega(frames: AtomFrames, limits: AtomLimits) -> tuple[AtomCheck, AtomCheck, AtomCheck]:
    """Check planes; then cis bonds, before other residues than proline and before proline."""
    residues = frames.topology.residues
    torsions = find_omega(frames.topology)
    before_proline = np.array(
        [standard_name(residues[torsion.residues[1]]) == "PRO" for torsion in torsions], dtype=bool
    )
    size = np.abs(torsion_angles(frames, torsions))
    twisted = np.minimum(size, math.pi - size) > limits.planar_rad
    cis = size < math.pi / 2
    return (
        _count(twisted, "the molecule has no peptide bond"),
        _count(cis[:, ~before_proline], "the molecule has no peptide bond but those to proline"),
        _count(cis[:, before_proline], "the molecule has no peptide bond to proline"),
    )


def _check_ramachandran(frames: AtomFrames) -> AtomCheck:
    torsions = find_backbone(frames.topology)
    outside = outliers(frames.topology, torsions, torsion_angles(frames, torsions))
    return _count(outside, "no residue has both phi and psi")


def _count(failing: Bool[np.ndarray, "frames terms"], reason: str) -> AtomCheck:
    n_terms = failing.shape[1]
    return AtomCheck(failing.sum(axis=1), n_terms, reason=None if n_terms else reason)
