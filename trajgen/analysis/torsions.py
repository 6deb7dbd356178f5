"""Torsions of all-atom frames: backbone, peptide bond and side chain.

Angles have the IUPAC sign (IUPAC-IUB 1970, J. Mol. Biol. 52:1), trans is π.
"""

import math

import numpy as np
import torch
from jaxtyping import Float

from trajgen.analysis.features import Feature
from trajgen.data.records import AtomFrames
from trajgen.data.torsions import (
    Torsion,
    find_backbone,
    find_omega,
    find_side_chains,
    residue_labels,
)
from trajgen.geometry.internal import dihedrals

#: Angles that are computed at once, frames times torsions; bounds the memory, changes no value.
ANGLES_AT_ONCE = 500_000


def backbone_torsions(frames: AtomFrames) -> Feature:
    """Return phi (C⁻, N, CA, C) and psi (N, CA, C, N⁺) of every residue that has them, rad."""
    return _feature("backbone", frames, find_backbone(frames.topology))


def omega_torsions(frames: AtomFrames) -> Feature:
    """Return omega (CA, C, N⁺, CA⁺) of every peptide bond, those to ACE and NME among them, rad."""
    return _feature("omega", frames, find_omega(frames.topology))


def side_chain_torsions(frames: AtomFrames) -> Feature:
    """Return chi1 to chi5 of every residue as far as its atoms are there, rad.

    They are those of the atom that comes first by name (CD1, OD1, OE1, NH1) and are left as they
    are where a turn by π changes atom names only: chi2 of PHE, TYR and ASP, chi3 of GLU, chi5 of
    ARG. Whoever compares molecules whose atoms may be named either way round folds these.
    """
    return _feature("side_chain", frames, find_side_chains(frames.topology))


def torsion_angles(
    frames: AtomFrames, torsions: tuple[Torsion, ...]
) -> Float[np.ndarray, "frames terms"]:
    """Return torsions of all frames, rad in (−π, π].

    Where three of the four atoms lie on a line there is no torsion, and the value is zero.
    """
    values = np.empty((frames.n_frames, len(torsions)))
    if not torsions:
        return values
    # Only the atoms that are needed are made float64; a solute has many others.
    used, places = np.unique([torsion.atoms for torsion in torsions], return_inverse=True)
    quadruples = torch.from_numpy(places.reshape(-1, 4))
    chunk = max(1, ANGLES_AT_ONCE // len(torsions))
    for start in range(0, frames.n_frames, chunk):
        part = frames.positions_nm[start : start + chunk, used].astype(np.float64)
        values[start : start + chunk] = dihedrals(torch.from_numpy(part), quadruples).numpy()
    return values


def _feature(name: str, frames: AtomFrames, torsions: tuple[Torsion, ...]) -> Feature:
    residues = residue_labels(frames.topology)
    labels = tuple(
        f"{torsion.name} {'-'.join(residues[r] for r in torsion.residues)}" for torsion in torsions
    )
    return Feature(name, labels, "rad", torsion_angles(frames, torsions), 2 * math.pi)
