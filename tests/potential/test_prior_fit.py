"""Boltzmann inversion: known densities give their parameters back; poor data give defaults."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from potential_molecules import TEMPERATURE_K, make_frames
from scipy.optimize import minimize

from trajgen.data.records import BeadFrames
from trajgen.data.topology import BeadTopology
from trajgen.potential import prior_fit
from trajgen.potential.prior_fit import (
    effective_frames,
    fit_angle,
    fit_bond,
    fit_dihedrals,
    fit_priors,
    fit_repulsion,
    maximise_likelihood,
)
from trajgen.potential.priors import PriorSettings
from trajgen.residues import parse_sequence

THERMAL = 8.31446261815324e-3 * TEMPERATURE_K
N = 40_000


def draw(log_density, low: float, high: float, n: int, seed: int) -> np.ndarray:
    """Draw from a density by inverting its cumulative sum on a fine grid."""
    grid = np.linspace(low, high, 200_001)
    density = np.exp(log_density(grid) - log_density(grid).max())
    cumulative = np.cumsum(density)
    return np.interp(np.random.default_rng(seed).uniform(0, cumulative[-1], n), cumulative, grid)


def test_soft_bond_is_recovered_with_its_jacobian():
    # At this softness a fit without r² would put the length 2 kT/(k r) = 0.012 nm too far out.
    k, r0 = 1_200.0, 0.40
    r = draw(lambda r: 2 * np.log(r) - 0.5 * k * (r - r0) ** 2 / THERMAL, 1e-4, 0.8, N, 1)
    stiffness, length = fit_bond(r, np.ones(N), THERMAL)
    assert stiffness == pytest.approx(k, rel=0.03)
    assert length == pytest.approx(r0, abs=0.002)


def test_the_bond_of_two_backbone_atoms_is_as_stiff_as_its_frames():
    k, r0 = 400_000.0, 0.133
    r = draw(lambda r: 2 * np.log(r) - 0.5 * k * (r - r0) ** 2 / THERMAL, 0.1, 0.17, N, 1)
    stiffness, _ = fit_bond(r, np.ones(N), THERMAL)
    assert stiffness == pytest.approx(k, rel=0.03)


def test_angle_is_recovered_from_angles_drawn_with_their_sine():
    k, u0 = 12.0, -0.6  # wide: the limit of the cosine at -1 cuts the density
    theta = draw(
        lambda t: np.log(np.sin(t)) - 0.5 * k * (np.cos(t) - u0) ** 2 / THERMAL,
        1e-6,
        np.pi - 1e-6,
        N,
        2,
    )
    stiffness, centre = fit_angle(np.cos(theta), np.ones(N), THERMAL)
    assert stiffness == pytest.approx(k, rel=0.08)
    assert centre == pytest.approx(u0, abs=0.02)


def test_dihedrals_are_recovered_with_their_handedness():
    amplitude = np.array([[2.0, 1.0], [0.5, 3.0]])
    phase = np.array([[0.9, -1.7], [-2.5, 2.0]])
    n = np.array([1, 2])

    def log_density(term):
        return lambda phi: (
            -(amplitude[term] * np.cos(n * phi[:, None] - phase[term])).sum(axis=1) / THERMAL
        )

    phi = np.stack([draw(log_density(t), -np.pi, np.pi, N, t) for t in (0, 1)], axis=1)
    fitted = fit_dihedrals(phi, np.ones(N), THERMAL, shrinkage=0.0)
    for term in (0, 1):
        np.testing.assert_allclose(fitted[term][0], amplitude[term], atol=0.08)
        turned = np.exp(1j * (fitted[term][1] - phase[term]))
        np.testing.assert_allclose(turned, 1, atol=0.06)


def test_mirrored_dihedrals_give_the_mirrored_prior():
    phi = np.random.default_rng(4).vonmises(0.8, 2.0, (500, 3))
    plain = fit_dihedrals(phi, np.ones(500), THERMAL, 0.05)
    mirrored = fit_dihedrals(-phi, np.ones(500), THERMAL, 0.05)
    for (amplitude, phase), (amplitude_m, phase_m) in zip(plain, mirrored, strict=True):
        np.testing.assert_allclose(amplitude_m, amplitude, rtol=1e-6)
        np.testing.assert_allclose(np.exp(1j * phase_m), np.exp(-1j * phase), atol=1e-6)


def test_dihedral_that_never_moved_stays_weak_and_a_free_one_is_hardly_shrunk():
    rng = np.random.default_rng(5)
    free = rng.vonmises(1.0, 1.0, (4_000, 1))
    frozen = np.full((4_000, 1), 0.3)
    plain = fit_dihedrals(free, np.ones(4_000), THERMAL, 0.0)[0][0]
    shrunk = fit_dihedrals(free, np.ones(4_000), THERMAL, 0.05)[0][0]
    assert shrunk[0] == pytest.approx(plain[0], rel=0.2)
    stuck = fit_dihedrals(frozen, np.ones(4_000), THERMAL, 0.05)[0][0]
    assert stuck.max() < 6 * THERMAL
    assert fit_dihedrals(frozen, np.ones(4_000), THERMAL, 0.0) == [None]


def test_repulsion_is_recovered_with_its_jacobian():
    sigma = 0.48
    r = draw(lambda r: 2 * np.log(r) - (sigma / r) ** 6, 0.25, 0.7, N, 6)
    assert fit_repulsion(r, np.ones(N), 20.0) == pytest.approx(sigma, abs=0.01)


def test_weights_stand_for_repeated_frames():
    rng = np.random.default_rng(7)
    r = rng.normal(0.38, 0.006, 200)
    repeats = rng.integers(0, 5, 200)
    weighted = fit_bond(r, repeats.astype(float), THERMAL)
    repeated = fit_bond(np.repeat(r, repeats), np.ones(repeats.sum()), THERMAL)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-6)


def test_newton_agrees_with_a_general_optimiser():
    grid = np.linspace(0.2, 1.0, 400)
    features = np.stack([np.sin(5 * grid), grid**2, np.exp(-grid)])
    measure = 2 * np.log(grid)
    moments = features @ np.full(400, 1 / 400)
    own = maximise_likelihood(features, measure, moments, 0.1, np.array([0.3, -0.2, 0.1]))

    def loss(at):
        log_z = np.log(np.exp(measure + at @ features).sum())
        return log_z - at @ moments + 0.05 * ((at - [0.3, -0.2, 0.1]) ** 2).sum()

    reference = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(own, reference.x, atol=1e-5)


def test_effective_frames_is_the_number_for_equal_weights_and_one_for_a_single_one():
    assert effective_frames(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_frames(np.array([0.0, 5.0, 0.0])) == pytest.approx(1)
    assert effective_frames(np.zeros(3)) == 0


def test_frames_without_enough_data_give_the_defaults_and_say_so(caplog):
    frames = make_frames("GYDPE", 3, seed=1)
    with caplog.at_level("WARNING"):
        fitted = fit_priors(frames, TEMPERATURE_K, PriorSettings())
    priors = fitted.priors
    assert (priors.bond.stiffness == prior_fit.DEFAULT_BOND_STIFFNESS).all()
    assert (priors.bond.length_nm == prior_fit.DEFAULT_BOND_NM).all()
    assert (priors.angle.cosine == prior_fit.DEFAULT_ANGLE_COSINE).all()
    assert priors.dihedral.amplitude.tolist() == [list(prior_fit.DEFAULT_DIHEDRAL_AMPLITUDE)] * 2
    assert (priors.repulsion.sigma_nm == prior_fit.DEFAULT_SIGMA_NM).all()
    assert len(fitted.notes) == 4
    for kind in ("bonds 0-1, 1-2", "angles 0-1-2", "dihedrals 0-1-2-3", "repulsion"):
        assert any(kind in note for note in fitted.notes)
        assert kind in caplog.text


@settings(max_examples=40, deadline=None)
@given(
    values=arrays(np.float64, 30, elements=st.floats(-1, 1, allow_nan=False)),
    weights=arrays(np.float64, 30, elements=st.floats(0, 10)),
)
def test_stiffness_is_never_negative_nor_nan(values, weights):
    weights = weights + 1e-3
    for fitted in (
        fit_angle(values, weights, THERMAL),
        fit_bond(np.abs(values) + 0.01, weights, THERMAL),
    ):
        if fitted is not None:
            assert np.isfinite(fitted).all()
            assert fitted[0] > 0
    for series in fit_dihedrals(np.pi * values[:, None], weights, THERMAL, 0.05):
        assert np.isfinite(series).all()
        assert (series[0] >= 0).all()
        assert series[0].max() < 10 * THERMAL
    sigma = fit_repulsion(0.3 + 0.3 * np.abs(values), weights, 2.0)
    assert sigma is None or 0.35 < sigma < 0.65


@settings(max_examples=20, deadline=None)
@given(
    positions=arrays(np.float32, (25, 5, 3), elements=st.floats(-2, 2, allow_nan=False, width=16)),
    weights=arrays(np.float64, 25, elements=st.floats(0, 1)),
)
def test_priors_of_any_frames_are_finite_with_positive_stiffness(positions, weights):
    frames = BeadFrames(
        topology=BeadTopology.from_residues(parse_sequence("GYDPE")),
        positions_nm=positions,
        segments=np.zeros(25, dtype=np.int64),
        weights=weights,
    )
    priors = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors
    for name, value in priors.state_dict().items():
        assert torch.isfinite(value).all(), name
    assert priors.bond.stiffness.min() > 0
    assert priors.angle.stiffness.min() > 0
    assert priors.bond.length_nm.min() > 0
    assert priors.dihedral.amplitude.min() >= 0


def test_chignolin_priors_agree_with_the_published_ones(shared_data):
    folder = shared_data / "chignolin_ca_forces"
    frames = BeadFrames(
        topology=BeadTopology.from_residues(parse_sequence("YYDPETGTWY")),
        positions_nm=np.load(folder / "chignolin_ca_coords_first13000.npy") / 10,
        segments=np.load(folder / "trajectory_id_first13000.npy").astype(np.int64),
    )
    fitted = fit_priors(frames.take(slice(0, 400)), 350.0, PriorSettings())
    assert fitted.notes == ()
    # Published by the authors of the data, from all of them, in angstrom and kcal/mol without ½.
    length = [3.8300, 3.8274, 3.8714, 3.8345, 3.8424, 3.8294, 3.8294, 3.8268, 3.8333]
    stiffness = [82.97, 83.24, 78.01, 85.07, 84.41, 78.88, 78.88, 80.06, 84.04]
    bond = fitted.priors.bond
    np.testing.assert_allclose(bond.length_nm.numpy() * 10, length, atol=0.02)
    np.testing.assert_allclose(bond.stiffness.numpy() / 2 / 418.4, stiffness, rtol=0.25)
