"""The ODE from noise to data on a fixed grid, and its density, for any velocity.

It knows no network.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from trajgen.device import PrecisionName
from trajgen.settings import Settings

Velocity = Callable[[Tensor, Tensor], Tensor]
#: What lies at a flow time, taken back to an earlier one with new noise.
Renewal = Callable[[Tensor, Tensor, Tensor], Tensor]


class SamplerSettings(Settings):
    """How the ODE is solved.

    Attributes:
        method: ``euler`` (one evaluation a step) or ``heun`` (two, second order).
        evaluations: network evaluations of a whole solution; even for ``heun``.
        restart: how far in flow time a step goes back before it begins, with new noise in place of
            what that undoes, wherever there is as much to go back: errors of earlier steps are
            forgotten (Xu et al., "Restart sampling for improving generative processes", NeurIPS
            2023), at no more evaluations, and steps grow longer. 0 for never; None for 0.15 in
            rollouts and paths of atoms, and for never in all else.
        precision: ``bf16`` for products of the network in bfloat16, ``float32``, or ``auto`` for
            the former on a GPU and the latter on a CPU.
        compile: let torch compile the network first, which takes half a minute and, on a CPU, a C++
            compiler; long rollouts are faster then.
    """

    method: Literal["euler", "heun"] = "heun"
    evaluations: int = Field(default=20, ge=1)
    restart: float | None = Field(default=None, ge=0, lt=1)
    precision: PrecisionName = "auto"
    compile: bool = False

    @model_validator(mode="after")
    def _even_for_heun(self) -> "SamplerSettings":
        if self.method == "heun" and self.evaluations % 2:
            raise ValueError(f"heun takes two evaluations a step; {self.evaluations} is odd")
        return self


def integrate(
    velocity: Velocity,
    noise: Float[Tensor, "batch *cells"],
    settings: SamplerSettings,
    known_at_end: bool = True,
    renew: Renewal | None = None,
) -> Float[Tensor, "batch *cells"]:
    """Solve dx/dt = velocity(x, t) from t = 0 to t = 1 on an even grid.

    Args:
        velocity: takes x and a flow time for each item of the batch.
        noise: x at t = 0.
        settings: the method, the number of evaluations, and how far each step goes back first.
        known_at_end: whether the velocity is known at t = 1. If not, the last step is one of
            Euler's method, with an evaluation less.
        renew: takes x, its flow time and an earlier one, and returns what lies there, with new
            noise; wanted where ``settings.restart`` is above 0.

    Returns:
        x at t = 1.

    Raises:
        ValueError: steps go back, and nothing says how.
    """
    steps = settings.evaluations // (2 if settings.method == "heun" else 1)
    grid = torch.linspace(0, 1, steps + 1, dtype=noise.dtype, device=noise.device)
    restart, x = settings.restart or 0.0, noise
    if restart > 0 and renew is None:
        raise ValueError(f"settings.restart is {restart:g}, and no renew is given; give it, or 0")
    for begin, end in pairwise(grid):
        if renew is not None and 0 < restart < begin:
            x, begin = renew(x, begin, begin - restart), begin - restart
        size = end - begin
        slope = velocity(x, begin.expand(len(x)))
        if settings.method == "heun" and (known_at_end or end < 1):
            slope = 0.5 * (slope + velocity(x + size * slope, end.expand(len(x))))
        x = x + size * slope
    return x


def normal_log_density(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the logarithm of the density of the standard normal distribution."""
    return -0.5 * (values.square() + math.log(2 * math.pi))


def log_density(
    velocity: Velocity,
    data: Float[Tensor, "batch *cells"],
    counted: Bool[Tensor, "batch *cells"],
    probes: int,
    generator: torch.Generator,
    settings: SamplerSettings,
    known_at_end: bool = True,
    of_noise: Callable[[Tensor], Tensor] = normal_log_density,
) -> Float[Tensor, "probes batch"]:
    """Return the logarithm of the density at ``data`` of what the ODE makes of noise.

    Along a solution d ln p / dt = -∇·v (Chen et al., NeurIPS 2018, eq. 8), with the divergence
    estimated by random signs, ε · ∂(v · ε)/∂x (Grathwohl et al., ICLR 2019), drawn anew at every
    evaluation: on a fixed grid the sum stays without bias, and errors cancel along it. The ODE is
    solved from t = 1 back to 0 on the same grid as ``integrate``.

    Args:
        velocity: takes x and a flow time for each item of the batch, and is zero where nothing is
            counted.
        data: x at t = 1.
        counted: the cells that are random.
        probes: estimates of each density that do not depend on each other.
        generator: of the signs, on the CPU; batches of one shape get the same from the same seed.
        settings: the method and the number of evaluations.
        known_at_end: whether the velocity is known at t = 1. If not, the first step is by that of
            its other end.
        of_noise: what each number of the noise adds to the logarithm of its density.

    Returns:
        Each estimate; their mean is the best one.
    """
    steps = settings.evaluations // (2 if settings.method == "heun" else 1)
    grid = torch.linspace(1, 0, steps + 1, dtype=data.dtype, device=data.device)

    def slope_and_divergence(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            moving = x.detach().requires_grad_()
            v = velocity(moving, t.expand(len(x)))
        signs = (2 * torch.randint(2, (probes, *x.shape), generator=generator) - 1).to(x) * counted
        pulled = [torch.autograd.grad(v, moving, each, retain_graph=True)[0] for each in signs]
        return v.detach(), (torch.stack(pulled) * signs).flatten(2).sum(dim=2)

    x, grown = data, torch.zeros(probes, len(data), dtype=data.dtype, device=data.device)
    for begin, end in pairwise(grid):
        size = end - begin
        whole = known_at_end or begin < 1
        slope, divergence = slope_and_divergence(x, begin if whole else end)
        if settings.method == "heun" and whole:
            other, ahead = slope_and_divergence(x + size * slope, end)
            slope, divergence = 0.5 * (slope + other), 0.5 * (divergence + ahead)
        x, grown = x + size * slope, grown + size * divergence
    # ``grown`` is the integral of the divergence from 1 to 0, the negative of that from 0 to 1.
    return (of_noise(x) * counted).flatten(1).sum(dim=1) + grown
