"""Weights from label noise: the smallest variance, its floor, and what a fit gains by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from potential_molecules import TEMPERATURE_K, make_frames, write_dataset

from trajgen.data.records import BeadFrames
from trajgen.errors import InputError
from trajgen.geometry.internal import distances
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.fit import FitSettings, fit_potential
from trajgen.potential.force_labels import make_labels
from trajgen.potential.label_weights import inverse_variance_weights
from trajgen.potential.potential import Potential
from trajgen.potential.prior_fit import fit_priors
from trajgen.potential.priors import PriorSettings

CPU = torch.device("cpu")

variances = st.lists(st.floats(0.5, 4.0), min_size=2, max_size=8).map(np.array)


@given(variances, st.integers(0, 10_000))
def test_no_other_weights_give_a_mean_of_smaller_variance(variance, seed):
    weights = inverse_variance_weights(variance, np.ones_like(variance), 1e-6)
    other = np.random.default_rng(seed).uniform(0.1, 1, len(variance))

    def variance_of_mean(w: np.ndarray) -> float:
        return float((w**2 * variance).sum() / w.sum() ** 2)

    assert variance_of_mean(weights) <= variance_of_mean(other) * (1 + 1e-12)
    assert variance_of_mean(weights) == pytest.approx(1 / (1 / variance).sum())
    assert weights.mean() == pytest.approx(1)


def test_tiny_variances_count_as_the_floor():
    variance = np.array([1e-9, 1e-3, 1.0, 1.0, 2.0])
    weights = inverse_variance_weights(variance, np.ones(5), 0.1)
    np.testing.assert_allclose(weights / weights[2], [10, 10, 1, 1, 0.5])


def test_an_unknown_variance_is_what_the_priors_leave_over():
    variance = np.array([2.0, 2.0, 0.0, 0.0])
    residual_square = np.array([9e9, 9e9, 7.0, 9.0])
    weights = inverse_variance_weights(variance, residual_square, 0.1)
    np.testing.assert_allclose(weights / weights[0], [1, 1, 0.25, 0.25])
    np.testing.assert_array_equal(inverse_variance_weights(np.zeros(3), np.ones(3), 0.1), 1)


@pytest.mark.parametrize("floor", [0.0, 1.5])
def test_a_floor_out_of_range_is_refused(floor):
    with pytest.raises(InputError, match="floor is"):
        inverse_variance_weights(np.ones(2), np.ones(2), floor)


def two_groups(quiet: float, loud: float) -> tuple[BeadFrames, np.ndarray]:
    """Return tetrapeptides, every second one with loud forces, and the forces without noise."""
    frames = make_frames("GYDP", 400, seed=1)
    priors = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors
    ends = torch.tensor([[0, 3]])

    def energy(x: torch.Tensor) -> torch.Tensor:
        return priors(x) - 15 * torch.exp(-(((distances(x, ends)[:, 0] - 0.7) / 0.12) ** 2))

    _, true = energy_and_forces(energy, torch.from_numpy(frames.positions_nm).double())
    deviation = np.where(np.arange(400) % 2, loud, quiet)
    noise = np.random.default_rng(2).normal(size=true.shape) * deviation[:, None, None]
    forces = (true.numpy() + noise).astype(np.float32)
    return replace(frames, forces=forces, force_variance=deviation**2), true.numpy()


def test_labels_weigh_by_their_noise_beside_frame_weights():
    frames, _ = two_groups(5.0, 20.0)
    frames = replace(frames, weights=np.linspace(1, 2, 400))
    priors = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors
    both = make_labels(frames, priors, use_weights=True, variance_floor=1e-6).weights.numpy()
    expected = frames.weights / frames.force_variance
    np.testing.assert_allclose(both, expected / expected.mean(), rtol=1e-5)
    plain = make_labels(frames, priors, use_weights=False).weights.numpy()
    np.testing.assert_array_equal(plain, 1)


def test_a_fit_comes_nearer_to_the_true_forces_with_the_weights(tmp_path):
    frames, true = two_groups(10.0, 400.0)
    dataset = write_dataset(tmp_path / "data", frames)
    errors = {}
    for floor in (None, 0.01):
        training = {"steps": 250, "batch": 64, "learning_rate": 5e-3, "average_decay": 0.98,
                    "validation_fraction": 0.0, "variance_floor": floor}  # fmt: skip
        network = {"blocks": 1, "features": 16, "radial_functions": 12}
        settings = FitSettings.model_validate(
            {"network": network, "training": training, "prior_check": None, "ensemble": None}
        )
        out = fit_potential(dataset, tmp_path / str(floor), settings, seed=1, device=CPU)
        _, forces = Potential.load(out, CPU).energy_and_forces(
            torch.from_numpy(frames.positions_nm)
        )
        errors[floor] = float(np.square(forces.numpy() - true).mean())
    assert errors[0.01] < 0.5 * errors[None]
