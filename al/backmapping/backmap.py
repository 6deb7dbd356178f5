"""One frame from beads to atoms. A frame that cannot be lifted is a labelled value, no error."""

from dataclasses import dataclass

import numpy as np
import openmm
import torch
from jaxtyping import Float, Float32

from al.backmapping.checks import Measures, bead_rmsd, judge
from al.backmapping.completion import complete
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
        method: ``atoms``, ``nearest`` or ``pulchra``, or empty where the beads were refused at
            sight.
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
    heavy_nm: Float[np.ndarray, "heavy 3"] | None = None,
) -> BackmappedFrame:
    """Lift one frame of alpha-carbon beads to all atoms.

    The method ``auto`` takes the heavy atoms of the generator where it made some and adds
    hydrogens; then it tries the nearest known frame, then PULCHRA. Where no attempt is accepted,
    the first is what is returned.

    Args:
        target_nm: the beads.
        molecule: the molecule.
        nearest_nm: the known all-atom frame nearest to the beads, where there is one.
        settings: method, stages and limits.
        seed: seed of the annealing; nothing else is random.
        heavy_nm: all atoms of the frame but hydrogens, where the generator made them.

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
    known = {"atoms": heavy_nm, "nearest": nearest_nm, "pulchra": None}
    for method in _methods(molecule, nearest_nm, heavy_nm, settings):
        frames.append(_attempt(target, molecule, method, known[method], settings, seed))
        if frames[-1].outcome == BackmapOutcome.ACCEPTED:
            return frames[-1]
    return frames[0]


def _methods(
    molecule: Molecule,
    nearest_nm: np.ndarray | None,
    heavy_nm: np.ndarray | None,
    settings: BackmappingSettings,
) -> list[str]:
    if settings.method != "auto":
        return [settings.method]
    methods = [] if heavy_nm is None else ["atoms"]
    if nearest_nm is not None:
        methods.append("nearest")
    beads, _ = alpha_carbon_beads(molecule.topology)
    # Where there is nothing else, PULCHRA says itself why it cannot.
    return [*methods, "pulchra"] if can_rebuild(beads) or not methods else methods


def _attempt(
    target: np.ndarray,
    molecule: Molecule,
    method: str,
    known_nm: np.ndarray | None,
    settings: BackmappingSettings,
    seed: int,
) -> BackmappedFrame:
    """Lift a frame from its own heavy atoms, from the nearest known frame, or by PULCHRA."""
    beads = list(molecule.alpha_carbons)
    trans = trans_bonds(molecule.topology, molecule.starts.values())
    try:
        if known_nm is None:
            start = rebuilt(target, molecule, settings.pulchra_timeout_s)
        elif method == "atoms":
            start = with_hydrogens(known_nm, molecule)
        else:
            start = laid_over(known_nm, target, molecule)
        if method == "atoms":  # they are the target, side chains and all
            _, kept = molecule.topology.without_hydrogens()
            pulled = pull(start, start[list(kept)], molecule, settings.pull, kept)
        else:
            is_near = bead_rmsd(start[beads], target) < settings.pull.soft_beyond_nm
            if known_nm is None or not is_near:
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


def with_hydrogens(
    heavy_nm: Float[np.ndarray, "heavy 3"], molecule: Molecule
) -> Float[np.ndarray, "atoms 3"]:
    """Return all atoms around the heavy ones (nm), hydrogens as in the first start structure.

    Raises:
        InputError: the heavy atoms are of another molecule.
    """
    _, kept = molecule.topology.without_hydrogens()
    if heavy_nm.shape != (len(kept), 3):
        raise InputError(
            f"heavy_nm has shape {heavy_nm.shape}; the molecule has {len(kept)} heavy atoms"
        )
    known = dict(zip(kept, heavy_nm, strict=True))
    return complete(known, next(iter(molecule.starts.values())), molecule.topology)


def _is_chain(target_nm: np.ndarray, molecule: Molecule) -> bool:
    """Return whether the beads are finite and hold together; no force field mends others."""
    beads, _ = alpha_carbon_beads(molecule.topology)
    bonds = torch.tensor(beads.bonds, dtype=torch.int64).reshape(-1, 2)
    report = check_chain(torch.from_numpy(target_nm)[None], bonds=bonds)
    return bool((report.finite & report.not_exploded).all())
