"""The path from noise to data, and its velocity; knows no network and no integrator.

x_t = alpha(t) x_1 + sigma(t) x_0 with x_0 Gaussian noise at t = 0 and x_1 data at t = 1
(Albergo, Boffi, Vanden-Eijnden, "Stochastic interpolants", 2023, section 4). What a network learns
is a conditional mean: of the velocity d x_t / dt, or of the end point x_1, from which the velocity
follows (section 5 there).
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

PathName = Literal["linear", "trigonometric"]
TargetName = Literal["velocity", "end_point"]


class Coefficients(NamedTuple):
    """The weights of data and noise at a time, and their time derivatives."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor


def path_coefficients(path: PathName, t: Float[Tensor, "*batch"]) -> Coefficients:
    """Return alpha, sigma and their derivatives at the flow times ``t`` in [0, 1].

    ``linear``: alpha = t, sigma = 1 - t. ``trigonometric``: alpha = sin(pi t / 2),
    sigma = cos(pi t / 2), which keeps the variance of unit-variance data.
    """
    if path == "linear":
        return Coefficients(t, 1 - t, torch.ones_like(t), -torch.ones_like(t))
    angle, rate = 0.5 * math.pi * t, 0.5 * math.pi
    sine, cosine = torch.sin(angle), torch.cos(angle)
    return Coefficients(sine, cosine, rate * cosine, -rate * sine)


def path_point(
    path: PathName,
    noise: Float[Tensor, "batch *cells"],
    data: Float[Tensor, "batch *cells"],
    t: Float[Tensor, " batch"],
) -> tuple[Float[Tensor, "batch *cells"], Float[Tensor, "batch *cells"]]:
    """Return the point x_t of the path at ``t``, and its velocity d x_t / dt."""
    alpha, sigma, d_alpha, d_sigma = (
        value.reshape(-1, *[1] * (data.ndim - 1)) for value in path_coefficients(path, t)
    )
    return alpha * data + sigma * noise, d_alpha * data + d_sigma * noise


def renewed_point(
    path: PathName,
    point: Float[Tensor, "batch *cells"],
    t: Float[Tensor, ""],
    earlier: Float[Tensor, ""],
    mean: Float[Tensor, "batch *cells"],
    fresh: Float[Tensor, "batch *cells"],
) -> Float[Tensor, "batch *cells"]:
    """Take points of paths back to an earlier time, with new noise for what that undoes.

    x_t = alpha x_1 + sigma x_0 times alpha' / alpha has the share alpha' of data and less noise
    than sigma'; as much is added as makes it that of a point at the earlier time. The data of both
    are the same, so that points distributed as x_t come out distributed as x_t'.

    Args:
        path: how noise turns into data.
        point: points of the paths at ``t``, which is above 0.
        t: their flow time.
        earlier: the flow time to go back to.
        mean: mean of the noise that paths begin as.
        fresh: new noise less its mean.
    """
    now, before = path_coefficients(path, t), path_coefficients(path, earlier)
    kept = before.alpha / now.alpha
    left = kept * now.sigma
    new = (before.sigma.square() - left.square()).sqrt()
    return kept * point + (before.sigma - left) * mean + new * fresh


def velocity_to(
    end: Float[Tensor, "batch *cells"],
    path: PathName,
    x: Float[Tensor, "batch *cells"],
    t: Float[Tensor, " batch"],
) -> Float[Tensor, "batch *cells"]:
    """Return the velocity at ``x`` of the path that leads to an end point, for ``t`` below 1.

    With x_0 = (x - alpha x_1) / sigma it is d_alpha x_1 + d_sigma x_0. At t = 1, where sigma is
    zero, it is not known.
    """
    alpha, sigma, d_alpha, d_sigma = (
        value.reshape(-1, *[1] * (x.ndim - 1)) for value in path_coefficients(path, t)
    )
    return d_alpha * end + d_sigma * (x - alpha * end) / sigma
