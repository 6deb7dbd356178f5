"""One rule for every random draw: seed = f(base, purpose, round, index).

No global random state is ever read or set, so a draw does not depend on the order of workers,
on batch size, or on what ran before it; a resumed run repeats it without a stored state.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(base: int, purpose: str, round: int = 0, index: int = 0) -> int:
    """Return a seed in [0, 2**63) that depends on all four arguments and on nothing else."""
    text = f"{base}/{purpose}/{round}/{index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_31(seed: int) -> int:
    """Fold a seed to [1, 2**31): libraries such as OpenMM take 32-bit seeds and read 0 as none."""
    return seed % (2**31 - 1) + 1


def numpy_generator(seed: int) -> np.random.Generator:
    """Return a NumPy generator for a derived seed."""
    return np.random.Generator(np.random.PCG64(seed))


def torch_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator for a derived seed."""
    import torch  # late: all-atom worker processes draw no torch numbers and start faster

    generator = torch.Generator(device=device)
    generator.manual_seed(seed)
    return generator
