"""The nearest known all-atom frame as a start: it is chemically right, only in another place."""

import numpy as np
import torch
from jaxtyping import Float

from al.molecule.molecule import Molecule
from trajgen.errors import InputError
from trajgen.geometry.superposition import superpose


def laid_over(
    nearest_nm: Float[np.ndarray, "atoms 3"],
    target_nm: Float[np.ndarray, "beads 3"],
    molecule: Molecule,
) -> Float[np.ndarray, "atoms 3"]:
    """Return the frame moved rigidly so that its alpha carbons lie best on the target (nm).

    Raises:
        InputError: the frame is of another molecule, or is not finite.
    """
    atoms = np.asarray(nearest_nm, dtype=np.float64)
    if atoms.shape != (molecule.topology.n_atoms, 3) or not np.isfinite(atoms).all():
        raise InputError(
            f"the nearest frame has shape {atoms.shape}; wanted are finite coordinates of the "
            f"molecule's {molecule.topology.n_atoms} atoms"
        )
    moved = torch.from_numpy(atoms)
    motion = superpose(moved[list(molecule.alpha_carbons)], torch.from_numpy(target_nm))
    return motion[None].apply(moved).numpy()
