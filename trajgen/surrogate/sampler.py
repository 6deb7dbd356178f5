"""The ODE from noise to data on a fixed grid, for any velocity; knows no network."""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from trajgen.settings import Settings

Velocity = Callable[[Tensor, Tensor], Tensor]


class SamplerSettings(Settings):
    """How the ODE is solved.

    Attributes:
        method: ``euler`` (one evaluation a step) or ``heun`` (two, second order).
        evaluations: network evaluations of a whole solution; even for ``heun``.
    """

    method: Literal["euler", "heun"] = "heun"
    evaluations: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _even_for_heun(self) -> "SamplerSettings":
        if self.method == "heun" and self.evaluations % 2:
            raise ValueError(f"heun takes two evaluations a step; {self.evaluations} is odd")
        return self


def integrate(
    velocity: Velocity, noise: Float[Tensor, "batch *cells"], settings: SamplerSettings
) -> Float[Tensor, "batch *cells"]:
    """Solve dx/dt = velocity(x, t) from t = 0 to t = 1 in equal steps.

    Args:
        velocity: takes x and a flow time for each item of the batch.
        noise: x at t = 0.
        settings: the method and the number of evaluations.

    Returns:
        x at t = 1.
    """
    steps = settings.evaluations // (2 if settings.method == "heun" else 1)
    grid = torch.linspace(0, 1, steps + 1, dtype=noise.dtype, device=noise.device)
    x = noise
    for begin, end in pairwise(grid):
        size = end - begin
        slope = velocity(x, begin.expand(len(x)))
        if settings.method == "heun":
            slope = 0.5 * (slope + velocity(x + size * slope, end.expand(len(x))))
        x = x + size * slope
    return x
