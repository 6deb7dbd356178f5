import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import norm, wasserstein_distance
from torch import Tensor

from trajgen.errors import InputError
from trajgen.settings import parse_settings
from trajgen.surrogate.interpolant import (
    PathName,
    path_coefficients,
    path_point,
    renewed_point,
    velocity_to,
)
from trajgen.surrogate.sampler import Renewal, SamplerSettings, integrate, log_density


def gaussian_mixture_velocity(
    path: PathName, means: Tensor, stds: Tensor, weights: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """E[d x_t / dt | x_t] for a one-dimensional mixture: exact, component by component."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma, d_alpha, d_sigma = (value[:, None] for value in path_coefficients(path, t))
        variance = (alpha * stds) ** 2 + sigma**2
        centred = x - alpha * means
        share = torch.softmax(
            weights.log() - 0.5 * variance.log() - 0.5 * centred**2 / variance, dim=1
        )
        data = means + alpha * stds**2 / variance * centred
        noise = sigma / variance * centred
        return (share * (d_alpha * data + d_sigma * noise)).sum(dim=1, keepdim=True)

    return velocity


def gaussian_mixture_end(
    path: PathName, means: Tensor, stds: Tensor, weights: Tensor
) -> Callable[[Tensor, Tensor], Tensor]:
    """The velocity of E[x_1 | x_t], as of a network that says end points; unknown at t = 1."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        assert (t < 1).all()
        alpha, sigma, _, _ = (value[:, None] for value in path_coefficients(path, t))
        variance = (alpha * stds) ** 2 + sigma**2
        centred = x - alpha * means
        share = torch.softmax(
            weights.log() - 0.5 * variance.log() - 0.5 * centred**2 / variance, dim=1
        )
        end = (share * (means + alpha * stds**2 / variance * centred)).sum(dim=1, keepdim=True)
        return velocity_to(end, path, x, t)

    return velocity


def renewal(path: PathName, seed: int) -> Renewal:
    """Takes points back with standard normal noise."""
    generator = torch.Generator().manual_seed(seed)

    def renew(x: Tensor, t: Tensor, earlier: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return renewed_point(path, x, t, earlier, torch.zeros_like(x), noise)

    return renew


def standard_normal(n: int) -> Tensor:
    """The quantiles of the standard normal, one draw for each of ``n`` equal parts."""
    return torch.from_numpy(norm.ppf((torch.arange(n) + 0.5).numpy() / n))[:, None]


@pytest.mark.parametrize("path", ["linear", "trigonometric"])
def test_a_gaussian_comes_out_with_its_mean_and_spread(path: PathName):
    one = torch.ones(1, dtype=torch.float64)
    velocity = gaussian_mixture_velocity(path, 1.5 * one, 0.3 * one, one)
    samples = integrate(velocity, standard_normal(500), SamplerSettings(evaluations=64))
    # The flow of a Gaussian is affine: x_1 = mean + std * x_0.
    assert (samples - (1.5 + 0.3 * standard_normal(500))).abs().max() < 0.01


@pytest.mark.parametrize("known_at_end", [True, False])
@pytest.mark.parametrize("path", ["linear", "trigonometric"])
def test_a_mixture_comes_out_with_the_weights_of_its_parts(path: PathName, known_at_end: bool):
    means, stds = torch.tensor([-2.0, 1.0]).double(), torch.tensor([0.3, 0.5]).double()
    weights = torch.tensor([0.3, 0.7]).double()
    make = gaussian_mixture_velocity if known_at_end else gaussian_mixture_end
    velocity = make(path, means, stds, weights)
    noise = standard_normal(4000)
    samples = integrate(velocity, noise, SamplerSettings(evaluations=100), known_at_end)[:, 0]
    parts = [
        means[k] + stds[k] * standard_normal(round(4000 * float(weights[k])))[:, 0]
        for k in range(2)
    ]
    wanted = torch.cat(parts)
    assert wasserstein_distance(samples.numpy(), wanted.numpy()) < 0.02
    assert abs(float((samples < -0.5).double().mean()) - 0.3) < 0.01


@pytest.mark.parametrize("path", ["linear", "trigonometric"])
def test_a_point_taken_back_is_one_of_the_path_there(path: PathName):
    """Of the same data, with noise of the mean and the spread that it has at the earlier time."""
    generator = torch.Generator().manual_seed(0)
    data, mean = 0.7, -1.2
    first, fresh = torch.randn(2, 200_000, 1, generator=generator, dtype=torch.float64)
    t, earlier = (torch.tensor(value, dtype=torch.float64) for value in (0.8, 0.45))
    ends = torch.full_like(first, data)
    point, _ = path_point(path, first + mean, ends, t.expand(len(ends)))
    taken = renewed_point(path, point, t, earlier, torch.full_like(ends, mean), fresh)
    there = path_coefficients(path, earlier)
    wanted_mean = float(there.alpha * data + there.sigma * mean)
    assert float(taken.mean()) == pytest.approx(wanted_mean, abs=0.005)
    assert float(taken.std()) == pytest.approx(float(there.sigma), rel=0.01)


@pytest.mark.parametrize("known_at_end", [True, False])
@pytest.mark.parametrize("path", ["linear", "trigonometric"])
def test_restarts_leave_a_mixture_as_it_is(path: PathName, known_at_end: bool):
    means, stds = torch.tensor([-2.0, 1.0]).double(), torch.tensor([0.3, 0.5]).double()
    weights = torch.tensor([0.3, 0.7]).double()
    make = gaussian_mixture_velocity if known_at_end else gaussian_mixture_end
    velocity, count = make(path, means, stds, weights), 40_000
    settings = SamplerSettings(evaluations=200, restart=0.05)
    samples = integrate(
        velocity, standard_normal(count), settings, known_at_end, renewal(path, seed=1)
    )[:, 0]
    parts = [
        means[k] + stds[k] * standard_normal(round(count * float(weights[k])))[:, 0]
        for k in range(2)
    ]
    assert wasserstein_distance(samples.numpy(), torch.cat(parts).numpy()) < 0.03
    assert abs(float((samples < -0.5).double().mean()) - 0.3) < 0.01


def test_restarts_forget_errors_of_earlier_steps():
    """Here of the noise itself, which is a spread too far to one side."""
    one = torch.ones(1, dtype=torch.float64)
    velocity = gaussian_mixture_velocity("linear", 0 * one, 0.5 * one, one)
    wrong = standard_normal(20_000) + 1.0
    kept, forgotten = (
        integrate(
            velocity, wrong, SamplerSettings(evaluations=200, restart=restart),
            renew=renewal("linear", seed=2),
        )
        for restart in (0.0, 0.05)
    )  # fmt: skip
    assert float(kept.mean()) == pytest.approx(0.5, abs=0.01)
    assert abs(float(forgotten.mean())) < 0.1
    assert float(forgotten.std()) == pytest.approx(0.5, rel=0.03)


def test_the_order_of_convergence_is_that_of_the_method():
    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return -x * torch.cos(t)[:, None]

    start = torch.ones(1, 1, dtype=torch.float64)
    exact = math.exp(-math.sin(1.0))
    for method, order, per_step in (("euler", 1, 1), ("heun", 2, 2)):
        errors = [
            abs(
                float(
                    integrate(
                        velocity,
                        start,
                        SamplerSettings(method=method, evaluations=per_step * steps),
                    )
                )
                - exact
            )
            for steps in (16, 32)
        ]
        assert abs(math.log2(errors[0] / errors[1]) - order) < 0.2


@pytest.mark.parametrize("known_at_end", [True, False])
@pytest.mark.parametrize(("method", "evaluations"), [("euler", 7), ("heun", 8)])
def test_the_chosen_number_of_evaluations_is_spent(
    method: str, evaluations: int, known_at_end: bool
):
    """Heun's method takes one less where the velocity is not known at the end."""
    calls = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        calls.append(float(t[0]))
        return torch.zeros_like(x)

    settings = SamplerSettings(method=method, evaluations=evaluations, restart=0.3)
    integrate(velocity, torch.zeros(2, 1), settings, known_at_end, renewal("linear", seed=0))
    assert len(calls) == evaluations - (method == "heun" and not known_at_end)
    assert known_at_end or max(calls) < 1


def test_going_back_without_a_way_is_refused():
    with pytest.raises(ValueError, match=r"restart is 0\.2, and no renew is given"):
        integrate(lambda x, t: x, torch.zeros(2, 1), SamplerSettings(restart=0.2))


def test_a_restart_of_the_whole_way_is_refused():
    with pytest.raises(InputError, match="restart"):
        parse_settings(SamplerSettings, {"restart": 1.0}, "sampler")


def test_heun_with_an_odd_number_of_evaluations_is_refused():
    with pytest.raises(InputError, match="two evaluations a step; 7 is odd"):
        parse_settings(SamplerSettings, {"evaluations": 7}, "sampler")


@pytest.mark.parametrize("known_at_end", [True, False])
@pytest.mark.parametrize("path", ["linear", "trigonometric"])
def test_the_density_of_a_mixture_is_found(path: PathName, known_at_end: bool):
    means, stds = torch.tensor([-2.0, 1.0]).double(), torch.tensor([0.3, 0.5]).double()
    weights = torch.tensor([0.3, 0.7]).double()
    make = gaussian_mixture_velocity if known_at_end else gaussian_mixture_end
    velocity = make(path, means, stds, weights)
    data = torch.tensor([-2.4, -1.9, 0.2, 1.0, 1.7]).double()[:, None]
    wanted = sum(
        w * norm.pdf(data[:, 0], m, s) for w, m, s in zip(weights, means, stds, strict=True)
    )
    found = log_density(
        velocity, data, torch.ones_like(data, dtype=torch.bool), 1, torch.Generator(),
        SamplerSettings(evaluations=400), known_at_end,
    )  # fmt: skip
    assert (found - torch.log(wanted)).abs().max() < 0.02


def test_cells_that_are_not_counted_add_nothing_to_the_density():
    data = torch.tensor([[0.3, 5.0], [-1.0, 7.0]]).double()
    counted = torch.tensor([[True, False], [True, False]])

    def shrinking(x: Tensor, t: Tensor) -> Tensor:
        return -0.7 * x * counted  # x_1 = exp(-0.7) x_0

    found = log_density(
        shrinking, data, counted, 1, torch.Generator(), SamplerSettings(evaluations=100)
    )
    wanted = torch.from_numpy(norm.logpdf(data[:, 0], 0, math.exp(-0.7)))
    assert (found - wanted).abs().max() < 1e-3


def test_the_divergence_is_found_by_random_signs():
    matrix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double() / 3

    def linear(x: Tensor, t: Tensor) -> Tensor:
        return x @ matrix.T

    data = torch.randn(1, 6, generator=torch.Generator().manual_seed(1)).double().expand(2000, -1)
    everything = torch.ones_like(data, dtype=torch.bool)
    signs = torch.Generator().manual_seed(2)
    found = log_density(linear, data, everything, 2, signs, SamplerSettings(evaluations=60))
    start = data[:1] @ torch.linalg.matrix_exp(-matrix).T
    wanted = -0.5 * start.square().sum() - 3 * math.log(2 * math.pi) - matrix.trace()
    assert found.shape == (2, 2000)
    assert abs(float(found.mean() - wanted)) < 0.02
    # Estimates do not depend on each other, nor do the signs of one along the way: their variance,
    # that of the off-diagonal sums, is spread over the evaluations.
    both = matrix + matrix.T
    of_one = float(both.triu(1).square().sum().sqrt())
    assert float(found.std()) == pytest.approx(of_one / math.sqrt(60), rel=0.05)
    assert abs(float(torch.corrcoef(found)[0, 1])) < 0.1


def test_the_same_seed_gives_batches_of_a_shape_the_same_signs():
    """So that what is compared differs by the data alone."""
    matrix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double()
    data = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1)).double()

    def estimates(x: Tensor, seed: int) -> Tensor:
        everything, signs = torch.ones_like(x, dtype=torch.bool), torch.Generator()
        return log_density(
            lambda x, t: x @ matrix.T, x, everything, 4, signs.manual_seed(seed),
            SamplerSettings(evaluations=10),
        )  # fmt: skip

    first, second = estimates(data[0], 1), estimates(data[1], 1)
    # The divergence of a linear velocity is the same everywhere, and so are its estimates.
    difference = first - second
    assert (difference - difference[0]).abs().max() < 1e-9
    assert (first - first[0]).abs().max() > 0.1
    assert not torch.equal(first, estimates(data[0], 2))
