"""The random numbers of a simulation, which belong to a chain and a step and to nothing else."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from trajgen.seeding import derive_seed, numpy_generator

#: Steps whose noise comes from one generator and is drawn at once; other numbers with another one.
NOISE_BLOCK = 64


class ChainNoise:
    """Standard normal numbers, by block of steps and by chain from ``(seed, "langevin", …)``.

    A chain draws the same in any company and in any order of chains, and a resumed run draws again
    what was drawn before without a stored state. Numbers are drawn in single precision and serve
    both precisions, so a run in float64 follows the path of one in float32 as long as rounding
    lets it.
    """

    def __init__(
        self, seed: int, numbers: Sequence[int], rungs: int, beads: int, like: Tensor
    ) -> None:
        """Make the source of noise of chains with ``numbers``, each on ``rungs`` temperatures.

        Args:
            seed: base of all draws.
            numbers: the number of each chain.
            rungs: temperatures of a chain.
            beads: beads of a chain.
            like: a tensor of the device and the type of the noise.
        """
        self.seed, self.numbers, self.like = seed, numbers, like
        self.shape = (rungs, beads, 3)
        self._block = -1
        self._drawn = like

    def first(self) -> Float[Tensor, "replicas beads 3"]:
        """Return the noise that velocities are made of before the first step."""
        return self._draw("langevin start", 0, 1)[:, 0].flatten(0, 1)

    def of_step(self, step: int) -> Float[Tensor, "replicas beads 3"]:
        """Return the noise of a step, counted from 0; the rungs of a chain follow each other."""
        block, row = divmod(step, NOISE_BLOCK)
        if block != self._block:
            self._block, self._drawn = block, self._draw("langevin", block, NOISE_BLOCK)
        return self._drawn[:, row].flatten(0, 1)

    def _draw(self, purpose: str, block: int, steps: int) -> Tensor:
        drawn = np.empty((len(self.numbers), steps, *self.shape), dtype=np.float32)
        for number, mine in zip(self.numbers, drawn, strict=True):
            generator = numpy_generator(derive_seed(self.seed, purpose, block, number))
            generator.standard_normal(dtype=np.float32, out=mine)
        return torch.from_numpy(drawn).to(self.like)


def exchange_draws(
    seed: int, numbers: Sequence[int], attempt: int, pairs: int
) -> Float64[np.ndarray, "chains pairs"]:
    """Return a uniform number in [0, 1) for each chain and pair of neighbours."""
    generators = (
        numpy_generator(derive_seed(seed, "exchange", attempt, number)) for number in numbers
    )
    return np.stack([generator.random(pairs) for generator in generators])
