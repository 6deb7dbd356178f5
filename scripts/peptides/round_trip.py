"""What is lost between the atoms of dynamics and their tokens: the mean geometry of a molecule."""

from dataclasses import replace
from typing import Any

import torch

from peptides.forward import valid_share
from trajgen.data.records import AtomFrames
from trajgen.geometry.superposition import rmsd
from trajgen.surrogate.surrogate import Surrogate


def round_trip_scores(surrogate: Surrogate, frames: AtomFrames) -> dict[str, Any]:
    """Build frames anew from their rigid frames and torsions, as a model decodes what it says.

    Bond lengths and angles are the means of the molecule, those of the frames are their own.

    Returns:
        The root mean square distance of atoms after superposition, nm, of all frames and of the
        worst; the share of valid frames as they are, as they come back, and with atoms that overlap
        turned apart.
    """
    resolution = surrogate.molecule.resolution.to(torch.device("cpu"))
    sites = torch.from_numpy(frames.positions_nm)
    torsions = resolution.torsions(sites)
    held = torch.zeros(torsions.shape[:2], dtype=torch.bool)
    inner = resolution.inner(sites, torsions)
    built = resolution.sites(resolution.frames(sites), inner, torsions, held)
    apart_nm = rmsd(built, sites)
    mended = resolution.untangled(built, held)
    shares = {
        name: valid_share(replace(frames, positions_nm=some.float().numpy()))
        for name, some in (("valid", sites), ("valid_decoded", built), ("valid_mended", mended))
    }
    return {
        "frames": frames.n_frames,
        "rmsd_nm": float(apart_nm.square().mean().sqrt()),
        "largest_rmsd_nm": float(apart_nm.max()),
        **shares,
    }
