"""What a simulation asks of the chains that it starts from."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from trajgen.errors import InputError
from trajgen.potential.dynamics.containment import LONGEST_BOND_NM, longest_bonds
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.potential import Potential


def bond_index(potential: Potential) -> Int[Tensor, "bonds 2"]:
    """Return the bonded pairs of beads, on the device of the potential."""
    pairs = torch.tensor(potential.topology.bonds, dtype=torch.int64).reshape(-1, 2)
    return pairs.to(potential.device)


def require_starts(
    potential: Potential,
    starts_nm: np.ndarray,
    settings: SimulationSettings,
    numbers: Sequence[int],
) -> None:
    """Check what ``simulate`` is given.

    Raises:
        InputError: the starts are not of the potential's molecule, not finite, or broken already;
            there are fewer steps than one saved frame takes; or not one number for each chain.
    """
    n = potential.topology.n_beads
    if starts_nm.ndim != 3 or starts_nm.shape[1:] != (n, 3) or not len(starts_nm):
        raise InputError(
            f"starts_nm has shape {starts_nm.shape}; wanted is (chains, {n}, 3) with a chain or "
            f"more, for a potential of {potential.topology.sequence}"
        )
    if len(numbers) != len(starts_nm):
        raise InputError(
            f"numbers has {len(numbers)} entries for {len(starts_nm)} chains; give one for each"
        )
    if settings.n_frames == 0:
        raise InputError(
            f"steps is {settings.steps} and save_every {settings.save_every}: no frame would be "
            "saved; choose more steps or a smaller save_every"
        )
    longest_nm = longest_bonds(torch.tensor(starts_nm), bond_index(potential).cpu())
    bad = np.flatnonzero(~(longest_nm <= LONGEST_BOND_NM).numpy())
    if len(bad):
        raise InputError(
            f"start {bad[0]} ({len(bad)} of {len(starts_nm)}) has a NaN or a bond beyond "
            f"{LONGEST_BOND_NM} nm; give whole chains in nm"
        )
