import pytest
import torch

from trajgen.surrogate.interpolant import (
    PathName,
    path_coefficients,
    path_point,
    velocity_to,
)

PATHS: list[PathName] = ["linear", "trigonometric"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_goes_from_noise_to_data(path: PathName):
    generator = torch.Generator().manual_seed(0)
    noise, data = torch.randn(2, 4, 3, 2, generator=generator, dtype=torch.float64)
    begin, _ = path_point(path, noise, data, torch.zeros(4, dtype=torch.float64))
    end, _ = path_point(path, noise, data, torch.ones(4, dtype=torch.float64))
    assert torch.allclose(begin, noise, atol=1e-12)
    assert torch.allclose(end, data, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_the_velocity_is_the_time_derivative_of_the_path(path: PathName):
    generator = torch.Generator().manual_seed(1)
    noise, data = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.05, 0.95, 5, dtype=torch.float64)
    _, velocity = path_point(path, noise, data, t)
    _, wanted = torch.func.jvp(
        lambda time: path_point(path, noise, data, time)[0], (t,), (torch.ones_like(t),)
    )
    assert torch.allclose(velocity, wanted, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_the_velocity_follows_from_the_end_of_the_path(path: PathName):
    noise, data = torch.randn(2, 5, 3, 2, generator=torch.Generator().manual_seed(1)).double()
    t = torch.linspace(0, 0.99, 5, dtype=torch.float64)
    point, velocity = path_point(path, noise, data, t)
    torch.testing.assert_close(velocity_to(data, path, point, t), velocity)


def test_the_trigonometric_path_keeps_the_variance():
    alpha, sigma, _, _ = path_coefficients("trigonometric", torch.linspace(0, 1, 11))
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(11))


def test_each_window_has_its_own_time():
    noise, data = torch.zeros(2, 3), torch.ones(2, 3)
    point, _ = path_point("linear", noise, data, torch.tensor([0.25, 0.75]))
    assert point.tolist() == [[0.25] * 3, [0.75] * 3]
