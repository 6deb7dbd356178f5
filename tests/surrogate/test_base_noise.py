"""Noise over time: a Gaussian process with the covariance of the data, given the known frames."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import multivariate_normal
from torch import Tensor

from trajgen.surrogate.base_noise import OWN_SHARE, BaseNoise, Relaxations
from trajgen.surrogate.sampler import normal_log_density

FRAMES, RESIDUES = 7, 2
BOTH = torch.ones(1, RESIDUES, dtype=torch.bool)


def mixture(*parts: tuple[float, float]) -> Relaxations:
    """One channel that relaxes in some times with some variances."""
    times, variances = zip(*parts, strict=True)
    return Relaxations(torch.tensor(times), torch.tensor(variances)[:, None])


def known_frames(*frames: int) -> Tensor:
    known = torch.zeros(1, FRAMES, RESIDUES, dtype=torch.bool)
    known[:, list(frames)] = True
    return known


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_fit_goes_as_far_as_the_data_at_each_time():
    times = torch.tensor(np.geomspace(0.1, 1000.0, 17))
    grown = 0.3 * (1 - torch.exp(-times / 0.7)) + 2.0 * (1 - torch.exp(-times / 90.0))
    std = torch.stack([grown.sqrt(), (0.01 * times).sqrt(), torch.ones(17)], dim=1)
    fitted = Relaxations.fit(times, std, torch.tensor([True, True, False]))
    found = ((1 - torch.exp(-times[:, None] / fitted.times_ps)) @ fitted.variances.double()).sqrt()
    # The second goes on for ever, as diffusion does; the third is no change.
    assert (found[:, :2] / std[:, :2] - 1).abs().max() < 0.05
    assert (fitted.variances[:, 2] == 0).all()


def test_a_slow_relaxation_is_brownian_motion_on_both_sides_of_the_key_frame():
    times = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 3.0, 4.0]])
    found = mixture((1e5, 1.0)).correlations(times)[0, 0]
    t, u = times[0, :, None], times[0, None, :]
    shared = torch.where(t * u > 0, torch.minimum(t.abs(), u.abs()), 0.0)
    wanted = torch.where(t * u > 0, shared / (t * u).abs().sqrt(), 0.0)
    assert torch.allclose(found, wanted, atol=0.01)


@settings(deadline=None, max_examples=50)
@given(
    times=arrays(np.float32, FRAMES, elements=st.floats(0, 1000, width=32)),
    variances=arrays(np.float32, 4, elements=st.floats(0, 10, width=32)),
)
def test_noise_and_back_at_any_times(times: np.ndarray, variances: np.ndarray):
    """Frames may lie at the same time, and a channel may not change at all."""
    relaxations = Relaxations(
        torch.tensor([0.01, 1.0, 30.0, 1e4]), torch.from_numpy(variances)[:, None]
    )
    since = torch.from_numpy(times - times[0])[None]
    known = known_frames(0, 4)
    noise = BaseNoise.of(relaxations, since, known, None, BOTH)
    white = numbers(0, 1, FRAMES, RESIDUES, 1)
    point = noise.point(white, known, white)
    assert point.isfinite().all()
    assert torch.allclose(noise.point(noise.whitened(point), known, point), point, atol=1e-4)


@pytest.mark.parametrize("seen", [(0,), (0, 6), (0, 1, 5, 6), (0, 3)])
def test_noise_is_the_gaussian_process_given_the_known_frames(seen: tuple[int, ...]):
    """Its mean and covariance are those of a Schur complement, and its density is the normal."""
    relaxations = mixture((0.5, 1.0), (40.0, 3.0))
    since = torch.tensor([[0.0, 0.3, 0.9, 2.0, 6.0, 20.0, 70.0]])
    known = known_frames(*seen)
    noise = BaseNoise.of(relaxations, since, known, None, BOTH)
    whole = relaxations.correlations(since)[0, 0].double().numpy() * (1 - OWN_SHARE)
    np.fill_diagonal(whole, 1.0)
    asked = [frame for frame in range(FRAMES) if frame not in seen]
    tokens = numbers(1, 1, FRAMES, RESIDUES, 1)
    given_ = tokens[0, list(seen), 0, 0].double().numpy()
    across = whole[np.ix_(asked, seen)] @ np.linalg.inv(whole[np.ix_(seen, seen)])
    mean, covariance = across @ given_, whole[np.ix_(asked, asked)]
    covariance = covariance - across @ whole[np.ix_(seen, asked)]

    still = noise.point(torch.zeros_like(tokens), known, tokens)[0, :, 0, 0]
    units = torch.eye(FRAMES)[:, :, None, None].expand(-1, -1, RESIDUES, 1)
    each = torch.stack([noise.point(unit[None], known, tokens)[0, :, 0, 0] for unit in units])
    alone = torch.stack([noise.about_mean(unit[None], known)[0, :, 0, 0] for unit in units])
    assert torch.allclose(alone[:, asked], (each - still)[:, asked], atol=1e-5)
    slopes = (each - still)[asked][:, asked].double().numpy()
    assert torch.allclose(still[list(seen)], tokens[0, list(seen), 0, 0], atol=1e-6)
    assert np.allclose(still[asked], mean, atol=1e-5)
    assert np.allclose(slopes.T @ slopes, covariance, atol=1e-5)

    point = noise.point(numbers(2, *tokens.shape), known, tokens)
    density = normal_log_density(noise.whitened(point)) - noise.log_spread()
    wanted = multivariate_normal.logpdf(point[0, asked, 0, 0], mean, covariance)
    assert density[0, asked, 0, 0].sum() == pytest.approx(wanted, abs=1e-4)


def test_frames_that_are_absent_and_residues_without_a_start_have_white_noise():
    since, known = torch.arange(float(FRAMES))[None], known_frames(0)
    present = torch.arange(FRAMES)[None] < 4
    own = torch.tensor([[True, False]])
    noise = BaseNoise.of(mixture((3.0, 1.0)), since, known, present, own)
    white, tokens = numbers(0, 1, FRAMES, RESIDUES, 1), torch.zeros(1, FRAMES, RESIDUES, 1)
    point = noise.point(white, known, tokens)
    assert torch.equal(point[:, :, 1], white[:, :, 1])
    assert torch.allclose(point[:, 4:, 0], white[:, 4:, 0])
    shorter = BaseNoise.of(mixture((3.0, 1.0)), since[:, :4], known[:, :4], None, own)
    alone = shorter.point(white[:, :4], known[:, :4], tokens[:, :4])
    assert torch.allclose(point[:, :4], alone, atol=1e-6)


def test_noise_moves_as_the_process_that_it_was_measured_on():
    """Of a relaxing walk, whitened frames are independent and of unit spread."""
    generator = np.random.default_rng(0)
    lag, relaxation, windows = 0.5, 4.0, 4000
    keep = np.exp(-lag / relaxation)
    x = [generator.normal(size=windows)]
    for _ in range(FRAMES - 1):
        x.append(keep * x[-1] + np.sqrt(1 - keep**2) * generator.normal(size=windows))
    walk = torch.tensor(np.stack(x, axis=1), dtype=torch.float32)
    change = walk - walk[:, :1]
    times = lag * torch.arange(FRAMES)
    std = change[:, 1:].std(dim=0)
    fitted = Relaxations.fit(times[1:], std[:, None], torch.tensor([True]))
    tokens = (change / torch.cat([torch.ones(1), std]))[:, :, None, None]
    known = known_frames(0).expand(windows, -1, -1)[:, :, :1]
    own = torch.ones(windows, 1, dtype=torch.bool)
    noise = BaseNoise.of(fitted, times.expand(windows, -1), known, None, own)
    white = noise.whitened(tokens)[:, 1:, 0, 0]
    found = torch.cov(white.T)
    assert (found.diagonal() - 1).abs().max() < 0.1
    assert (found - found.diagonal().diag()).abs().max() < 0.1
