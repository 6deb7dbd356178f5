"""What a backmapped frame has to pass: where its beads lie, its energy and its stereochemistry."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from al.backmapping.peptide_bonds import PeptideBond, cis_among
from al.backmapping.settings import CheckSettings
from al.molecule.structure import mirrored_residues
from al.outcomes import BackmapOutcome
from trajgen.data.topology import AtomTopology
from trajgen.geometry.superposition import rmsd


@dataclass(frozen=True)
class Measures:
    """The numbers that the checks rest on.

    Attributes:
        bead_rmsd_nm: distance of the beads from the target, after superposition.
        min_heavy_distance_nm: smallest distance of heavy atoms more than three bonds apart.
        energy_kJ_per_mol: potential energy of the force field.
        strain_kJ_per_mol: the part of it in bonds and angles, a residue.
    """

    bead_rmsd_nm: float
    min_heavy_distance_nm: float
    energy_kJ_per_mol: float
    strain_kJ_per_mol: float


def bead_rmsd(a_nm: Float[np.ndarray, "beads 3"], b_nm: Float[np.ndarray, "beads 3"]) -> float:
    """Return the RMSD of two sets of beads after superposition, nm."""
    first, second = (torch.from_numpy(np.asarray(x, dtype=np.float64)) for x in (a_nm, b_nm))
    return float(rmsd(first, second))


def judge(
    positions_nm: Float[np.ndarray, "atoms 3"],
    topology: AtomTopology,
    must_be_trans: list[PeptideBond],
    measures: Measures,
    settings: CheckSettings,
) -> tuple[BackmapOutcome, str]:
    """Return the outcome of a frame, and the reason where it is not accepted.

    The first check that fails names the outcome. NaN passes none.

    Args:
        positions_nm: all atoms.
        topology: the atoms.
        must_be_trans: peptide bonds, from ``trans_bonds``.
        measures: the numbers of this frame.
        settings: the limits.
    """
    if not np.isfinite(positions_nm).all():
        return BackmapOutcome.DIVERGED, "coordinates are not finite"
    if not math.isfinite(measures.energy_kJ_per_mol):
        return BackmapOutcome.DIVERGED, "potential energy is not finite"
    if not measures.strain_kJ_per_mol <= settings.max_strain_kJ_per_mol:
        return BackmapOutcome.DIVERGED, (
            f"bonds and angles hold {measures.strain_kJ_per_mol:.0f} kJ/mol a residue; "
            f"the limit is {settings.max_strain_kJ_per_mol:g}"
        )
    if not measures.bead_rmsd_nm <= settings.max_bead_rmsd_nm:
        return BackmapOutcome.TOO_FAR, (
            f"beads end {measures.bead_rmsd_nm:.3f} nm from the target; "
            f"the limit is {settings.max_bead_rmsd_nm:g} nm"
        )
    if not measures.min_heavy_distance_nm >= settings.min_heavy_distance_nm:
        return BackmapOutcome.CLASH, (
            f"heavy atoms are {measures.min_heavy_distance_nm:.3f} nm apart; "
            f"the limit is {settings.min_heavy_distance_nm:g} nm"
        )
    mirrored = mirrored_residues(topology, positions_nm)
    if mirrored:
        return BackmapOutcome.CHIRALITY, f"{_names(topology, mirrored)} has the D configuration"
    cis = [topology.atom_residues[bond[2]] for bond in cis_among(must_be_trans, positions_nm)]
    if cis:
        return BackmapOutcome.CIS_PEPTIDE, f"the peptide bond before {_names(topology, cis)} is cis"
    return BackmapOutcome.ACCEPTED, ""


def _names(topology: AtomTopology, residues: list[int]) -> str:
    return ", ".join(f"{topology.residues[r]}{topology.residue_numbers[r]}" for r in residues)
