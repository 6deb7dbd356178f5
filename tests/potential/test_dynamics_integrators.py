"""Integrators: exactness, order, temperature, conservation, reversal, and change of temperature."""

import numpy as np
import pytest
import torch
from potential_molecules import grow_chains

from trajgen.potential.dynamics.integrators import (
    Baoab,
    Integrator,
    LeimkuhlerMatthews,
    make_integrator,
)
from trajgen.potential.dynamics.settings import SimulationSettings
from trajgen.potential.energy import energy_and_forces

MASS, KT = 12.0, 2.9


def step(integrator: Integrator, x, carried, forces, noise, field) -> tuple:
    """Return positions, what is carried, and forces one step later."""
    x, carried = integrator.move(x, carried, forces, noise)
    forces = field(x)
    return x, integrator.kick(carried, forces), forces


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def oscillators(integrator: Integrator, stiffness: float, steps: int, chains: int) -> tuple:
    """Return positions and what is carried of harmonic beads after each step, from equilibrium."""
    generator = torch.Generator().manual_seed(1)
    x = normal(generator, chains, 10, 3) * (KT / stiffness) ** 0.5
    carried, forces = integrator.begin(normal(generator, *x.shape)), -stiffness * x
    xs, all_carried = [], []
    for _ in range(steps):
        noise = normal(generator, *x.shape)
        x, carried, forces = step(integrator, x, carried, forces, noise, lambda y: -stiffness * y)
        xs.append(x)
        all_carried.append(carried)
    return torch.stack(xs), torch.stack(all_carried)


def test_positions_of_an_oscillator_are_exact_and_velocities_as_predicted():
    # Leimkuhler and Matthews 2013: <x²> = kT/k at any step; <v²> = kT/m (1 - (ωh)²/4).
    stiffness, h = 1_200.0, 0.08
    integrator = Baoab(h, friction_per_ps=5.0, kT=KT, mass_amu=MASS)
    x, v = oscillators(integrator, stiffness, steps=400, chains=100)
    assert x.square().mean().item() == pytest.approx(KT / stiffness, rel=0.01)
    expected = KT / MASS * (1 - stiffness / MASS * h**2 / 4)  # 0.84 of equipartition
    assert v.square().mean().item() == pytest.approx(expected, rel=0.01)


def test_overdamped_positions_of_an_oscillator_are_exact_where_those_of_euler_are_not():
    # hk/(γm) = 0.8: Euler's method would give kT/k / (1 - 0.4).
    stiffness, friction = 1_200.0, 50.0
    h = 0.8 * friction * MASS / stiffness
    integrator = LeimkuhlerMatthews(h, friction, KT, MASS)
    x, _ = oscillators(integrator, stiffness, steps=300, chains=100)
    assert x[20:].square().mean().item() == pytest.approx(KT / stiffness, rel=0.01)


def test_free_overdamped_beads_diffuse_with_the_mobility():
    # <x²> = 2 kT t / (γm), after many steps.
    friction, h, steps = 50.0, 0.01, 200
    integrator = LeimkuhlerMatthews(h, friction, KT, MASS)
    generator = torch.Generator().manual_seed(3)
    x = torch.zeros(400, 10, 3, dtype=torch.float64)
    carried = integrator.begin(normal(generator, *x.shape))
    for _ in range(steps):
        noise = normal(generator, *x.shape)
        x, carried, _ = step(integrator, x, carried, 0 * x, noise, torch.zeros_like)
    expected = 2 * KT * h * steps / (friction * MASS)
    assert x.square().mean().item() == pytest.approx(expected, rel=0.04)


def test_a_step_without_noise_follows_the_force():
    x = torch.full((1, 1, 3), 0.1, dtype=torch.float64)
    none = torch.zeros_like(x)
    integrator = LeimkuhlerMatthews(0.01, 4.0, KT, MASS)
    moved, _ = integrator.move(x, none, -30.0 * x, none)
    torch.testing.assert_close(moved, x - 0.01 / (4.0 * MASS) * 30.0 * x)


def test_kinetic_energy_is_three_halves_kT_a_bead_at_a_small_step():
    integrator = Baoab(0.01, friction_per_ps=5.0, kT=KT, mass_amu=MASS)
    _, v = oscillators(integrator, stiffness=1_200.0, steps=300, chains=200)
    kinetic = torch.stack([integrator.kinetic_energy(frame) for frame in v])
    assert kinetic.mean().item() == pytest.approx(1.5 * 10 * KT, rel=0.01)


def test_velocities_are_taken_from_a_wrong_temperature_to_the_right_one():
    integrator = Baoab(0.01, friction_per_ps=10.0, kT=KT, mass_amu=MASS)
    x = v = forces = torch.zeros(200, 10, 3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    for _ in range(100):  # ten friction times
        x, v, forces = step(integrator, x, v, forces, normal(generator, *x.shape), torch.zeros_like)
    assert v.square().mean().item() == pytest.approx(KT / MASS, rel=0.05)


def test_without_friction_an_orbit_is_followed_to_second_order():
    stiffness, time = 1_200.0, 0.4
    omega = (stiffness / MASS) ** 0.5
    errors = []
    for steps in (40, 80):
        integrator = Baoab(time / steps, friction_per_ps=0.0, kT=KT, mass_amu=MASS)
        x = torch.full((1, 1, 3), 0.1, dtype=torch.float64)
        v, forces = torch.zeros_like(x), -stiffness * x
        for _ in range(steps):
            ones = torch.ones_like(x)
            x, v, forces = step(integrator, x, v, forces, ones, lambda y: -stiffness * y)
        errors.append((x - 0.1 * np.cos(omega * time)).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


def without_friction(potential, h: float, steps: int, v: torch.Tensor, x: torch.Tensor) -> tuple:
    """Return positions, velocities and total energies along a path at constant energy."""
    integrator = Baoab(h, friction_per_ps=0.0, kT=KT, mass_amu=MASS)

    def field(y: torch.Tensor) -> torch.Tensor:
        return energy_and_forces(potential, y)[1]

    forces, energies = field(x), []
    for _ in range(steps):
        x, v, forces = step(integrator, x, v, forces, torch.zeros_like(x), field)
        energies.append(potential.energy(x) + integrator.kinetic_energy(v))
    return x, v, torch.stack(energies)


def test_without_friction_the_energy_of_a_potential_is_kept_to_second_order(make_potential):
    potential = make_potential()
    start = torch.from_numpy(grow_chains(4, 6, seed=6))
    spreads = []
    for h, steps in ((0.002, 100), (0.001, 200)):
        *_, energies = without_friction(potential, h, steps, torch.zeros_like(start), start)
        spreads.append(energies.std(dim=0).mean().item())
    assert spreads[1] < 0.5  # kJ/mol, of tens that change hands
    assert spreads[0] / spreads[1] == pytest.approx(4, rel=0.3)


def test_without_friction_turned_velocities_lead_back_to_the_start(make_potential):
    potential = make_potential()
    start = torch.from_numpy(grow_chains(4, 6, seed=6))
    velocities = 0.5 * normal(torch.Generator().manual_seed(4), *start.shape)
    x, v, _ = without_friction(potential, 0.002, 150, velocities, start)
    assert (x - start).abs().max().item() > 0.02
    back, turned, _ = without_friction(potential, 0.002, 150, -v, x)
    torch.testing.assert_close(back, start, atol=1e-9, rtol=0)
    torch.testing.assert_close(-turned, velocities, atol=1e-7, rtol=0)


@pytest.mark.parametrize("scheme", [Baoab, LeimkuhlerMatthews])
def test_a_chain_from_another_temperature_goes_on_as_one_of_its_own(scheme):
    # Oscillators in equilibrium at kT, scaled to 1.5 kT as an exchange would bring them there:
    # what they carry must be that of an equilibrium at 1.5 kT, also jointly with the positions.
    stiffness, hot = 1_200.0, 1.5
    friction = 20.0
    old = scheme(0.1, friction, KT, MASS)
    new = scheme(0.1, friction, hot * KT, MASS)
    x, carried = (values[-1] for values in oscillators(old, stiffness, steps=60, chains=2_000))
    # Of a harmonic potential the frames at 1.5 kT with the density of those at kT are x itself.
    old_kT = torch.full((len(x), 1, 1), KT, dtype=torch.float64)
    moved = new.transfer(carried, -stiffness * x, old_kT)
    if scheme is Baoab:
        assert moved.square().mean().item() == pytest.approx(
            hot * carried.square().mean().item(), rel=1e-9
        )
        return
    # Mean of the noise at given x: R = -σF/kT + rest, whose variance no temperature changes.
    slope = (moved * x).mean() / x.square().mean()
    sigma = (0.5 * hot * KT * 0.1 / (friction * MASS)) ** 0.5
    assert slope.item() == pytest.approx(sigma * stiffness / (hot * KT), rel=0.02)
    before = carried - x * (carried * x).mean() / x.square().mean()
    torch.testing.assert_close((moved - slope * x).var(), before.var(), rtol=1e-6, atol=0)


def test_defaults_of_both_integrators_are_stable_for_thermal_bonds():
    stiffness = 72_000.0  # kJ/mol/nm², of 0.0064 nm at 350 K
    for name in ("langevin", "overdamped"):
        settings = SimulationSettings(integrator=name)
        share = settings.time_step_ps / settings.largest_stable_step_ps(stiffness)
        assert 0.1 < share < 0.5


@pytest.mark.parametrize("name", ["langevin", "overdamped"])
@pytest.mark.parametrize(("share", "stable"), [(0.95, True), (1.05, False)])
def test_the_largest_stable_step_is_where_a_long_chain_of_springs_comes_apart(name, share, stable):
    stiffness, beads = 1_000.0, 60
    settings = SimulationSettings(
        integrator=name, friction_per_ps=1e-6 if name == "langevin" else 5
    )
    h = share * settings.largest_stable_step_ps(stiffness)
    integrator = make_integrator(settings.model_copy(update={"time_step_ps": h}), 1e-12)

    def field(x: torch.Tensor) -> torch.Tensor:
        pull = stiffness * x.diff(dim=1)
        none = torch.zeros_like(x[:, :1])
        return torch.cat([pull, none], dim=1) - torch.cat([none, pull], dim=1)

    x = 1e-3 * normal(torch.Generator().manual_seed(5), 1, beads, 3)
    x = x - x.mean(dim=1, keepdim=True)
    carried, forces, zero = torch.zeros_like(x), field(x), torch.zeros_like(x)
    for _ in range(1_500):
        x, carried, forces = step(integrator, x, carried, forces, zero, field)
    assert (x.abs().max().item() < 0.1) == stable
