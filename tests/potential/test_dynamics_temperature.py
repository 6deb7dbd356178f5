"""Temperatures that are measured, and warnings of those that are off."""

import numpy as np
import pytest
import torch
from dynamics_fields import K_B, PairField, Poisoned, pair_starts
from potential_molecules import TEMPERATURE_K, grow_chains, make_frames, without_network

from trajgen.potential.dynamics import simulation as loop
from trajgen.potential.dynamics.outcome import log_outcome, report_of
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.dynamics.simulate import simulate
from trajgen.potential.dynamics.simulation import Simulation
from trajgen.potential.dynamics.temperature import MEASURED_EVERY, MeanTemperature, stretching
from trajgen.potential.dynamics.time_step import warn_after
from trajgen.progress import ProgressTask

CPU = torch.device("cpu")


def finished(potential, starts: np.ndarray, settings: SimulationSettings) -> Simulation:
    """Return a simulation at its end, of which nothing was said yet."""
    simulation = Simulation(potential, starts, settings, seed=4)
    for _ in simulation.run(ProgressTask()):
        pass
    return simulation


# --- measures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reference_nm", [0.38, 0.3, 0.0])
def test_the_temperature_of_a_bond_is_that_of_its_density_for_any_reference(reference_nm):
    k, r0, kT = 40_000.0, 0.38, K_B * TEMPERATURE_K
    grid = np.linspace(r0 - 0.06, r0 + 0.06, 20_001)
    weights = grid**2 * np.exp(-0.5 * k * (grid - r0) ** 2 / kT)
    generator = np.random.default_rng(1)
    r = grid[np.searchsorted(weights.cumsum() / weights.sum(), generator.random(400_000))]
    u = generator.normal(size=(len(r), 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    positions = torch.from_numpy(np.stack([0.3 * u, (0.3 + r[:, None]) * u], axis=1))
    pull = torch.from_numpy(k * (r - r0)[:, None] * u)
    pairs, lengths = torch.tensor([[0, 1]]), torch.tensor([reference_nm], dtype=torch.float64)
    energies, degrees = stretching(positions, torch.stack([pull, -pull], dim=1), pairs, lengths)
    if reference_nm == r0:
        np.testing.assert_allclose(energies.numpy(), k * (r - r0) ** 2, rtol=1e-9, atol=1e-12)
    error = (energies - kT * degrees).std().item() / len(r) ** 0.5
    assert abs((energies - kT * degrees).mean().item()) < 4 * error
    assert error < 0.03 * kT * degrees.mean().item()


def test_the_error_of_the_temperature_is_that_of_independent_samples():
    chains, freedom, times, kT = 50, 18.0, 10, K_B * 300.0
    kinetic = 0.5 * kT * np.random.default_rng(1).chisquare(freedom, size=(400, times, chains))
    means = []
    for run in kinetic:
        temperature = MeanTemperature(chains, CPU)
        for energies in run:
            alive = torch.ones(chains, dtype=torch.bool)
            temperature.add(2 * torch.from_numpy(energies), freedom, alive)
        means += temperature.measured_K(1)
    assert np.mean(means) == pytest.approx(300.0, rel=0.003)
    expected = temperature.relative_error(interval_ps=10.0, rate_per_ps=1.0, rungs=1)
    assert np.std(means) / 300.0 == pytest.approx(expected, rel=0.1)
    # Measurements that follow each other within the time of memory are one for each chain.
    assert temperature.relative_error(0.01, 1.0, 1) == pytest.approx(expected * times**0.5)


def test_a_chain_that_broke_counts_no_more():
    temperature = MeanTemperature(3, CPU)
    assert temperature.measured_K(1) == [None]
    assert temperature.relative_error(1.0, 1.0, 1) == np.inf
    whole = torch.ones(3, dtype=torch.bool)
    hot = torch.tensor([1.0, 1e9, 2.0])
    temperature.add(hot, 1.0, whole)
    temperature.add(hot, 1.0, torch.tensor([True, False, True]))
    temperature.add(torch.tensor([1.0, 1.0, np.nan]), 1.0, whole)
    assert temperature.counts.tolist() == [3, 1, 0]
    assert temperature.measured_K(1) == [pytest.approx(1.0 / K_B)]


@pytest.mark.parametrize("integrator", ["langevin", "overdamped"])
def test_the_second_half_is_measured_however_few_frames_are_saved(make_potential, integrator):
    potential = without_network(make_potential().float())
    settings = SimulationSettings(steps=1_000, save_every=1_000, integrator=integrator)
    starts = make_frames("GYDPET", 40, seed=3).positions_nm
    simulation = finished(potential, starts, settings)
    thermometer = simulation.thermometer
    times = 500 // MEASURED_EVERY
    assert thermometer.configurational.counts.tolist() == [times] * 40
    assert thermometer.kinetic.counts.tolist() == [times * (integrator == "langevin")] * 40
    report = report_of(simulation)
    measured = report["configurational_temperature_K"]
    error = thermometer.relative_errors(1)[1]
    assert error < 0.08
    assert abs(measured / TEMPERATURE_K - 1) < 4 * error
    if integrator == "langevin":
        assert report["kinetic_temperature_K"] == pytest.approx(TEMPERATURE_K, rel=0.12)
    else:
        assert report["kinetic_temperature_K"] is None


# --- warnings ----------------------------------------------------------------------------------


def test_the_temperature_of_the_data_asked_for_by_name_does_not_warn(make_potential, caplog):
    settings = SimulationSettings(steps=10, save_every=10, temperature_K=TEMPERATURE_K)
    starts = grow_chains(2, 6, seed=1).astype(np.float32)
    simulate(make_potential().float(), starts, settings, seed=1)
    assert caplog.text == ""


@pytest.mark.parametrize("lost", [0, 1])
def test_a_time_step_that_is_too_large_warns_with_the_measured_value(
    make_potential, monkeypatch, caplog, lost
):
    # Two beads on a spring: three of six degrees of freedom move with ω = sqrt(2k/m), and their
    # kinetic temperature reads low by (ωh)²/4.
    stiffness, omega_h = 4_000.0, 1.2
    field = PairField(barrier=0.0, stiffness=stiffness)
    if lost:
        field = Poisoned(field, chain=7, evaluation=390, force=1e9)
    monkeypatch.setattr(loop, "force_field", lambda potential: field)
    h = omega_h / (2 * stiffness / 12.0) ** 0.5
    settings = SimulationSettings(steps=400, save_every=10, friction_per_ps=2.0, time_step_ps=h)
    simulation = finished(make_potential("GY"), pair_starts(500, np.zeros(500)), settings)
    assert "the stiffest bond allows 0.0126 at most" in caplog.text
    assert int((~simulation.state.alive).sum()) == lost
    (measured,) = simulation.thermometer.kinetic.measured_K(1)
    assert measured == pytest.approx(TEMPERATURE_K * (1 - omega_h**2 / 8), rel=0.02)
    caplog.clear()
    log_outcome(simulation)
    assert f"the kinetic temperature is {measured:.4g} K where 350 K is wanted" in caplog.text


def test_a_short_run_near_the_limit_warns(make_potential, caplog):
    potential = without_network(make_potential("YYDPETGTWY").float())
    stiffest = float(potential.priors.bond.stiffness.max())
    h = 0.96 * SimulationSettings().largest_stable_step_ps(stiffest)
    settings = SimulationSettings(steps=1_000, save_every=100, time_step_ps=h)
    starts = make_frames("YYDPETGTWY", 32, seed=3).positions_nm
    simulation = finished(potential, starts, settings)
    caplog.clear()
    log_outcome(simulation)
    assert "the kinetic temperature is" in caplog.text


def test_overdamped_chains_that_grow_hot_without_breaking_warn(make_potential, caplog):
    potential = without_network(make_potential().float())
    stiffest = float(potential.priors.bond.stiffness.max())
    usual = SimulationSettings(integrator="overdamped", steps=1_000, save_every=100)
    starts = make_frames("GYDPET", 32, seed=3).positions_nm
    for share, warns in ((0.6, False), (2.0, True)):
        h = share * usual.largest_stable_step_ps(stiffest)
        settings = usual.model_copy(update={"time_step_ps": h})
        simulation = finished(potential, starts, settings)
        assert simulation.state.alive.all()
        caplog.clear()
        log_outcome(simulation)
        measured = report_of(simulation)["configurational_temperature_K"]
        told = f"the configurational temperature is {measured:.4g} K where 350 K is wanted"
        assert (told in caplog.text) == warns
        assert (measured > 2 * TEMPERATURE_K) == warns


@pytest.mark.parametrize(
    ("measured_K", "error", "warns"),
    [
        (350.0, 0.001, False), (335.0, 0.001, False), (320.0, 0.001, True), (380.0, 0.001, True),
        (320.0, 0.02, True), (320.0, 0.025, False), (None, 0.001, False), (np.nan, 0.001, True),
    ],
)  # fmt: skip
def test_a_temperature_warns_beyond_tolerance_and_four_errors(caplog, measured_K, error, warns):
    warn_after("kinetic", 350.0, measured_K, error)
    assert ("kinetic temperature" in caplog.text) == warns
