"""One frame from beads to atoms. A frame that cannot be lifted is a labelled value, no error."""

from dataclasses import dataclass

import numpy as np
import openmm
import torch
from jaxtyping import Float, Float32

from al.backmapping.checks import Measures, bead_rmsd, judge
from al.backmapping.nearest import laid_over
from al.backmapping.peptide_bonds import trans_bonds
from al.backmapping.pulchra import can_rebuild, rebuilt
from al.backmapping.pull import pull, pull_softly
from al.backmapping.settings import BackmappingSettings
from al.molecule.molecule import Molecule
from al.molecule.structure import closest_contact
from al.outcomes import BackmapOutcome
from trajgen.data.mapping import alpha_carbon_beads
from trajgen.errors import InputError, WorkError
from trajgen.geometry.validity import check_chain


@dataclass(frozen=True, eq=False)
class BackmappedFrame:
    """What became of one frame.

    Attributes:
        outcome: accepted, or the first check that failed.
        reason: why it is not accepted; empty where it is.
        method: ``nearest`` or ``pulchra``, or empty where the beads were refused at sight.
        positions_nm: all atoms, None unless accepted.
        measures: the numbers behind the outcome, None where there is no structure at all.
    """

    outcome: BackmapOutcome
    reason: str = ""
    method: str = ""
    positions_nm: Float32[np.ndarray, "atoms 3"] | None = None
    measures: Measures | None = None


def backmap_frame(
    target_nm: Float[np.ndarray, "beads 3"],
    molecule: Molecule,
    nearest_nm: Float[np.ndarray, "atoms 3"] | None,
    settings: BackmappingSettings,
    seed: int,
) -> BackmappedFrame:
    """Lift one frame of alpha-carbon beads to all atoms.

    The method ``auto`` starts from the nearest known frame, and where that is not accepted it
    tries PULCHRA; if that is not accepted either, the first attempt is what is returned.

    Args:
        target_nm: the beads.
        molecule: the molecule.
        nearest_nm: the known all-atom frame nearest to the beads, where there is one.
        settings: method, stages and limits.
        seed: seed of the annealing; nothing else is random.

    Raises:
        InputError: target or nearest frame are of another molecule, the method needs a nearest
            frame and there is none, or PULCHRA cannot rebuild this molecule.
    """
    n_beads = len(molecule.alpha_carbons)
    target = np.asarray(target_nm, dtype=np.float64)
    if target.shape != (n_beads, 3):
        raise InputError(
            f"target has shape {target.shape}; the molecule has {n_beads} alpha carbons"
        )
    if settings.method == "nearest" and nearest_nm is None:
        raise InputError(
            "backmapping method 'nearest' needs all-atom frames, and the dataset has none; "
            "use method 'pulchra' or 'auto'"
        )
    if not _is_chain(target, molecule):
        return BackmappedFrame(BackmapOutcome.TOO_FAR, "the target beads are no whole chain")
    frames = []
    for method in _methods(molecule, nearest_nm, settings):
        known = nearest_nm if method == "nearest" else None
        frames.append(_attempt(target, molecule, known, settings, seed))
        if frames[-1].outcome == BackmapOutcome.ACCEPTED:
            return frames[-1]
    return frames[0]


def _methods(
    molecule: Molecule, nearest_nm: np.ndarray | None, settings: BackmappingSettings
) -> list[str]:
    if settings.method != "auto":
        return [settings.method]
    if nearest_nm is None:
        return ["pulchra"]
    beads, _ = alpha_carbon_beads(molecule.topology)
    return ["nearest", "pulchra"] if can_rebuild(beads) else ["nearest"]


def _attempt(
    target: np.ndarray,
    molecule: Molecule,
    nearest_nm: np.ndarray | None,
    settings: BackmappingSettings,
    seed: int,
) -> BackmappedFrame:
    """Lift a frame from the nearest known one, or by PULCHRA where that is None."""
    beads = list(molecule.alpha_carbons)
    method = "pulchra" if nearest_nm is None else "nearest"
    trans = trans_bonds(molecule.topology, molecule.starts.values())
    try:
        if nearest_nm is None:
            start = rebuilt(target, molecule, settings.pulchra_timeout_s)
        else:
            start = laid_over(nearest_nm, target, molecule)
        is_near = bead_rmsd(start[beads], target) < settings.pull.soft_beyond_nm
        if nearest_nm is None or not is_near:
            start = pull_softly(start, target, molecule, trans, settings.pull, seed)
        pulled = pull(start, target, molecule, settings.pull)
    except (WorkError, openmm.OpenMMException) as error:
        return BackmappedFrame(BackmapOutcome.DIVERGED, str(error), method)
    positions = pulled.positions_nm
    measures = Measures(
        bead_rmsd_nm=bead_rmsd(positions[beads], target),
        min_heavy_distance_nm=closest_contact(molecule.topology, positions)[2],
        energy_kJ_per_mol=pulled.energy_kJ_per_mol,
        strain_kJ_per_mol=pulled.strain_kJ_per_mol / len(beads),
    )
    outcome, reason = judge(positions, molecule.topology, trans, measures, settings.checks)
    accepted = positions.astype(np.float32) if outcome == BackmapOutcome.ACCEPTED else None
    return BackmappedFrame(outcome, reason, method, accepted, measures)


def _is_chain(target_nm: np.ndarray, molecule: Molecule) -> bool:
    """Return whether the beads are finite and hold together; no force field mends others."""
    beads, _ = alpha_carbon_beads(molecule.topology)
    bonds = torch.tensor(beads.bonds, dtype=torch.int64).reshape(-1, 2)
    report = check_chain(torch.from_numpy(target_nm)[None], bonds=bonds)
    return bool((report.finite & report.not_exploded).all())
