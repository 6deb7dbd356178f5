"""How near frames come to a known structure and to its mirror image.

Energies of distances alone cannot tell a fold from its mirror image, so a coarse-grained model may
visit the wrong one, which no distance distribution shows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from trajgen.analysis.features import Feature
from trajgen.data.records import BeadFrames
from trajgen.errors import InputError
from trajgen.geometry.superposition import rmsd, rmsd_matrix

#: Frames that are superposed at once; bounds the memory, changes no value.
CHUNK = 8192


@dataclass(frozen=True)
class NativeDistances:
    """RMSD of frames after superposition, proper rotations only.

    Attributes:
        native_nm: to the structure.
        mirror_nm: to its mirror image.
    """

    native_nm: Float[np.ndarray, " frames"]
    mirror_nm: Float[np.ndarray, " frames"]


@dataclass(frozen=True)
class NativeFeature:
    """The RMSD to a structure and to its mirror image as a coordinate of frames.

    Attributes:
        structure_nm: positions of the beads in the structure.
    """

    structure_nm: Float[np.ndarray, "beads 3"]

    def __call__(self, frames: BeadFrames) -> Feature:
        """Return the two distances of each frame, nm."""
        found = native_distances(frames, self.structure_nm)
        values = np.stack([found.native_nm, found.mirror_nm], axis=1)
        return Feature("rmsd", ("to the structure", "to its mirror image"), "nm", values)


def native_distances(
    frames: BeadFrames, structure_nm: Float[np.ndarray, "beads 3"]
) -> NativeDistances:
    """Return the RMSD of each frame to a structure and to its mirror image.

    Args:
        frames: the frames.
        structure_nm: positions of the same beads in the structure.

    Raises:
        InputError: the structure has another number of beads, or is not finite.
    """
    both = _with_mirror_image(structure_nm)
    if len(structure_nm) != frames.topology.n_beads:
        raise InputError(
            f"structure_nm has {len(structure_nm)} beads and the frames have "
            f"{frames.topology.n_beads}; give the structure of the same beads"
        )
    distances = np.empty((frames.n_frames, 2))
    for start in range(0, frames.n_frames, CHUNK):
        part = frames.positions_nm[start : start + CHUNK].astype(np.float64)
        block = rmsd_matrix(torch.from_numpy(part), both, CHUNK)
        distances[start : start + CHUNK] = block.numpy()
    return NativeDistances(distances[:, 0], distances[:, 1])


def mirror_image_distance(structure_nm: Float[np.ndarray, "beads 3"]) -> float:
    """Return the RMSD of a structure and its mirror image, nm.

    Where it is not well above the cutoff of the shares, as for a flat structure, where it is 0,
    a frame near the one is near the other, and which of them is closer says little.

    Raises:
        InputError: the structure is not finite.
    """
    both = _with_mirror_image(structure_nm)
    return float(rmsd(both[0], both[1]))


def at_native(distances: NativeDistances, cutoff_nm: float) -> Bool[np.ndarray, " frames"]:
    """Say which frames are at the structure: within the cutoff, and nearer than its mirror image.

    A frame at equal distance from both is at neither.

    Raises:
        InputError: the cutoff is not above 0.
    """
    _require_cutoff(cutoff_nm)
    return (distances.native_nm <= cutoff_nm) & (distances.native_nm < distances.mirror_nm)


def at_mirror(distances: NativeDistances, cutoff_nm: float) -> Bool[np.ndarray, " frames"]:
    """Say which frames are at the mirror image of the structure; see ``at_native``."""
    _require_cutoff(cutoff_nm)
    return (distances.mirror_nm <= cutoff_nm) & (distances.mirror_nm < distances.native_nm)


def _require_cutoff(cutoff_nm: float) -> None:
    if not cutoff_nm > 0:
        raise InputError(f"cutoff_nm is {cutoff_nm}; wanted is an RMSD above 0")


def _with_mirror_image(structure_nm: np.ndarray) -> torch.Tensor:
    if not np.isfinite(structure_nm).all():
        raise InputError("structure_nm has a NaN or infinity; give a complete structure")
    structure = structure_nm.astype(np.float64)
    return torch.from_numpy(np.stack([structure, structure * [-1.0, 1.0, 1.0]]))
